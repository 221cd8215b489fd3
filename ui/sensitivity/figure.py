"""The picture of the curves as a spec: points with bands, the tolerance as a line, drop points as bars over their interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.sensitivity.curve_figures import FLOOR, ONE_SHOT, bar_ends, no_continuum
from figures.spec import Axis, FigureSpec, Series
from ui.sensitivity.curves import NEAR, PERPLEXITY, Curve, Frame, Measure, unit_of
from ui.words import count, percent

_REACH = 4
"""How many tolerances high the view near the tolerance is."""
_LARGEST = 700.0
"""Nats whose exponential still fits into a double."""


@dataclass(frozen=True)
class Picture:
    """A spec and which of its series are no curves."""

    spec: FigureSpec
    tolerance: str | None
    """Name of the line at the tolerance."""
    bars: dict[str, tuple[str, str]]
    """Name of the bar of a drop point -> name of its curve, and the answer in words."""


def picture(curves: Sequence[Curve], measure: Measure, eps: float | None) -> Picture:
    """The curves as one way of looking at them shows them."""
    import pandas as pd

    mark = None if measure.drops_of is None else eps if measure.metric == "loss" else 0.01
    parts = [_points(curve, measure) for curve in curves]
    bars: dict[str, tuple[str, str]] = {}
    line = None
    if mark is not None:
        height = _height(curves[0], measure, mark)
        line = f"within {mark:g}"
        parts.append(pd.DataFrame({"level": [0.0, 1.0], "shown": [height, height], "series": line}))
        for curve in curves:
            drop = curve.drop(mark, measure.drops_of or "")
            if drop is not None and drop["level"] is not None:
                name = f"s*: {curve.label}"
                bars[name] = (curve.label, f"s*({mark:g}) of {curve.label}: {drop['words']}")
                parts.append(_bar(drop, _height(curve, measure, mark)).assign(series=name))
    data = pd.concat(parts, ignore_index=True)
    order = (*(curve.label for curve in curves), *bars, *([line] if line else []))
    spec = FigureSpec(
        kind="line",
        data=data,
        x=_across(curves),
        y=_axis(curves, measure, mark, data),
        y_low="low",
        y_high="high",
        series=Series("series", "Curve", order=tuple(order)),
        title="How much can go before the model notices",
        sentence=_sentence(curves, measure),
        hover=("value", "delta", "perplexity", "achieved"),
        notes=tuple(note for note in (*_notes(curves, measure), ONE_SHOT) if note),
    )
    return Picture(spec, line, bars)


def _points(curve: Curve, measure: Measure) -> Frame:
    """Columns level, shown, low, high, series, and what hovering shows. What is below the axis' floor is drawn at it."""
    rows = curve.of(measure.metric)
    shown = rows[["level", "value", "delta", "perplexity", "achieved"]].assign(series=curve.label)
    if measure is PERPLEXITY:
        # The interval is that of the increase over the dense model, which is what is known well.
        dense = rows["value"] - rows["delta"]
        low, high = (np.exp((dense + rows[end]).clip(upper=_LARGEST)) for end in ("low", "high"))
        return shown.assign(shown=rows["perplexity"], low=low, high=high)
    centre, low, high = (rows[name] for name in ("delta", "low", "high"))
    if measure.log:
        centre, low, high = (part.clip(lower=FLOOR) for part in (centre, low, high))
    return shown.assign(shown=centre, low=low, high=high)


def _height(curve: Curve, measure: Measure, eps: float) -> float:
    """Where a tolerance lies on the axis."""
    if measure is not PERPLEXITY:
        return max(FLOOR, eps) if measure.log else eps
    first = curve.of("loss").iloc[0]
    return math.exp(min(_LARGEST, float(first["value"] - first["delta"]) + eps))


def _bar(drop: Mapping[str, Any], height: float) -> Frame:
    """Three points: both ends of the interval and the drop point."""
    import pandas as pd

    return pd.DataFrame({"level": bar_ends(drop), "shown": height, "delta": drop["eps"]})


def _across(curves: Sequence[Curve]) -> Axis:
    if all(curve.is_on_weights for curve in curves):
        return Axis("level", "Weights removed", unit="share of the scope", bounds=(0, 1))
    return Axis("level", "Removed", unit="share of its own denominator", bounds=(0, 1))


def _axis(curves: Sequence[Curve], measure: Measure, eps: float | None, data: Frame) -> Axis:
    unit = str(curves[0].of(measure.metric)["unit"].iloc[0])
    if measure is NEAR:
        reach = eps if eps is not None else 0.1
        return Axis("shown", "Loss above dense", unit=unit, bounds=(-reach, _REACH * reach))
    if measure is PERPLEXITY:
        return Axis("shown", "Perplexity", scale="log")
    title = measure.title if measure.metric in ("loss", "accuracy", "kl") else f"{measure.title}, more than dense"
    if not measure.log:
        return Axis("shown", title, unit=unit)
    top = float(np.nanmax(data[["shown", "high"]].to_numpy(float)))  # a flat curve lies at the foot of the axis, not in its middle
    return Axis("shown", title, unit=unit, scale="log", bounds=(0.7 * FLOOR, 1.5 * max(top, 10 * FLOOR)))


def _sentence(curves: Sequence[Curve], measure: Measure) -> str:
    models = list(dict.fromkeys(str(curve.run.provenance.get("model_label") or curve.run.model) for curve in curves))
    rows = curves[0].of(measure.metric)
    n, documents = (sorted({int(curve.of(measure.metric)[name].max()) for curve in curves}) for name in ("n", "n_documents"))
    texts = list(dict.fromkeys(curve.data for curve in curves))
    band = "with the 95 % interval of its increase over dense" if measure is PERPLEXITY else "with 95 % intervals over documents"
    of = "of weights " if all(curve.is_on_weights for curve in curves) else ""
    what = "Perplexity" if measure is PERPLEXITY else measure.title if measure is not NEAR else "Loss above dense, near its tolerance,"
    return (
        f"{what} of {' and '.join(models)} over the share {of}removed, on {_span(n)} positions of {_span(documents)} documents "
        f"({rows['split'].iloc[0]} of {' and '.join(texts)}), {band}; {count(len(curves), 'curve')}."
    )


def _span(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _notes(curves: Sequence[Curve], measure: Measure) -> list[str]:
    found = [endless(curve, measure) for curve in curves]
    if measure.log and measure is not PERPLEXITY:
        found.append(f"Differences below {FLOOR:g}, negative ones among them, are drawn at {FLOOR:g}; hovering shows their value.")
    if measure is NEAR:
        found.append("The axis ends at four tolerances: what is worse lies above the picture.")
    found.append(no_continuum([curve.label for curve in curves if curve.is_patterns]))
    if measure is not PERPLEXITY and len({curve.run.model for curve in curves}) > 1:
        found.append("Each curve is measured against the dense model of its own run.")
    told = list(dict.fromkeys(curve.denominator for curve in curves if "denominator" in curve.facts))
    return [*found, *([f"Denominator: {' and '.join(told)}."] if told else [])]


def endless(curve: Curve, measure: Measure) -> str:
    """Levels at which there is nothing to draw because the loss is infinite or no number, in words; empty where there are none."""
    rows = curve.of(measure.metric)
    gone = rows[rows["perplexity" if measure is PERPLEXITY else "delta"].isna()]
    if not len(gone):
        return ""
    levels = ", ".join(percent(level) for level in gone["level"])
    why = "infinite or beyond 1e300" if measure is PERPLEXITY else "infinite or no number"
    return f"{curve.label}: at {levels} removed the {'perplexity' if measure is PERPLEXITY else measure.metric} is {why}, so not drawn."


def comparable(curves: Sequence[Curve]) -> tuple[list[Curve], list[Curve]]:
    """Those in the unit of the first curve, and those that are not: they cannot share its axis."""
    unit = unit_of(curves[0])
    return [curve for curve in curves if unit_of(curve) == unit], [curve for curve in curves if unit_of(curve) != unit]


def draw(shown: Picture) -> Any:
    """The picture for Plotly: bars in the colour of their curves, the tolerance thin and dotted, neither in the legend."""
    from figures.screen import to_plotly
    from figures.screen_layout import plain

    figure: Any = to_plotly(shown.spec)
    there = set(shown.spec.data["series"])
    names = [name for name in shown.spec.series.order if name in there] if shown.spec.series else []
    colours = {names[trace.meta]: trace.line.color for trace in figure.data if trace.meta is not None}
    for trace in figure.data:
        if trace.meta is None:
            continue
        name = names[trace.meta]
        if name == shown.tolerance:
            trace.update(mode="lines", line={"color": "rgba(128,128,128,0.9)", "width": 1.5, "dash": "dot"}, hoverinfo="skip")
        elif name in shown.bars:
            colour, words = colours[shown.bars[name][0]], shown.bars[name][1]
            symbol = {"symbol": "line-ns-open", "size": 15, "line": {"width": 3, "color": colour}, "color": colour}
            line = {"color": colour, "width": 5, "dash": "solid"}
            trace.update(mode="lines+markers", line=line, marker=symbol, showlegend=False, hovertext=plain(words))
    figure.update_layout(height=440)
    figure.update_xaxes(tickformat=".0%", dtick=0.1, range=[-0.01, 1.01])
    return figure
