"""The planes as specs and for Plotly: loss over what is left of a cost, loss over the share removed, and loss over L0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.interventions.entry import RUNS_ON, TARGETS
from analysis.sensitivity.curve_figures import FLOOR
from analysis.sensitivity.plane_figures import LABELS, draw_achieved
from figures.palettes import inks
from figures.spec import Axis, FigureSpec, NothingToDraw, Series
from store import RunInfo
from ui.sensitivity.plane import DECODE, Frame, Place, View, is_pair
from ui.words import count

SYMBOLS: Mapping[str, str] = {
    "weights": "circle", "activations": "square", "attention": "diamond", "structure": "cross", "tokens": "triangle-up",
}  # fmt: skip
SHAPES = {"weights": "discs", "activations": "squares", "attention": "diamonds", "structure": "crosses", "tokens": "triangles"}
_REACH = 4
_GREY = "rgba(128,128,128,0.9)"


def colours() -> dict[str, str]:
    """The colour of each class, the same in every panel whatever is filtered away."""
    return {name: ink.colour for name, ink in zip(RUNS_ON, inks("qualitative", RUNS_ON), strict=True)}


def plane_spec(run: RunInfo, found: Frame, place: Place, view: View, words: str) -> FigureSpec:
    """One panel. found: its points; words: the operating point."""
    known = found[found["delta"].notna()].reset_index(drop=True)
    if not len(known):
        raise NothingToDraw(_nothing(found, place))
    floor = None if view.near else FLOOR
    known = known.assign(shown=known["delta"] if floor is None else known["delta"].clip(lower=floor))
    label, _ = LABELS[place.phase]
    at = f"{place.context:,} positions" if place.context > 1 else "one example"
    title = f"{label}, B = {place.batch}" if place.phase == DECODE else label
    return FigureSpec(
        kind="scatter",
        data=known,
        x=Axis("share", label, unit="share of dense"),
        y=_height(_unit(run), view),
        series=Series("runs_on", "Can be used by", order=tuple(one for one in RUNS_ON if (known["runs_on"] == one).any())),
        title=title,
        sentence=f"Increase of the loss of {run.provenance.get('model_label') or run.model} over what is left of the cost, "
        f"{lower(label)} at {at}: {count(known['method'].nunique(), 'intervention')} at {count(len(known), 'level')}, "
        f"{count(int(known['front'].sum()), 'point')} of them on a front.",
        hover=("method", "target", "level", "achieved", "delta", "low", "high", "absolute", "unit", "front"),
        notes=(f"Operating point: {words}.", *_left_out(found, known), *([] if view.near else [_FLOORED])),
    )


def lower(label: str) -> str:
    """A label within a sentence: ``FLOPs`` stays."""
    return label if label[1:2].isupper() else f"{label[:1].lower()}{label[1:]}"


def _height(unit: str, view: View) -> Axis:
    if view.near and view.eps is not None:
        return Axis("shown", "Loss above dense", unit=unit, bounds=(-view.eps, _REACH * view.eps))
    return Axis("shown", "Loss above dense", unit=unit, scale="log")


_FLOORED = f"Differences below {FLOOR:g}, negative ones among them, are drawn at {FLOOR:g}; hovering shows their value."


def _nothing(found: Frame, place: Place) -> str:
    if len(found):
        return "The loss of every level shown is infinite or no number."
    if place.phase == DECODE:
        return "No such cost: nothing is decoded, or the model keeps no keys and values that could be seen; or the filters leave nothing."
    return "The filters leave no intervention."


def _left_out(found: Frame, known: Frame) -> list[str]:
    gone = len(found) - len(known)
    return [f"{count(gone, 'point')} not drawn: the loss there is infinite or no number."] if gone else []


def _unit(run: RunInfo) -> str:
    return str((run.provenance.get("facts") or {}).get("unit", ""))


def draw_plane(spec: FigureSpec, view: View, across: tuple[float, float]) -> Any:
    """The panel for Plotly: shapes by target, the fronts as lines, the intervention looked at as a thin line, the tolerance dotted."""
    import plotly.graph_objects as go

    from figures.screen import to_plotly

    figure: Any = to_plotly(spec)
    shade = colours()
    for trace in figure.data:
        rows = spec.data.iloc[[one[0] for one in trace.customdata]]
        front = rows["front"].tolist()
        trace.marker.update(
            color=shade[str(rows["runs_on"].iloc[0])], symbol=[SYMBOLS.get(one, "circle") for one in rows["target"]],
            opacity=[1.0 if one else 0.65 for one in front], size=[10 if one else 6 for one in front],
            line={"width": [1.5 if one else 0 for one in front], "color": _GREY},
        )  # fmt: skip
        trace.update(showlegend=False)  # with shapes of several targets, none of them stands for the class
        key = {"color": shade[str(rows["runs_on"].iloc[0])], "size": 9}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=trace.name, legendgroup=trace.legendgroup))
    quiet = {"hoverinfo": "skip", "showlegend": False}
    data: Frame = spec.data
    for name, part in data[data["front"]].sort_values(["share", "shown"]).groupby("runs_on", sort=False):
        line = {"color": shade[str(name)], "width": 1.5, "shape": "hv"}
        figure.add_trace(go.Scatter(x=part["share"], y=part["shown"], mode="lines", line=line, opacity=0.6, **quiet))
    own = data[data["method"] == view.one].sort_values("level")
    if len(own):
        ring = {"symbol": "circle-open", "size": 17, "color": _GREY, "line": {"width": 2}}
        line = {"color": _GREY, "width": 1.5, "dash": "dot"}
        figure.add_trace(go.Scatter(x=own["share"], y=own["shown"], mode="lines+markers", line=line, marker=ring, **quiet))
    if view.eps is not None:
        figure.add_hline(y=max(view.eps, 0.0 if view.near else FLOOR), line={"color": _GREY, "width": 1.5, "dash": "dot"})
    figure.add_vline(x=1, line={"color": _GREY, "width": 1})
    figure.update_layout(height=420, margin={"t": 10}, legend={"y": -0.22, "yanchor": "top"})
    figure.update_xaxes(tickformat=".0%", range=list(across))
    return figure


def reach(found: Sequence[Frame]) -> tuple[float, float]:
    """The range of costs that all panels of one phase share, the dense model's always in it."""
    shares = [float(value) for rows in found for value in rows["share"]] or [1.0]
    low, high = min(1.0, *shares, 1.0), max(1.0, *shares, 1.0)
    edge = 0.04 * max(high - low, 0.05)
    return low - edge, high + edge


def achieved_spec(run: RunInfo, rows: Frame, target: str | None, view: View) -> FigureSpec:
    """Loss over the share removed, of everything shown or of one target, by the analysis' own drawing; pairs have their own place."""
    alone = [not is_pair(method) for method in rows["method"]]
    return draw_achieved(target, rows[view.keeps(rows) & alone], run.provenance)


def by_target(spec: FigureSpec) -> Any:
    """Lines of all targets on one pair of axes: a colour for each target, a legend of those."""
    figure: Any = _lines(spec)
    shade = {name: ink.colour for name, ink in zip(TARGETS, inks("qualitative", TARGETS), strict=True)}
    target_of = dict(zip(spec.data["method"], spec.data["target"], strict=True))
    seen: set[str] = set()
    names = {str(one): target_of[one] for one in (spec.series.order if spec.series else ())}
    order = list(names)
    groups = {str(i): name for i, name in enumerate(order)}
    for trace in figure.data:
        target = names[groups[trace.legendgroup]]
        if trace.meta is None:
            trace.visible = False  # thirty bands over each other hide their lines; hovering shows each interval
            continue
        trace.line.update(color=shade[target], dash="solid", width=1.5)
        trace.update(marker={"symbol": SYMBOLS[target], "size": 6, "color": shade[target]}, name=target, showlegend=target not in seen)
        trace.legendrank = TARGETS.index(target) + 1
        trace.legendgroup = target
        seen.add(target)
    figure.update_layout(height=440, legend={"title": {"text": "Acts on"}})
    return figure


def _lines(spec: FigureSpec) -> Any:
    from figures.screen import to_plotly

    figure: Any = to_plotly(spec)
    figure.update_xaxes(tickformat=".0%", range=[-0.01, 1.01])
    return figure


def small(spec: FigureSpec, top: float) -> Any:
    """Lines of one target, as one of several small pictures of the same height: up to ``top``."""
    figure = _lines(spec)
    figure.update_yaxes(range=[math.log10(0.7 * FLOOR), math.log10(1.5 * max(top, 10 * FLOOR))])
    figure.update_layout(height=340, margin={"t": 10}, legend={"y": -0.25, "yanchor": "top", "title": {"text": ""}})
    return figure
