"""Figures and headlines of `essential_sparsity`, from stored rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from analysis.second_data import SECOND
from analysis.sensitivity.curve_rows import curve_label
from analysis.sensitivity.tables import FIRST, KEY, SECOND_SET
from analysis.spec import Headline, Summaries
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

FLOOR = 1e-3
"""Differences below are drawn at it: a logarithmic axis has no zero."""
ONE_SHOT = "One shot, without fine-tuning: values published after fine-tuning are not comparable."


def no_continuum(names: Collection[str]) -> str:
    """Of curves that are patterns only, what a line between their points does not mean; empty where there are none."""
    return f"Of {' and '.join(names)} there are the marked patterns only: there is nothing between them." if names else ""


def draw_curve(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss above dense over the share removed, with bands; the drop points as bars at their tolerance, once they are known."""
    import pandas as pd

    facts = provenance.get("facts") or {}
    shown = _labelled(rows[rows["metric"] == "loss"])
    is_dense = shown["level"] == 0
    shown = shown[~(is_dense & (shown["kind"] == "point"))].sort_values(["series", "level"])
    if not len(shown):
        raise NothingToDraw("No level has been measured yet.")
    data = pd.DataFrame({"level": shown["level"], "series": shown["series"], "delta": shown["delta"], "loss": shown["value"]})
    data["shown"] = data["delta"].clip(lower=FLOOR)
    data["low"], data["high"] = shown["low"].clip(lower=FLOOR), shown["high"].clip(lower=FLOOR)
    data["achieved"], data["perplexity"] = shown["achieved"], shown["perplexity"]
    bars = _drop_bars(facts)
    unit = str(shown["unit"].iloc[0])
    return FigureSpec(
        kind="line",
        data=pd.concat([data, bars], ignore_index=True) if len(bars) else data.reset_index(drop=True),
        x=Axis("level", "Weights removed", unit="share of the scope", bounds=(0, 1)),
        y=Axis("shown", "Loss above dense", unit=unit, scale="log"),
        y_low="low",
        y_high="high",
        series=Series("series", "Curve"),
        title="How much can go before the model notices",
        sentence=f"Increase of the loss of {provenance['model_label']} on {_measured_on(shown, provenance)}, with 95 % intervals over "
        f"documents. {_answers(facts)}",
        hover=("delta", "loss", "perplexity", "achieved"),
        notes=tuple(
            note for note in (
                f"Denominator: {facts['denominator']}." if "denominator" in facts else "",
                f"Differences below {FLOOR:g}, negative ones among them, are drawn at {FLOOR:g}; their value is shown on hovering.",
                no_continuum(dict.fromkeys(shown["series"][shown["kind"] == "patterns"])),
                *left_out(facts), facts.get("loss", ""), ONE_SHOT, facts.get("cost", ""),
            ) if note
        ),
    )  # fmt: skip


def left_out(facts: Mapping[str, Any]) -> list[str]:
    """Levels that shares per matrix cannot reach, a sentence each."""
    return [f"Not measured: {why}" for why in facts.get("left_out", ())]


def _measured_on(rows: Any, provenance: Mapping[str, Any]) -> str:
    """How many positions of which data, of both where there are two."""
    facts, config = provenance.get("facts") or {}, provenance.get("config") or {}
    second = facts.get(SECOND, {}).get("name") or config.get(SECOND) or "other data"  # a live page has no facts yet
    names, parts = {FIRST: str(provenance["data"]), SECOND_SET: f"{second}, the second data"}, []
    for data, part in rows.groupby("data", sort=True):
        of = f"{int(part['n'].max()):,} positions of {int(part['n_documents'].max()):,} documents"
        parts.append(f"{of} ({part['split'].iloc[0]} of {names[str(data)]})")
    return " and ".join(parts)


def _labelled(rows: Any) -> Any:
    labels = [curve_label(dict(zip(KEY, key, strict=True))) for key in zip(*(rows[name] for name in KEY), strict=True)]
    return rows.assign(series=labels)


def bar_ends(drop: Mapping[str, Any]) -> list[float]:
    """Where the bar of a drop point begins, its middle and its end: without an interval (one document) the drop point alone.

    An interval without an upper end reaches to the last level measured.
    """
    low = drop["level"] if drop["low"] is None else drop["low"]
    high = drop["high"] if drop["high"] is not None else drop["level"] if drop["low"] is None else drop["last_level"]
    return sorted({low, drop["level"], high})


def _drop_bars(facts: Mapping[str, Any]) -> Any:
    """Three points a bar: both ends of the interval and the drop point, at the height of the tolerance."""
    import pandas as pd

    found = [drop for drop in facts.get("drops", ()) if drop["is_headline"] and drop["level"] is not None]
    rows = [
        {"level": end, "series": f"s*: {drop['curve']}", "delta": drop["eps"], "shown": max(FLOOR, drop["eps"])}
        for drop in found
        for end in bar_ends(drop)
    ]
    return pd.DataFrame(rows)


def _answers(facts: Mapping[str, Any]) -> str:
    drops = [drop for drop in facts.get("drops", ()) if drop["is_headline"]]
    return " ".join(f"s*({drop['eps']:g}) of {drop['curve']}: {drop['words']}." for drop in drops)


def draw_where(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Where the removed weights sit: layer by role, at the measured level next to the drop point."""
    facts = provenance.get("facts") or {}
    shown = _labelled(rows)
    if not len(shown):
        raise NothingToDraw("No level has been measured yet.")
    first = shown["series"].iloc[0]
    shown = shown[shown["series"] == first]
    drop = next((d for d in facts.get("drops", ()) if d["curve"] == first and d["is_headline"]), None)
    wanted = drop["level"] if drop is not None and drop["level"] is not None else 0.5
    level = min(shown["level"].unique(), key=lambda one: abs(one - wanted))
    shown = shown[shown["level"] == level].sort_values(["layer", "role"])
    place = ["outside" if missing else str(int(layer)) for layer, missing in zip(shown["layer"], shown["layer"].isna())]
    cells = shown.assign(place=place).groupby(["place", "role"], sort=False)[["n_weights", "n_zero", "n_already_zero"]].sum().reset_index()
    cells["share"] = cells["n_zero"] / cells["n_weights"]
    return FigureSpec(
        kind="heatmap",
        data=cells,
        x=Axis("place", "Layer", scale="category"),
        y=Axis("role", "Matrix", scale="category"),
        colour=Axis("share", "Zeros", unit="share of the matrix"),
        title="Where the removed weights sit",
        sentence=f"Share of zeros in each matrix of {provenance['model_label']} with {level:.1%} of the scope removed ({first}): "
        f"{int(cells['n_zero'].sum()):,} of {int(cells['n_weights'].sum()):,} weights, {int(cells['n_already_zero'].sum()):,} of them zero "
        "in the dense model.",
        hover=("n_weights", "n_zero", "n_already_zero"),
    )


def draw_prefill(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss above dense over the FLOPs left."""
    return _over_cost(rows, provenance, "cost_flops", "FLOPs of one pass", "share of the dense model's")


def draw_decode(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss above dense over the bytes moved per decoded token at B = 1."""
    return _over_cost(rows, provenance, "cost_bytes", "Bytes moved per decoded token, B = 1", "share of the dense model's")


def _over_cost(rows: Any, provenance: Mapping[str, Any], column: str, label: str, unit: str) -> FigureSpec:
    """The same points over what they cost; a figure for each kind of cost, since they rank methods differently."""
    import pandas as pd

    facts = provenance.get("facts") or {}
    shown = _labelled(rows[(rows["metric"] == "loss") & rows[column].notna()]).sort_values(["series", "level"])
    if not len(shown):
        raise NothingToDraw("This cost was not counted: nothing is decoded, or the model keeps no keys and values that could be seen.")
    data = pd.DataFrame({"cost": shown[column] / shown[column].max(), "series": shown["series"], "delta": shown["delta"]})
    data["shown"] = data["delta"].clip(lower=FLOOR)
    data["low"], data["high"] = shown["low"].clip(lower=FLOOR), shown["high"].clip(lower=FLOOR)
    data["level"], data["absolute"] = shown["level"], shown[column]
    return FigureSpec(
        kind="line",
        data=data.reset_index(drop=True),
        x=Axis("cost", label, unit=unit, bounds=(0, 1.02)),
        y=Axis("shown", "Loss above dense", unit=str(shown["unit"].iloc[0]), scale="log"),
        y_low="low",
        y_high="high",
        series=Series("series", "Curve"),
        title=f"What the loss buys: {label[0].lower()}{label[1:]}",
        sentence=f"Increase of the loss of {provenance['model_label']} over its {label[0].lower()}{label[1:]}, with 95 % intervals over "
        f"documents, on {_measured_on(shown, provenance)}.",
        hover=("delta", "level", "absolute"),
        notes=tuple(
            note for note in (
                facts.get("cost", ""),
                "Zeros are counted as skipped; whether a machine skips them depends on how they lie. Curves of different structures are "
                "not of one front.",
                f"Differences below {FLOOR:g} are drawn at {FLOOR:g}.", ONE_SHOT,
            ) if note
        ),
    )  # fmt: skip


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """How much can go at the tolerance of the card, for the first curve that has an answer."""
    for row in summaries.get("drop_points", ()):
        if not row["is_headline"] or row["answer"] == "not resolvable":
            continue
        curve, over = curve_label(row), f"{row['words']}; {row['n_documents']:,} documents, without fine-tuning."
        over += f" {row['draws_words'][:1].upper()}{row['draws_words'][1:]}." if row.get("draws_words") else ""
        within = f"within {row['eps']:g} {row['unit']}"
        if row["level"] is not None:
            return (Headline("Weights that can go", row["level"], f"Share of the scope, {curve}, {within}: {over}"),)
        if row["answer"] == "not reached":
            return (Headline("Weights that can go, at least", row["last_level"], f"Share of the scope, {curve}, {within}: {over}"),)
    return ()
