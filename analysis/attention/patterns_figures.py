"""The figures of `head_patterns`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.attention.figures import heads_map
from analysis.attention.patterns_tables import COUNTED, CURVES
from analysis.stats.pattern_shapes import SHAPES
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

NEAR_DUPLICATE = "0 for heads that look at the same keys, ln 2 = .69 for heads that share none."


def _read(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['heads']:,} heads of {provenance['model_label']}, {facts['n_windows']:,} windows of up to {facts['tokens']:,} tokens from "
        f"{facts['n_documents']:,} documents of {provenance['data']}"
    )


def _budget(provenance: Mapping[str, Any]) -> str:
    return f"{provenance['config']['budget']:.3g} of the window's keys per query"


def draw_shapes(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: a mark in the colour of the head's shape."""
    places = rows[["layer", "hook_name", "turn"]].drop_duplicates().sort_values(["layer", "hook_name", "turn"]).reset_index(drop=True)
    one_each = len(places) == places["layer"].nunique()
    shown = rows.merge(places.assign(place=places["layer"] if one_each else places.index), on=["layer", "hook_name", "turn"])
    return FigureSpec(
        kind="scatter",
        data=shown,
        x=Axis("head", "Head"),
        y=Axis("place", "Layer" if one_each else "Place, in order of execution"),
        series=Series("shape", "Shape", order=tuple(s for s in SHAPES if (shown["shape"] == s).any())),
        title="What each head looks like",
        sentence=f"The first simple pattern that holds {provenance['config']['share']:.0%} of a head's attention: {_read(provenance)}.",
        hover=("pattern", "shape_agreement", "sink_share", "local_share", "evenness"),
        notes=("The names are our own; thresholds are settings of the run.",),
    )


def draw_classes(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Heads of each layer by shape, stacked."""
    counted = [(name, shape) for name, shape in zip((f"n_{c}" for c in COUNTED), SHAPES) if rows[name].any()]
    parts = rows.groupby("layer", as_index=False)[[name for name, _ in counted]].sum()
    shown = parts.rename(columns=dict(counted)).melt(id_vars="layer", var_name="shape", value_name="heads")
    return FigureSpec(
        kind="stacked_bars",
        data=shown[shown["heads"] > 0].reset_index(drop=True),
        x=Axis("layer", "Layer"),
        y=Axis("heads", "Heads", unit="heads"),
        series=Series("shape", "Shape", order=tuple(shape for _, shape in counted)),
        title="Heads by pattern",
        sentence=f"Heads of each layer by what their pattern looks like: {_read(provenance)}.",
    )


def draw_recall(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """For each class its recall: the median head of each layer, and the range of the middle half."""
    names = {
        "a_shape_recall": "A-shape",
        "lines_recall": "vertical-slash",
        "blocks_recall": "block-sparse",
        "oracle_mass": "largest keys (oracle)",
    }
    long = rows.melt(id_vars="layer", value_vars=list(names), var_name="class", value_name="recall")
    by = long.replace({"class": names}).groupby(["class", "layer"])["recall"]
    shown = by.median().rename("median").to_frame().assign(low=by.quantile(0.25), high=by.quantile(0.75), n_heads=by.size()).reset_index()
    return FigureSpec(
        kind="line",
        data=shown,
        x=Axis("layer", "Layer"),
        y=Axis("median", "Attention kept", unit="share of attention", bounds=(0.0, 1.0)),
        y_low="low",
        y_high="high",
        series=Series("class", "Class", order=tuple(names.values())),
        title="Attention that each class keeps",
        sentence=f"Attention that MInference's classes keep with at most {_budget(provenance)}: the median head of each layer and the "
        f"middle half of heads; {_read(provenance)}.",
        hover=("n_heads",),
    )


def draw_methods(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Error of sparse, low-rank and both by budget: the median head and the middle half."""
    errors = rows[rows["method"].isin(CURVES[2:])]
    by = errors.groupby(["method", "share"])["value"]
    shown = by.median().rename("median").to_frame().assign(low=by.quantile(0.25), high=by.quantile(0.75), n_heads=by.size()).reset_index()
    return FigureSpec(
        kind="line",
        data=shown,
        x=Axis("share", "Numbers kept per query", unit="share of window"),
        y=Axis("median", "Error |A - B| / |A|", unit="share of norm"),
        y_low="low",
        y_high="high",
        series=Series("method", "B", order=CURVES[2:]),
        title="Few keys, low rank, and both",
        sentence=f"How far patterns are from a few entries per row, from a low rank, and from the sum of both at as many numbers: the "
        f"median head and the middle half of heads; {_read(provenance)}.",
        hover=("n_heads",),
    )


def draw_alike(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: divergence to the most similar head of the same layer."""
    known = rows[rows["nearest_divergence"].notna()]
    if known.empty:
        raise NothingToDraw(f"every layer of {provenance['model_label']} has a single head, so there is nothing to compare it with.")
    return heads_map(
        known,
        provenance,
        Axis("nearest_divergence", "Divergence", unit="nats"),
        "The most similar head of the same layer",
        f"Jensen-Shannon divergence of each head's attention to that of the most similar head of its layer: {_read(provenance)}.",
        ("cluster", "shape", "nearest_cosine"),
        (NEAR_DUPLICATE,),
    )


def draw_similarity(pairs: Any, heads: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Heads by heads of one place, in the order of its dendrogram's leaves: ``pairs`` and ``heads`` are the place's rows of `head_pairs`
    (within) and `head_patterns`. Not a figure of the run: a page asks for it by place."""
    import pandas as pd

    if pairs.empty:
        raise NothingToDraw("this layer has a single head, so there is nothing to compare it with.")
    order = heads.sort_values("leaf")["head"].tolist()
    kept = pairs[["head_a", "head_b", "divergence", "agreement", "output_cosine"]]
    own = pd.DataFrame({"head_a": order, "head_b": order, "divergence": 0.0})
    both = pd.concat([kept, kept.rename(columns={"head_a": "head_b", "head_b": "head_a"}), own], ignore_index=True)
    rank = {head: i for i, head in enumerate(order)}
    places = {name: [rank[head] for head in both[name]] for name in ("head_a", "head_b")}
    shown = both.assign(at=places["head_a"], to=places["head_b"]).sort_values(["at", "to"]).reset_index(drop=True)
    shown = shown.assign(head_a=shown["head_a"].astype(str), head_b=shown["head_b"].astype(str))
    return FigureSpec(
        kind="heatmap",
        data=shown,
        x=Axis("head_a", "Head", scale="category"),
        y=Axis("head_b", "Head", scale="category"),
        colour=Axis("divergence", "Divergence", unit="nats", bounds=(0.0, 0.7)),
        title="How alike the heads are",
        sentence=f"Jensen-Shannon divergence between the attention of the heads of {heads['hook_name'].iloc[0]}, similar ones side "
        f"by side: {_read(provenance)}.",
        hover=("agreement", "output_cosine"),
        notes=(NEAR_DUPLICATE,),
    )
