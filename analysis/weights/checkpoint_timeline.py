"""How did the weights change over a series of checkpoints: when did they become sparse, how fast, in which phases?

1. One threshold for the whole series: the magnitude below which the chosen share of the last checkpoint's matrices lies (METHODS A1).
2. Checkpoint by checkpoint, one tensor at a time beside the same tensor of the checkpoint before: zeros, near zeros, weights below the
   threshold, norms, PQ Index, what changed and how alike the two are; and, as `weight_sparsity` has them, groups of N of M, tiles, dead
   rows and columns, concentration, and what each matrix is pruned to; of matrices that are not too wide, ranks and outliers as
   `weight_spectrum` has them.
3. Over the series: the largest jump of each share, the deviation from the cubic pruning schedule (A4), phases of the PQ Index (A12), and
   the step at which each matrix changed its structure.

What is as large as a run of one checkpoint is left out, and that is said (`LEFT_OUT`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.spec import Analysis, Figure, Headline, IncompatibleSubject, Source, Summaries, setting
from analysis.stats.threads import one_thread
from analysis.weights import checkpoint_timeline_figures as figures
from analysis.weights.checkpoint_timeline_findings import findings
from analysis.weights.checkpoint_timeline_measuring import Level, measure, quantile
from analysis.weights.checkpoint_timeline_structure import ScopeSums, look, measure_rows, structure_row
from analysis.weights.checkpoint_timeline_tables import TABLES, TENSORS
from analysis.weights.values import notes_of, refusal
from analysis.weights.weight_sparsity import role_of

ALL, MATRICES = "all weights", "matrices"
LEFT_OUT = (
    "Left out at every step, for their size: histograms, profiles of rows and columns, dead lines one by one, curves of singular values, "
    "factorisations, scales of norms and layer ratios; ask weight_sparsity, weight_spectrum or layer_ratios of one checkpoint."
)
_LIKENESS = ("relative_change", "mask_overlap", "mask_chance", "cosine", "norm_ratio")
"""Numbers of `comparing.PairSums` that are columns of the same name."""
MEMORY = 10**9
"""Bytes beside Python and its libraries: slices of a tensor and of the one before, and the rows of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CheckpointTimelineConfig:
    """Settings of `checkpoint_timeline`."""

    level: float = setting(
        0.5,
        help="The threshold is the magnitude below which this share of the last checkpoint's weights lies",
        unit="share",
        ge=0.01,
        le=0.99,
    )
    near: float = setting(
        1e-3, help="A weight is near zero up to this share of its tensor's root mean square", unit="x rms", ge=0.0, le=1.0
    )
    phase_tolerance: float = setting(0.01, help="Moves of the PQ Index up to this size are no turn of a phase", ge=0.0, le=1.0)
    rank_side: int = setting(
        1024,
        help="Ranks and outliers of matrices whose shorter side is at most this, which takes longer than all else; 0 for none",
        unit="rows or columns",
        ge=0,
        le=1 << 14,
    )


def run(config: CheckpointTimelineConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables; a unit for the threshold, and one per checkpoint."""
    import numpy as np

    series = inputs["model"].series
    last = _tensors(series[-1]).values()
    has_blocks = any(_in_block(tensor) for tensor in last)
    for _ in work.units(["last checkpoint"], what="threshold"):
        threshold = _threshold(series[-1], has_blocks, config.level)
        work.save_state({"threshold": np.array([threshold])})
    threshold = float(next(state["threshold"][0] for _, state in work.states("threshold")))
    places = {str(one.step): place for place, one in enumerate(series)}
    for name in work.units(list(places), what="checkpoints"):
        place = places[name]
        taken = _Checkpoint(config, series[place].step, has_blocks, threshold)
        before, now = _tensors(series[place - 1]) if place else {}, _tensors(series[place])
        for done, tensor in enumerate(now.values()):
            taken.take(tensor, _same(tensor, before))
            work.report((done + 1) / len(now))
        yield from taken.rows()
        work.save_state(taken.state())
    rows, facts = findings(series, dict(work.states("checkpoints")), config.phase_tolerance)
    work.facts |= {"threshold": threshold, "level": config.level, "has_blocks": has_blocks, "left_out": _left_out(last, config)} | facts
    work.facts["values"] = notes_of(inputs["model"], list(last))
    yield from rows


def _left_out(tensors: Iterable[Any], config: CheckpointTimelineConfig) -> str:
    shapes = [tensor.matrix_shape for tensor in tensors if tensor.matrix_shape and tensor.kind != "norm"]
    n = sum(min(shape[1:]) > config.rank_side for shape in shapes)
    who, whose = ("1 matrix has", "its") if n == 1 else (f"{n:,} matrices have", "their")
    return LEFT_OUT + (f" {who} no ranks and outliers, since {whose} shorter side is above {config.rank_side:,}." if n else "")


class _Checkpoint:
    """One checkpoint of the series, taken in tensor by tensor."""

    def __init__(self, config: CheckpointTimelineConfig, step: int, has_blocks: bool, threshold: float) -> None:
        from analysis.weights.rows import RowsOf

        self._config, self._step, self._has_blocks, self._threshold = config, step, has_blocks, threshold
        self._rows = RowsOf()
        self._levels = {ALL: Level.empty(), MATRICES: Level.empty()}
        self._sums = {ALL: ScopeSums(), MATRICES: ScopeSums()}
        self._counts = dict.fromkeys(self._levels, 0)
        self._structures: dict[str, str] = {}

    def take(self, tensor: Any, before: Any | None) -> None:
        """A tensor, and the same of the checkpoint before."""
        import torch

        threads = torch.get_num_threads()
        with one_thread():
            level = measure(tensor, before, self._config.near, self._threshold)
            seen = look(tensor, self._config.near, self._config.rank_side, threads)
        scopes = _scopes(tensor, self._has_blocks)
        self._rows.add("timeline_tensors", _tensor_row(self._step, tensor, level))
        self._rows.add("timeline_measures", measure_rows(self._step, tensor, seen))
        self._rows.add("timeline_structures", structure_row(self._step, tensor, seen))
        if MATRICES in scopes:
            self._structures[tensor.name] = seen.structure
        for scope in scopes:
            self._levels[scope].merge(level)
            self._sums[scope].add(seen.measures)
            self._counts[scope] += 1

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Rows by table."""
        yield from self._rows.tables.items()
        for scope, sums in self._sums.items():
            yield "timeline_scope_measures", sums.rows(self._step, scope)

    def state(self) -> dict[str, Any]:
        """What the findings over the series need of it."""
        import numpy as np

        words = {"names": np.array(list(self._structures), "U"), "structures": np.array(list(self._structures.values()), "U")}
        return words | _state(self._step, self._levels, self._counts)


def _tensors(checkpoint: Any) -> dict[str, Any]:
    found = {tensor.name: tensor for tensor in checkpoint.open().tensors() if tensor.numel}
    if not found:
        raise IncompatibleSubject(
            f"every checkpoint of a series must hold weight tensors, got {checkpoint.source} without; take it out of the folder."
        )
    return found


def _same(tensor: Any, before: Mapping[str, Any]) -> Any | None:
    found = before.get(tensor.name)
    return found if found is not None and found.shape == tensor.shape else None


def _in_block(tensor: Any) -> bool:
    return tensor.layer is not None and len(tensor.shape) > 1


def _scopes(tensor: Any, has_blocks: bool) -> tuple[str, ...]:
    matrix = _in_block(tensor) if has_blocks else len(tensor.shape) > 1
    return (ALL, MATRICES) if matrix else (ALL,)


def _threshold(last: Any, has_blocks: bool, level: float) -> float:
    inside = [tensor for tensor in _tensors(last).values() if MATRICES in _scopes(tensor, has_blocks)]
    if not inside:
        raise IncompatibleSubject(
            f"the last checkpoint of a series must hold a matrix, got {last.source} with vectors only; name another folder."
        )
    with one_thread():
        return quantile(inside, level)


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def level_of(seen: Level) -> dict[str, Any]:
    """The columns that tensors and scopes share, but for the PQ Index."""
    change, n = seen.change, max(1, seen.n)
    return {
        "n_weights": seen.n,
        "n_zero": seen.power.n_zero,
        "n_nonfinite": seen.n - seen.power.n,
        "zero_share": seen.power.n_zero / n,
        "near_zero_share": seen.n_near / n,
        "below_share": seen.n_below / n,
        "norm": seen.power.sums.get(2.0, 0.0) ** 0.5,
        "n_new_zero": None if change is None else change.n_new_zero,
        "n_revived": None if change is None else change.n_revived,
        "changed_share": None if change is None else change.changed_share,
        "change_norm": None if change is None else change.square_change**0.5,
        "before_norm": None if change is None else change.square_base**0.5,
        **{name: None if change is None else getattr(change, name) for name in _LIKENESS},
    }


def _tensor_row(step: int, tensor: Any, seen: Level) -> dict[str, Any]:
    row = {
        "step": step,
        "tensor": tensor.name,
        "layer": tensor.layer,
        "kind": tensor.kind,
        "role": role_of(tensor),
        "max_abs": seen.power.largest,
        "pq_index": seen.pq[0] if seen.pq else None,
        "pq_index_kept": seen.pq_kept[0] if seen.pq_kept else None,
        **level_of(seen),
    }
    return {column.name: row[column.name] for column in TENSORS.columns}


def _state(step: int, scopes: Mapping[str, Level], counts: Mapping[str, int]) -> dict[str, Any]:
    """A row of `timeline` per scope as arrays of one number, or of none where there is none."""
    import numpy as np

    state: dict[str, Any] = {"step": np.array([step], np.int64)}
    for scope, seen in scopes.items():
        means = {
            name: sum(values) / len(values) if values else None for name, values in (("pq_index", seen.pq), ("pq_index_kept", seen.pq_kept))
        }
        for name, value in ({"n_tensors": counts[scope]} | level_of(seen) | means).items():
            kind = np.int64 if name.startswith("n_") else np.float64
            state[f"{scope}/{name}"] = np.array([] if value is None else [value], kind)
    return state


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """The zeros of the last checkpoint."""
    rows = [row for row in summaries.get("timeline", ()) if row["scope"] == MATRICES]
    if not rows:
        return ()
    last = max(rows, key=lambda row: row["step"])
    where = f"at step {last['step']:,}, the last of {len(rows):,} checkpoints"
    over = f"Of {last['n_weights']:,} weights of {last['n_tensors']:,} matrices {where}."
    return (Headline("Weights exactly zero at the end", last["zero_share"], over),)


CHECKPOINT_TIMELINE = Analysis(
    slug="checkpoint_timeline",
    title="Timeline of checkpoints",
    question="When, how abruptly and in which phases did the weights become sparse over training?",
    version=3,
    kind="static",
    sources=(
        Source("The Emergence of Essential Sparsity in Large Pre-trained Models", "Jaiswal et al., NeurIPS 2023, arXiv 2306.03805", "K"),
        Source("The jump statistic and what is called abrupt", "docs/methods.md (our own)", "O"),
        Source("To prune, or not to prune", "Zhu and Gupta 2017, arXiv 1710.01878", "C"),
        Source("Pruning Deep Neural Networks from a Sparsity Perspective", "Diao et al., ICLR 2023, arXiv 2302.05601", "C"),
    ),
    config=CheckpointTimelineConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("sparsity", "Sparsity over training", "timeline", figures.draw_sparsity),
        Figure("schedule", "Zeros beside the cubic schedule", "timeline", figures.draw_schedule),
        Figure("structure", "Structure over training", "timeline_scope_measures", figures.draw_structure),
        Figure("concentration", "Concentration over training", "timeline_scope_measures", figures.draw_concentration),
        Figure("likeness", "Likeness to the checkpoint before", "timeline", figures.draw_likeness),
        Figure("pq_index", "PQ Index over training", "timeline", figures.draw_pq_index),
        Figure(
            "change",
            "Change from checkpoint to checkpoint",
            "timeline_tensors",
            figures.draw_change,
            ("step", "layer", "change_norm", "before_norm"),
        ),
    ),
    needs=refusal,
    takes="series",
    memory=lambda config, facts: MEMORY,
    headlines=headlines,
)
