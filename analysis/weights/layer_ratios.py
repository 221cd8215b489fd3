"""How would pruning methods share one overall density out among the layers, and what has the checkpoint?

1. Each matrix, stack of matrices and convolution is read once, in slices; its magnitudes are counted by key (tied ones once).
2. Where a key holds different magnitudes, those at the global thresholds are read again, so that global counts are exact.
3. Per overall density and method: the density of each tensor, which tensors collapse, which the floor repairs.
4. Totals: what was reached, and how far the checkpoint's own densities are from each method's.

Methods are ratios only: nothing is pruned here, and random pruning at a ratio differs from it by chance.
Sources: METHODS A2 (global magnitude and its floor), A3 (uniform, uniform+, ER, ERK), A6 (LAMP).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.spec import Analysis, Figure, Source, setting
from analysis.weights.layer_ratios_figures import FIGURES
from analysis.weights.layer_ratios_tables import RATIO_ROWS, RATIO_TENSORS, RATIO_TOTALS, TABLES
from analysis.weights.values import notes_of, refusal
from analysis.weights.weight_sparsity import role_of

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Overall densities that are always computed, beside the setting and the checkpoint's own."""
PRUNED = 0.99
"""A checkpoint whose matrices have less than this density is taken as pruned: figures show its own density."""
SLICE = 1 << 22
"""Weights per slice."""
MEMORY = 10**9
"""Bytes beside Python and its libraries: a slice with its keys, and counts of at most 2^19 keys per tensor."""


@dataclass(frozen=True, kw_only=True)
class LayerRatiosConfig:
    """Settings of `layer_ratios`."""

    density: float = setting(
        0.5, help="Overall density the figures show, unless the checkpoint is pruned and has its own", unit="share", ge=0.0, le=1.0
    )
    floor_percent: float = setting(
        0.05, help="Least weights every tensor keeps under global_floor, of all weights", unit="per cent", ge=0.0, le=100.0
    )
    erk_power: float = setting(1.0, help="Exponent of the ERK ratio: 0 is uniform", ge=0.0, le=10.0)
    embeddings: bool = setting(False, help="Whether embeddings and unembeddings share out, too")


def needs(subject: Any) -> str | None:
    """Something must share out."""
    if (why := refusal(subject)) is not None or any(len(t.shape) >= 2 and t.numel for t in subject.tensors()):
        return why
    return f"{subject.label} has no weights with two or more axes, so there is nothing to share out; give a checkpoint with matrices."


def run(config: LayerRatiosConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the three tables; a unit per tensor, twice where magnitudes are wide."""
    tensors = _in_scope(inputs["model"], config.embeddings)
    for name in work.units(list(tensors), what="tensors"):
        counted = count_tensor(tensors[name])
        yield "ratio_tensors", _tensor_row(tensors[name], counted)
        work.save_state({"keys": counted.keys, "counts": counted.counts, "facts": _facts(counted)})
    counts = {name: _restored(state) for name, state in work.states("tensors")}
    counts = {name: counts[name] for name in tensors}
    n = sum(one.n_weights for one in counts.values())
    own = 1.0 - sum(one.n_zero for one in counts.values()) / n
    shown = own if own < PRUNED else config.density
    levels = sorted({*LEVELS, config.density, own})
    thresholds = _thresholds(counts, levels)
    wide = [name for name, one in counts.items() if not one.exact]
    for name in work.units(wide, what="thresholds"):
        work.save_state(_at_thresholds(tensors[name], set(thresholds.values())))
    work.facts |= {
        "scope": f"matrices, {'embeddings among them, ' if config.embeddings else 'embeddings left out, '}tied ones once; vectors left out",
        "shown_density": shown,
        "own_density": own,
        "n_tensors": len(counts),
        "n_weights": n,
        "values": notes_of(inputs["model"], list(tensors.values())),
    }
    layers = Layers(tensors, counts, thresholds, dict(work.states("thresholds")), config)
    for level in levels:
        yield from _at_level(layers, level, shown)


@dataclass(frozen=True)
class Layers:
    """All tensors in scope, with what the magnitude methods need."""

    tensors: Mapping[str, Any]
    counts: Mapping[str, Any]
    thresholds: Mapping[float, int]
    """Key of the global threshold by overall density."""
    found: Mapping[str, Mapping[str, Any]]
    """Magnitudes of those keys, by tensor: of wide types only."""
    config: LayerRatiosConfig

    def densities(self, level: float, method: str) -> Any:
        """Densities [tensors] under a method; raises `Infeasible`."""
        import numpy as np

        from analysis.stats.ratios import SHAPE_METHODS, densities, magnitude_kept

        sizes = np.array([one.n_weights for one in self.counts.values()])
        if method in SHAPE_METHODS:
            shapes = [matrix_sizes(t) for t in self.tensors.values()]
            return densities(shapes, level, method, sizes=sizes, power=self.config.erk_power)
        ranked = [self._ranked(name, level, method) for name in self.counts]
        return magnitude_kept(ranked, level, method, floor_percent=self.config.floor_percent) / sizes

    def _ranked(self, name: str, level: float, method: str) -> Any:
        from analysis.stats.ratios import Magnitudes

        one, key = self.counts[name], self.thresholds[level]
        if method == "lamp" or name not in self.found:
            return one.magnitudes()
        state = self.found[name]
        return one.split_at(key, Magnitudes(state[f"values{key}"], state[f"counts{key}"]))


def _in_scope(subject: Any, embeddings: bool) -> dict[str, Any]:
    """Tensors with two or more axes; without embeddings, unless there is nothing else."""
    every = {t.name: t for t in subject.tensors() if len(t.shape) >= 2 and t.numel}
    inner = {name: t for name, t in every.items() if t.kind not in ("embedding", "unembedding", "norm")}
    return every if embeddings or not inner else inner


def matrix_sizes(tensor: Any) -> tuple[int, ...]:
    """Sizes of the axes of one matrix: [E, o, i] of stacked experts is [o, i]; a convolution keeps its kernel."""
    return tensor.shape[1:] if tensor.stacked else tensor.shape


def count_tensor(tensor: Any) -> Any:
    """Its magnitudes by key, read in slices."""
    from analysis.stats.magnitudes import MagnitudeCounts

    return MagnitudeCounts.of_slices(_slices(tensor))


def _slices(tensor: Any) -> Iterator[Any]:
    return tensor.read_slices(max(1, SLICE * tensor.shape[0] // tensor.numel))


def _facts(counted: Any) -> Any:
    import numpy as np

    return np.array([counted.n_nonfinite, counted.exact, counted.n_tiny], np.int64)


def _restored(state: Mapping[str, Any]) -> Any:
    from analysis.stats.magnitudes import MagnitudeCounts

    n_nonfinite, exact, n_tiny = state["facts"].tolist()
    return MagnitudeCounts(state["keys"], state["counts"], n_nonfinite, bool(exact), n_tiny)


def _thresholds(counts: Mapping[str, Any], levels: Sequence[float]) -> dict[float, int]:
    from analysis.stats.magnitudes import threshold_keys
    from analysis.stats.ratios import n_removed

    n = sum(one.n_weights for one in counts.values())
    return dict(zip(levels, threshold_keys(counts.values(), [n_removed(n, level) for level in levels])))


def _at_thresholds(tensor: Any, keys: set[int]) -> dict[str, Any]:
    """Every magnitude of some keys, and how often it is there."""
    from analysis.stats.magnitudes import inside

    arrays = {}
    for key, found in inside(_slices(tensor), keys).items():
        arrays |= {f"values{key}": found.values, f"counts{key}": found.counts}
    return arrays


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def _tensor_row(tensor: Any, counted: Any) -> dict[str, list[Any]]:
    values = (
        tensor.name, tensor.layer, tensor.kind, role_of(tensor), list(matrix_sizes(tensor)), tensor.shape[0] if tensor.stacked else 1,
        counted.n_weights, counted.n_zero, 1.0 - counted.n_zero / counted.n_weights, counted.exact,
    )  # fmt: skip
    return {column.name: [value] for column, value in zip(RATIO_TENSORS.columns, values, strict=True)}


def _at_level(layers: Layers, level: float, shown: float) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Rows of all methods at one overall density."""
    import numpy as np

    from analysis.stats.ratios import MAGNITUDE_METHODS, SHAPE_METHODS, Infeasible, floor_weights

    sizes = np.array([one.n_weights for one in layers.counts.values()])
    least = floor_weights(int(sizes.sum()), layers.config.floor_percent)
    unaided = layers.densities(level, "global")
    for method in (*SHAPE_METHODS, *MAGNITUDE_METHODS):
        floored = method == "global_floor"
        try:
            found = layers.densities(level, method)
        except Infeasible as reason:
            yield "ratio_totals", _totals(layers, level, method, shown, least if floored else None, None, None, str(reason))
            continue
        repaired = (unaided * sizes < np.minimum(least, sizes) - 0.5) & floored
        yield "layer_ratios", _rows(layers, level, method, found, repaired)
        yield "ratio_totals", _totals(layers, level, method, shown, least if floored else None, found, repaired, None)


def _rows(layers: Layers, level: float, method: str, found: Any, repaired: Any) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {c.name: [] for c in RATIO_ROWS.columns}
    for (name, tensor), density, lifted in zip(layers.tensors.items(), found.tolist(), repaired.tolist()):
        one = layers.counts[name]
        values = (
            level, method, name, tensor.layer, role_of(tensor), one.n_weights, min(1.0, density), 1.0 - one.n_zero / one.n_weights,
            is_empty(density, one.n_weights), lifted,
        )  # fmt: skip
        for column, value in zip(rows, values, strict=True):
            rows[column].append(value)
    return rows


def is_empty(density: float, n: int) -> bool:
    """Whether less than one of n weights is kept."""
    return density * n < 1 - 1e-9


def _totals(
    layers: Layers, level: float, method: str, shown: float, least: int | None, found: Any, repaired: Any, infeasible: str | None
) -> dict[str, list[Any]]:
    import numpy as np

    from analysis.stats.ratios import distance

    sizes = np.array([one.n_weights for one in layers.counts.values()])
    own = 1.0 - np.array([one.n_zero for one in layers.counts.values()]) / sizes
    known = infeasible is None
    values = (
        level, method, level == shown, len(sizes), int(sizes.sum()),
        float((found * sizes).sum() / sizes.sum()) if known else None,
        float(found.min()) if known else None,
        sum(is_empty(d, n) for d, n in zip(found.tolist(), sizes.tolist())) if known else None,
        int(repaired.sum()) if known else None,
        least,
        distance(own, found, sizes) if known else None,
        method != "lamp" or all(one.exact for one in layers.counts.values()),
        infeasible,
    )  # fmt: skip
    return {column.name: [value] for column, value in zip(RATIO_TOTALS.columns, values, strict=True)}


LAYER_RATIOS = Analysis(
    slug="layer_ratios",
    title="Layer ratios",
    question="How would pruning methods share one overall density out among the layers, and what does the checkpoint have?",
    version=2,
    kind="static",
    sources=(
        Source("The Unreasonable Effectiveness of Random Pruning", "Liu et al., ICLR 2022 (uniform, uniform+, ER, ERK)", "C"),
        Source("Is Complexity Required for Neural Network Pruning?", "Gupta et al. 2022, arXiv 2209.14624 (global, global_floor)", "C"),
        Source("Layer-adaptive Sparsity for the Magnitude-based Pruning", "Lee et al., ICLR 2021, arXiv 2010.07611 (lamp)", "C"),
    ),
    config=LayerRatiosConfig,
    tables=TABLES,
    run=run,
    figures=tuple(Figure(*figure) for figure in FIGURES),
    needs=needs,
    memory=lambda config, facts: MEMORY,
)
