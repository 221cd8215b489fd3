"""Models at a glance: the bar code of each, their headline numbers with the difference, and the difference layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis import ANALYSES
from analysis.headlines import headlines, place, stripes
from figures.spec import Axis, FigureSpec
from figures.words import visible
from store import RunInfo
from ui.barcode import bar_code
from ui.charts import show_spec
from ui.compare.section import Contrast, Pair, Value, pairs_of, side_by_side
from ui.compare.sides import Answers, Side, answers
from ui.words import plain


def overview(sides: Sequence[Side], closer: str) -> None:
    """What each model is; then, of every question that both have answered, the numbers of its card side by side."""
    found = [answers(sides, one.slug) for one in ANALYSES if one.stripes or any(_told(side, one.slug) for side in sides)]
    for side in sides:
        _about(side, [one.runs[side.letter] for one in found if side.letter in one.runs])
    pairs = [pair for one in found for pair in pairs_of(sides, one)]
    if not pairs:
        st.markdown("No question has been answered of the first and another of these models, so there is no difference to show yet.")
        return
    _headlines(sides, found)
    _not_comparable(pairs)
    near = [pair for pair in pairs if pair.side.letter == closer]
    spec = stripes_spec(near)
    if spec is not None:
        told = [
            f"{pair.base.provenance.get('title') or pair.base.slug} ({pair.base.slug}, version {pair.base.version}): "
            f"run {pair.run.id} minus run {pair.base.id}."
            for pair in near
        ]
        sources = [source for pair in near for source in pair.base.provenance.get("sources") or ()]
        model = f"{near[0].side.name} minus {near[0].first.name}"
        origin = {"model": model, "told": told, "sources": sources, "runs": [pair.provenance for pair in near]}
        show_spec(spec, origin, name="compare-layers", key="compare-layers")


def _told(side: Side, slug: str) -> bool:
    return any(headlines(run) for run in side.runs(slug)[:1])


def _about(side: Side, runs: Sequence[RunInfo]) -> None:
    picture = bar_code(runs)
    st.markdown(f"### {side.letter} · {plain(side.name)}")
    if picture is None:
        st.caption("No bar code: nothing per layer has been measured yet.")
    else:
        st.image(picture.svg, width="stretch", alt=visible(f"{side.letter}, {side.name}: {picture.words}"))


def _headlines(sides: Sequence[Side], found: Sequence[Answers]) -> None:
    """One table for all questions; a number that is not comparable stands there and is said below."""
    rows: list[tuple[str, Mapping[str, Value], bool]] = []
    for one in found:
        pairs = pairs_of(sides, one)
        values: dict[str, dict[str, Value]] = {}
        for letter, run in one.runs.items():
            for headline in headlines(run):
                values.setdefault(headline.label, {})[letter] = headline.share
        rows += [(label, by_letter, True) for label, by_letter in values.items() if pairs]
    first, *others = sides
    if rows:
        st.markdown("### Headline numbers")
        whole = [Contrast(first, side) for side in others]
        side_by_side(rows, whole, key="headlines", alt="One row per headline number: its value for each model and the difference.")


def _not_comparable(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        for reason in pair.reasons:
            st.caption(f"{plain(pair.run.provenance.get('title') or pair.run.slug)}, {pair.minus}: not comparable. {plain(reason)}")


def stripes_spec(pairs: Sequence[Pair]) -> FigureSpec | None:
    """Layers by measures: how far the value moved along the colour scale of its row; None where no row is known of both."""
    import pandas as pd

    cells: list[dict[str, Any]] = []
    for pair in pairs:
        base = {stripe.label: values for stripe, values in stripes(pair.base)}
        for stripe, values in stripes(pair.run):
            cells += [
                {
                    "layer": layer, "measure": stripe.label, "moved": place(stripe, value) - place(stripe, base[stripe.label][layer]),
                    "first": base[stripe.label][layer], "second": value, "difference": value - base[stripe.label][layer],
                }
                for layer, value in sorted(values.items()) if layer in base.get(stripe.label, {})
            ]  # fmt: skip
    if not cells:
        return None
    frame = pd.DataFrame(cells).sort_values("layer", kind="stable").reset_index(drop=True)
    reach = max(abs(cell["moved"]) for cell in cells) or 1.0
    minus = pairs[0].minus
    return FigureSpec(
        kind="heatmap",
        data=frame,
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("measure", "Measure", scale="category"),
        colour=Axis("moved", f"Moved, {minus}", "share of the scale", bounds=(-reach, reach)),
        title=f"Bar codes, {minus}",
        sentence=f"How far each number of the bar code of {pairs[0].side.name} lies from that of {pairs[0].first.name}, layer by layer; "
        f"n = {len(frame):,} numbers of both.",
        hover=("first", "second", "difference"),
        notes=(
            "Grey is no difference. The scale of each row is that of its bar code, the same for every model.",
            *dict.fromkeys(reason for pair in pairs for reason in pair.reasons),
        ),
    )
