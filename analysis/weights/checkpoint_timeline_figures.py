"""Figures of `checkpoint_timeline`: from stored rows to specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

_LOG_FROM = 100
"""Steps that span more than this factor are drawn on a log axis."""
_SHARES = {"zero_share": "exactly zero", "near_zero_share": "near zero", "below_share": "below the threshold"}


def _steps(rows: Any) -> Axis:
    first, last = int(rows["step"].min()), int(rows["step"].max())
    scale: Literal["linear", "log"] = "log" if 0 < first * _LOG_FROM < last else "linear"
    return Axis("step", "Checkpoint", "training step", scale)


def _matrices(rows: Any) -> Any:
    return rows[rows["scope"] == "matrices"].sort_values("step")


def _of(shown: Any, provenance: Mapping[str, Any]) -> str:
    return f"{len(shown):,} checkpoints of {provenance['model_label']}, {int(shown['n_weights'].iloc[-1]):,} weights of matrices"


def _melted(shown: Any, names: Mapping[str, str], what: str, value: str, nothing: str = "") -> Any:
    """One row per step and column of ``names``, under its words; raises `NothingToDraw` with ``nothing`` where no value is known."""
    data = shown.melt(["step"], list(names), what, value).dropna(subset=[value]).reset_index(drop=True)
    if data.empty and nothing:
        raise NothingToDraw(nothing)
    return data.assign(**{what: data[what].map(names)})


def draw_sparsity(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Shares of zeros, near zeros and weights below the threshold, over steps."""
    shown, facts = _matrices(rows), provenance["facts"]
    return FigureSpec(
        kind="line",
        data=_melted(shown, _SHARES, "measure", "share"),
        x=_steps(shown),
        y=Axis("share", "Weights", "share of the matrices", bounds=(0.0, 1.0)),
        series=Series("measure", "Weights that are", tuple(_SHARES.values())),
        title="Sparsity over training",
        sentence=f"Share of weights that are small, {_of(shown, provenance)}. {facts['jump_words']}",
        notes=(
            f"Near zero: |w| at most {provenance['config']['near']:g} times the root mean square of its tensor.",
            f"The threshold is {facts['threshold']:.4g}: {facts['level']:.0%} of the last checkpoint's weights lie below it.",
        ),
    )


def draw_schedule(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Zeros beside the cubic schedule with the same ends."""
    shown, facts = _matrices(rows), provenance["facts"]
    if shown["cubic_share"].isna().all():
        raise NothingToDraw(f"zeros follow no pruning schedule here: {facts['schedule_words']}")
    names = {"zero_share": "this series", "cubic_share": "cubic schedule"}
    return FigureSpec(
        kind="line",
        data=_melted(shown, names, "what", "share"),
        x=_steps(shown),
        y=Axis("share", "Exact zeros", "share of the matrices", bounds=(0.0, 1.0)),
        series=Series("what", "Zeros of", tuple(names.values())),
        title="Zeros beside the cubic pruning schedule",
        sentence=f"Share of exact zeros, {_of(shown, provenance)}. {facts['schedule_words']}",
        notes=("The schedule's ends are read off the series, not fitted.",),
    )


def draw_pq_index(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Mean PQ Index over steps, of all weights and of those that are not zero."""
    shown, facts = _matrices(rows), provenance["facts"]
    names = {"pq_index": "all weights", "pq_index_kept": "weights that are not zero"}
    nothing = "all weights of all checkpoints are zero, and a PQ Index is of something that is not."
    return FigureSpec(
        kind="line",
        data=_melted(shown, names, "what", "index", nothing),
        x=_steps(shown),
        y=Axis("index", "PQ Index"),
        series=Series("what", "PQ Index of", tuple(names.values())),
        title="How concentrated the magnitudes are, over training",
        sentence=f"Mean PQ Index (p = 0.5, q = 1) of the matrices, {_of(shown, provenance)}. {facts['phase_words']}",
        notes=("That pruning lets it fall, rise and fall again is a hypothesis of Diao et al. (ICLR 2023), not a finding here.",),
    )


_STRUCTURES = {
    ("conforming_share", "2 of 4 kept, input"): "groups that are 2 of 4",
    ("conforming_share", "4 of 8 kept, input"): "groups that are 4 of 8",
    ("zero_tile_share", "side 4"): "tiles of 4 all zero",
    ("zero_tile_share", "side 16"): "tiles of 16 all zero",
    ("zero_row_share", "whole"): "rows all zero",
    ("zero_column_share", "whole"): "columns all zero",
}
_CONCENTRATIONS = {("gini", "whole"): "Gini index", ("hoyer", "whole"): "Hoyer sparsity"}


def _named(rows: Any, names: Mapping[tuple[str, str], str]) -> Any:
    shown = _matrices(rows)
    what = [names.get(pair) for pair in zip(shown["measure"], shown["detail"])]
    return shown.assign(what=what).dropna(subset=["what"])[["step", "what", "value", "n_tensors"]].reset_index(drop=True)


def draw_structure(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Shares of groups, tiles and lines that are as a structure asks for, over steps."""
    data = _named(rows, _STRUCTURES)
    if data.empty:
        raise NothingToDraw("no matrix of the series has groups, tiles or lines, and structure is of those.")
    return FigureSpec(
        kind="line",
        data=data,
        x=_steps(data),
        y=Axis("value", "Share", "share of all of its kind", bounds=(0.0, 1.0)),
        series=Series("what", "Share of", tuple(name for name in _STRUCTURES.values() if name in set(data["what"]))),
        title="Structure of the zeros over training",
        sentence=f"Groups along the input, tiles and lines of the matrices, {data['step'].nunique():,} checkpoints of "
        f"{provenance['model_label']}. {provenance['facts']['structure_words']}",
        notes=("A group of 4 is 2 of 4 with at most 2 weights that are not zero.",),
    )


def draw_concentration(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Mean Gini index and Hoyer sparsity of the matrices over steps."""
    data = _named(rows, _CONCENTRATIONS)
    if data.empty:
        raise NothingToDraw("all weights of all checkpoints are zero, and concentration is of something that is not.")
    return FigureSpec(
        kind="line",
        data=data,
        x=_steps(data),
        y=Axis("value", "Concentration", bounds=(0.0, 1.0)),
        series=Series("what", "Measure", tuple(_CONCENTRATIONS.values())),
        title="How few weights carry the matrices, over training",
        sentence=f"Mean over up to {int(data['n_tensors'].max()):,} matrices, each counting the same, at {data['step'].nunique():,} "
        f"checkpoints of {provenance['model_label']}.",
        notes=("0: all magnitudes are equal; near 1: few weights carry all.",),
    )


def draw_likeness(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Mask overlap, its chance level, cosine and ratio of norms with the checkpoint before, over steps."""
    shown = _matrices(rows)
    names = {
        "mask_overlap": "mask overlap",
        "mask_chance": "mask overlap by chance",
        "cosine": "cosine",
        "norm_ratio": "norm / norm before",
    }
    nothing = "no matrix of the series has one like it in the checkpoint before, so that nothing is compared."
    return FigureSpec(
        kind="line",
        data=_melted(shown, names, "what", "value", nothing),
        x=_steps(shown),
        y=Axis("value", "Likeness"),
        series=Series("what", "Measure", tuple(names.values())),
        title="How alike each checkpoint is to the one before",
        sentence=f"All matrices together beside those of the checkpoint before, {_of(shown, provenance)}; 1: no change.",
        notes=("Mask overlap: weights that are not zero in both / in at least one of the two; without zeros it is 1, and by chance, too.",),
    )


def draw_change(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Relative change since the checkpoint before, step by layer."""
    inside = rows[rows["layer"].notna() & rows["change_norm"].notna()]
    squares = inside.assign(change=inside["change_norm"] ** 2, before=inside["before_norm"] ** 2, count=1)
    sums = squares.groupby(["layer", "step"], as_index=False)[["change", "before", "count"]].sum().query("before > 0")
    if sums.empty:
        raise NothingToDraw("no tensor inside of blocks has one like it in the checkpoint before, so that no change by layer is known.")
    sums["relative_change"] = (sums["change"] / sums["before"]) ** 0.5
    return FigureSpec(
        kind="heatmap",
        data=sums[["step", "layer", "relative_change"]].reset_index(drop=True),
        x=Axis("step", "Checkpoint", "training step", "category"),
        y=Axis("layer", "Layer", scale="category"),
        colour=Axis("relative_change", "Change", "share of the norm before"),
        title="Where the weights moved, from checkpoint to checkpoint",
        sentence="Norm of the difference from the checkpoint before over its norm, all tensors of each of "
        f"{sums['layer'].nunique():,} blocks at {sums['step'].nunique():,} checkpoints of {provenance['model_label']}.",
        notes=("Checkpoints that are further apart change more.",),
    )
