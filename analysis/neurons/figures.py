"""The figures of `neuron_activity`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

CLASS_ORDER = ("dead", "rare", "undecided", "normal", "dense")


def _n(rows: Any, provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{int(rows['n_neurons'].sum()):,} neurons of {provenance['model_label']}, {facts['n_tokens']:,} tokens "
        f"from {facts['n_documents']:,} documents of {provenance['data']}"
    )


def _short(rows: Any) -> Any:
    """One row per layer where it has one site; else the site's name tells them apart."""
    shown = rows.sort_values(["layer", "hook_name"]).reset_index(drop=True)
    one_each = shown["layer"].is_unique
    shown["place"] = shown["layer"].astype(str) if one_each else shown["hook_name"]
    return shown


def draw_classes(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Dead / rare / undecided / normal / dense per layer."""
    shown = _short(rows)
    long = shown.melt(["place", "n_neurons"], [f"n_{c}" for c in CLASS_ORDER], var_name="class", value_name="count")
    long["class"] = long["class"].str.removeprefix("n_")
    long["share"] = long["count"] / long["n_neurons"]
    silent, wakes = int(rows["n_silent"].sum()), float(rows["expected_wakes"].sum())
    bound = float(rows["silent_document_bound"].max())
    return FigureSpec(
        kind="stacked_bars",
        data=long,
        x=Axis("place", "Layer" if shown["place"].equals(shown["layer"].astype(str)) else "Site", scale="category"),
        y=Axis("share", "Neurons", unit="share", bounds=(0.0, 1.0)),
        series=Series("class", "Class", order=CLASS_ORDER, palette="activity"),
        title="Dead, rare, normal and dense neurons per layer",
        sentence=f"Share of neurons by how often they are active: {_n(rows, provenance)}. {silent:,} were silent; reading as many "
        f"documents again would be expected to wake about {wakes:.0f} of them.",
        hover=("count",),
        notes=(
            f"Active: {rows['active_rule'].iloc[0]}.",
            f"A silent neuron fires, with 95 % confidence, in fewer than {bound:.2%} of such documents.",
            "Undecided: too few tokens were read to tell dead or rare from normal.",
        ),
    )


def draw_densities(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Histogram of neurons' densities on a log axis."""
    fired = rows[rows["low"] > 0].groupby(["low", "high"], as_index=False)["n_neurons"].sum()
    silent = int(rows.loc[rows["low"] == 0, "n_neurons"].sum())
    return FigureSpec(
        kind="histogram",
        data=fired,
        x=Axis("low", "Density", unit="share of tokens active", scale="log"),
        x_end="high",
        y=Axis("n_neurons", "Neurons"),
        title="How often neurons are active",
        sentence=f"Histogram of the neurons' densities: {_n(rows, provenance)}; the {silent:,} silent ones are not drawn.",
    )


def draw_experts(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Load of each expert of each layer: 1 is its fair share."""
    if rows.empty:
        raise NothingToDraw(f"{provenance['model_label']} has no experts: every token goes through every neuron.")
    if rows["load"].isna().all():
        raise NothingToDraw("no token was sent to any expert.")
    shown = rows.sort_values(["layer", "expert_group", "expert"]).reset_index(drop=True)
    one_each = shown.groupby("layer")["expert_group"].nunique().max() == 1
    shown["place"] = shown["layer"].astype(str) if one_each else shown["expert_group"]
    shown["expert"] = shown["expert"].astype(str)
    groups, idle = shown["expert_group"].nunique(), int((shown["n_tokens"] == 0).sum())
    facts = provenance["facts"]
    return FigureSpec(
        kind="heatmap",
        data=shown,
        x=Axis("expert", "Expert", scale="category"),
        y=Axis("place", "Layer" if one_each else "Experts of", scale="category"),
        colour=Axis("load", "Load", unit="x the mean of its layer"),
        title="Tokens sent to each expert",
        sentence=f"Tokens sent to an expert / to an expert of its layer on average: {len(shown):,} experts in {groups:,} layers of "
        f"{provenance['model_label']}, {facts['n_tokens']:,} tokens from {facts['n_documents']:,} documents of {provenance['data']}. "
        + (f"{idle:,} of the experts got none of the tokens." if idle else "Every expert got some of the tokens."),
        hover=("n_tokens", "share", "documents_reached"),
        notes=("1 is an expert's fair share, 0 an expert that no token was sent to.",),
    )
