"""What changed between two checkpoints: the model, and the base it is compared with?

1. Tensors are matched by name, behind other prefixes, or by shape; an adapter's factors with the tensors they change.
2. A pass over slices of both: changed weights, zeros, norms, cosine, rows, tiles; never a whole model in memory.
3. Singular values of the difference of each matrix: few directions (an adapter, a small step) or many.
4. Totals over stated scopes, and what the two seem to be to each other.

Sources: METHODS A0 (mask overlap and its chance level), A12 (PQ Index), A16 (stable and effective rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from analysis.spec import Analysis, Figure, Headline, Source, Summaries, UserError, setting
from analysis.stats.threads import one_thread
from analysis.weights import checkpoint_diff_figures as figures
from analysis.weights.checkpoint_diff_adapters import is_adapter, match_adapter
from analysis.weights.checkpoint_diff_looking import Seen, look_at, spectra
from analysis.weights.checkpoint_diff_matching import BY_PREFIX, BY_SHAPE, Matching, Pair, match
from analysis.weights.checkpoint_diff_tables import LAYERS, TABLES, TOTALS
from analysis.weights.checkpoint_diff_verdict import verdict
from analysis.weights.values import notes_of, refusal
from analysis.weights.weight_sparsity import role_of

if TYPE_CHECKING:
    from analysis.stats.comparing import PairSums

SMALL = 1024
"""Shorter side up to which the eigenvalues of a Gram matrix are no work for several threads."""
MOST_ENERGY_ERROR = 0.1
"""Relative error of the approximation that holds 99 % of the squared norm."""


@dataclass(frozen=True, kw_only=True)
class CheckpointDiffConfig:
    """Settings of `checkpoint_diff`."""

    rank_limit: int = setting(
        2048, help="Longest shorter side of a matrix whose singular values are all computed; beyond it the largest", ge=1, le=16384
    )
    n_values: int = setting(128, help="Singular values computed where not all are", ge=1, le=4096)
    top_rows: int = setting(8, help="Rows kept of each matrix, those that changed most", unit="rows", ge=0, le=10_000)
    tiles: int = setting(16, help="Tiles along each side of a matrix' small picture", unit="tiles", ge=1, le=128)
    seed: int = setting(0, help="Seed of the randomised singular values", ge=0, le=2**31 - 1)


def needs(subject: Any) -> str | None:
    """There must be weights that can be read."""
    if (why := refusal(subject)) is not None or next(iter(subject.tensors()), None) is not None:
        return why
    return f"{subject.label} has no weight tensors, so there is nothing to compare; give a checkpoint with parameters."


def run(config: CheckpointDiffConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables; a unit per matched tensor."""
    matching = _matched(inputs)
    pairs = {pair.after.name: pair for pair in matching.pairs}
    for name in work.units(list(pairs), what="tensors"):
        seen = look_at(pairs[name], config.tiles)
        yield "tensor_diffs", {column: [value] for column, value in row_of(seen, config).items()}
        if seen.rows is not None:
            yield "changed_rows", _top_rows(seen, config.top_rows)
            yield "diff_tiles", _tile_rows(seen)
        work.save_state({"sums": seen.sums.array()})
    from analysis.stats.comparing import PairSums

    sums = {name: PairSums.of_array(state["sums"]) for name, state in work.states("tensors")}
    yield "unmatched", _unmatched_rows(matching)
    yield "diff_totals", _totals(pairs, sums)
    yield "diff_layers", _layers(pairs, sums)
    found = _verdict_row(inputs["base"].label, matching, sums)
    yield "diff_verdict", {column: [value] for column, value in found.items()}
    work.facts["values"] = [f"{inputs[role].label}: {note}" for role in ("model", "base") for note in notes_of(inputs[role], ())]
    work.facts |= {"base": inputs["base"].name, "base_label": inputs["base"].label, "verdict": found["verdict"], "words": found["words"]}


def _matched(inputs: Mapping[str, Any]) -> Matching:
    after, base = ([t for t in inputs[role].tensors() if t.numel] for role in ("model", "base"))
    if is_adapter(base) and not is_adapter(after):
        raise UserError(f"the base must be the model that an adapter changes, got the adapter {inputs['base'].label}; swap the two.")
    if is_adapter(after) and not is_adapter(base):
        return match_adapter(after, base, inputs["model"].facts.get("adapter"))
    return match(after, base)


# ---------------------------------------------------------------------------------------------------------------------
# Rows of the tables


def _ranks(seen: Seen, config: CheckpointDiffConfig) -> dict[str, Any]:
    from analysis.stats.spectrum import effective_rank, random_stable_rank, rank_for_error, stable_rank

    names = ("stable_rank", "effective_rank", "rank_99", "random_rank", "rank_method")
    shape = seen.pair.base.matrix_shape
    if shape is None or not seen.sums.n_changed or seen.sums.n_nonfinite:
        return dict.fromkeys(names)
    with one_thread() if min(shape[1:]) <= SMALL else nullcontext():
        found, method = spectra(seen.pair, config.rank_limit, config.n_values, config.seed)
    stable, effective = ([rank(one) for one in found] for rank in (stable_rank, effective_rank))
    enough = [rank_for_error(one, MOST_ENERGY_ERROR) for one in found]
    values = [_mean(stable), _mean(effective), _mean(enough), random_stable_rank(*shape[1:]), method]
    return dict(zip(names, values))


def _mean(values: list[Any]) -> float | None:
    """Over a stack; None where one is not known."""
    return None if not values or any(value is None for value in values) else float(sum(values)) / len(values)


def row_of(seen: Seen, config: CheckpointDiffConfig) -> dict[str, Any]:
    """The tensor's row of `tensor_diffs`."""
    from analysis.stats.sparsity import pq_index_of_sums

    pair, sums = seen.pair, seen.sums
    pq = pq_index_of_sums(sums.n, sums.root_change, sums.size_change, 0.5, 1.0)
    return {
        "tensor": pair.after.name,
        "base_tensor": pair.base.name,
        "matched": pair.how,
        "matched_words": pair.words,
        "layer": pair.base.layer,
        "kind": pair.base.kind,
        "role": role_of(pair.base),
        "shape": list(pair.base.shape),
        "dtype": pair.after.dtype,
        "base_dtype": pair.base.dtype,
        "n_nonfinite": sums.n_nonfinite,
        **change_of(sums),
        "change_norm": sums.square_change**0.5,
        "base_norm": sums.square_base**0.5,
        "largest_change": sums.largest_change,
        "change_pq_index": float(pq.value) if pq.defined else None,
        **_ranks(seen, config),
    }


def change_of(sums: PairSums) -> dict[str, Any]:
    """The columns that tensors, layers and scopes share."""
    return {
        "n_weights": sums.n,
        "n_changed": sums.n_changed,
        "changed_share": sums.changed_share,
        "n_zero": sums.n_zero,
        "n_zero_base": sums.n_zero_base,
        "n_new_zero": sums.n_new_zero,
        "n_revived": sums.n_revived,
        "kept_same_share": sums.same_share_of_kept,
        "mask_overlap": sums.mask_overlap,
        "mask_chance": sums.mask_chance,
        "cosine": sums.cosine,
        "norm_ratio": sums.norm_ratio,
        "relative_change": sums.relative_change,
    }


def _axis(base: Any) -> str:
    if base.stacked or base.input_axis is None:
        return "stored"
    return "input" if base.input_axis == 0 else "output"


def _top_rows(seen: Seen, k: int) -> dict[str, list[Any]]:
    from analysis.stats.comparing import largest_places

    change, base, changed = seen.rows.numpy()
    places, total, across = largest_places(change, k), seen.sums.square_change, prod(seen.pair.base.shape[1:])
    return {
        "tensor": [seen.pair.after.name] * len(places),
        "row": places,
        "axis": [_axis(seen.pair.base)] * len(places),
        "share_of_change": [min(1.0, float(change[i]) / total) for i in places],
        "changed_share": [float(changed[i]) / across for i in places],
        "change_norm": [float(change[i]) ** 0.5 for i in places],
        "base_norm": [float(base[i]) ** 0.5 for i in places],
    }


def _tile_rows(seen: Seen) -> dict[str, Any]:
    import numpy as np

    sizes = seen.changed.sizes
    down, across = np.indices(sizes.shape)
    return {
        "tensor": [seen.pair.after.name] * sizes.size,
        "tile_row": down.reshape(-1),
        "tile_column": across.reshape(-1),
        "n_weights": sizes.reshape(-1),
        "changed_share": (seen.changed.counts / sizes).reshape(-1),
        "new_zero_share": (seen.new_zero.counts / sizes).reshape(-1),
    }


def _unmatched_rows(matching: Matching) -> dict[str, list[Any]]:
    found = matching.unmatched
    return {
        "side": [one.side for one in found],
        "tensor": [one.tensor.name for one in found],
        "shape": [list(one.tensor.shape) for one in found],
        "n_weights": [one.tensor.numel for one in found],
        "reason": [one.reason for one in found],
    }


def _joined(sums: Mapping[str, PairSums], names: Any) -> PairSums:
    from analysis.stats.comparing import PairSums

    total = PairSums()
    for name in names:
        total.merge(sums[name])
    return total


def _totals(pairs: Mapping[str, Pair], sums: Mapping[str, PairSums]) -> dict[str, list[Any]]:
    block = [name for name, pair in pairs.items() if pair.base.layer is not None and len(pair.base.shape) > 1]
    scopes = {"all weights": list(pairs), "block matrices": block, "everything else": [n for n in pairs if n not in set(block)]}
    rows: dict[str, list[Any]] = {column.name: [] for column in TOTALS.columns}
    for scope, names in scopes.items():
        if names:
            n_changed = sum(sums[name].n_changed > 0 for name in names)
            head = {"scope": scope, "n_tensors": len(names), "n_changed_tensors": n_changed}
            for column, value in (head | change_of(_joined(sums, names))).items():
                rows[column].append(value)
    return rows


def _layers(pairs: Mapping[str, Pair], sums: Mapping[str, PairSums]) -> dict[str, list[Any]]:
    groups: dict[tuple[int, str], list[str]] = {}
    for name, pair in pairs.items():
        if pair.base.layer is not None:
            groups.setdefault((pair.base.layer, pair.base.kind), []).append(name)
    rows: dict[str, list[Any]] = {column.name: [] for column in LAYERS.columns}
    for (layer, kind), names in sorted(groups.items()):
        for column, value in ({"layer": layer, "kind": kind} | change_of(_joined(sums, names))).items():
            rows[column].append(value)
    return rows


def _verdict_row(base: str, matching: Matching, sums: Mapping[str, PairSums]) -> dict[str, Any]:
    name, words = verdict(matching, sums, _joined(sums, sums))
    return {
        "verdict": name,
        "words": words,
        "base": base,
        "n_matched": len(matching.pairs),
        "n_by_prefix": sum(pair.how == BY_PREFIX for pair in matching.pairs),
        "n_by_shape": sum(pair.how == BY_SHAPE for pair in matching.pairs),
        "n_unmatched": len(matching.unmatched),
        "n_unmatched_weights": sum(one.tensor.numel for one in matching.unmatched),
    }


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """How much changed, over all matched weights."""
    base = next((row["base"] for row in summaries.get("diff_verdict", ())), "the base")
    for row in summaries.get("diff_totals", ()):
        if row["scope"] == "all weights" and row["changed_share"] is not None:
            over = f"Of {row['n_weights']:,} weights in {row['n_tensors']:,} tensors that it shares with {base}."
            return (Headline("Weights changed", row["changed_share"], over),)
    return ()


CHECKPOINT_DIFF = Analysis(
    slug="checkpoint_diff",
    title="Difference of two checkpoints",
    question="What changed between this model and its base, and where?",
    version=2,
    kind="static",
    sources=(
        Source("Mask overlap and its chance level", "intersection over union of non-zero sets; docs/methods.md", "O"),
        Source("LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al., ICLR 2022, arXiv 2106.09685", "3"),
        Source("The effective rank", "Roy and Vetterli, EUSIPCO 2007", "3"),
        Source("Pruning Deep Neural Networks from a Sparsity Perspective", "Diao et al., ICLR 2023, arXiv 2302.05601", "C"),
    ),
    config=CheckpointDiffConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("change", "Change of every matrix", "tensor_diffs", figures.draw_change, figures.CHANGE),
        Figure("most_changed", "Tensors that changed most", "tensor_diffs", figures.draw_most_changed, figures.CHANGE),
        Figure("new_zeros", "New zeros of every matrix", "tensor_diffs", figures.draw_new_zeros, figures.ZEROS),
        Figure("rank", "Rank of the difference", "tensor_diffs", figures.draw_rank, figures.RANK),
        Figure("tiles", "Where the most changed matrix changed", "diff_tiles", figures.draw_tiles),
    ),
    needs=needs,
    inputs=("model", "base"),
    headlines=headlines,
)
