"""Which tokens get worse: a few text windows as strips, each token coloured by how its loss changes at a measured level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from store import Filter
from ui import data
from ui.sensitivity.curves import Curve
from ui.strips import Group, Strip, show_strips
from ui.words import count, percent, plain

SLUG = "point_tokens"
EVERY = "all of them"
CAUSAL = "causal-lm"
_NOTICED = 0.1
"""Nats: a smaller change is told as none, and gets no full colour."""


def token_changes(curve: Curve, level: float | None) -> None:
    """The windows of a curve at one level; nothing where its run kept none, as for classifiers."""
    if level is None or not curve.run.rows.get(SLUG):
        return
    where = (*curve.where, Filter("level", "=", level))
    rows: Any = data.rows(curve.run, SLUG, where=where)
    if not len(rows):
        return
    st.markdown("### Which tokens get worse")
    if level == 0:
        st.caption("This is the dense model itself: choose a higher level above.")
        return
    names = {f"document {document}, window {example}": int(example) for example, document in _windows(rows)}
    chosen = st.selectbox("Document", [*names, EVERY], key="example", bind="query-params", width=420)
    shown = list(names.values()) if chosen == EVERY else [names.get(chosen or "", next(iter(names.values())))]
    task = str(curve.rows["task"].iloc[0])
    strips = [strip_of(rows[rows["example"] == example], task == CAUSAL) for example in shown]
    drawn = tuple(strip for strip in strips if strip is not None)
    if drawn:
        scale = max([_NOTICED, *(abs(value) for strip in drawn for value in strip.values if value is not None)])
        title = f"Loss of each token with {percent(level)} removed, minus that of the dense model"
        show_strips([Group(title, about(rows[rows["example"].isin(shown)]), drawn)], None, scale=scale, key="token_strips")
    st.caption(plain(_caption(curve, len(names), task)))


def _windows(rows: Any) -> list[tuple[int, int]]:
    return list(dict.fromkeys(zip(rows["example"].tolist(), rows["document"].tolist(), strict=True)))


def strip_of(rows: Any, causal: bool) -> Strip | None:
    """One window: its scored tokens in their order, the changes as values; None where no change is known.

    A causal model gives its answer one place before the token, so tokens stand one place further on. Places between that were not scored
    are dots.
    """
    rows = rows.sort_values("position")
    if rows["delta"].isna().all():
        return None
    places = (rows["position"].to_numpy(int) + causal).tolist()
    tokens, values = _filled(places, _texts(rows), [None if np.isnan(v) else float(v) for v in rows["delta"].to_numpy(float)])
    peak = max((i for i, value in enumerate(values) if value is not None), key=lambda i: values[i] or 0.0)
    where = f"document {int(rows['document'].iloc[0])}, window {int(rows['example'].iloc[0])}"
    mean = float(rows["delta"].mean())
    words = f"Window {int(rows['example'].iloc[0])}, mean change {mean:+.3g} nats, largest {values[peak]:+.3g}"
    return Strip(tuple(tokens), tuple(values), 1.0, peak, float(values[peak] or 0.0), where, words, first=places[0], rough=False)


def _texts(rows: Any) -> list[str]:
    return [f"#{token_id} " if text is None or text != text else str(text) for text, token_id in zip(rows["token"], rows["token_id"])]


def _filled(places: Sequence[int], texts: Sequence[str], values: Sequence[float | None]) -> tuple[list[str], list[float | None]]:
    """With a dot for each place between two scored ones."""
    known = dict(zip(places, zip(texts, values, strict=True), strict=True))
    every = range(places[0], places[-1] + 1)
    found = [known.get(place, ("·", None)) for place in every]
    return [text for text, _ in found], [value for _, value in found]


def about(rows: Any) -> str:
    """How the windows shown fare, in words."""
    known = rows["delta"].dropna()
    worse, better = int((known > _NOTICED).sum()), int((known < -_NOTICED).sum())
    lost = len(rows) - len(known)
    said = f"{count(len(rows), 'token')}: {worse:,} worse by more than {_NOTICED:g} nats, {better:,} better by more; "
    said += f"mean change {known.mean():+.3g} nats" if len(known) else "no change is known"
    return f"{said}; of {lost:,} the loss is infinite or no number." if lost else f"{said}."


def _caption(curve: Curve, n: int, task: str) -> str:
    what = "Only hidden tokens are scored" if task == "masked-lm" else "A token's loss: how surprised the model is by it after those before"
    return (
        f"{what}; dots and pale tokens were not scored. {count(n, 'window')} spread over the data were kept token by token: examples, "
        f"not a sample to count on. {curve.label}."
    )
