"""Curves of different runs side by side: the interval of their difference where they are paired, else why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import streamlit as st

from analysis.second_data import SECOND
from analysis.sensitivity.comparing import Compared, DocumentLosses, compare
from analysis.sensitivity.tables import SECOND_SET
from store import Filter
from ui import data
from ui.sensitivity.curves import Curve, unit_of
from ui.words import percent, plain

_MOST = 24
"""Pairs that are compared; each takes a tenth of a second."""


def between_runs(curves: Sequence[Curve], eps: float | None) -> None:
    """A row for every pair of curves from two runs, and a sentence for every reason why a pair cannot be compared."""
    import pandas as pd

    pairs = [(a, b) for a, b in combinations(curves, 2) if a.run.id != b.run.id and a.has_continuum and b.has_continuum]
    if eps is None or not pairs:
        return
    st.markdown("## Differences between runs")
    rows, refused = [], dict.fromkeys(why for a, b in pairs if (why := why_not(a, b)))
    for a, b in [pair for pair in pairs if not why_not(*pair)][:_MOST]:
        found = compared(a, b, eps)
        if found is None:
            refused["They were scored at other positions or documents."] = None
        else:
            rows.append(_row(a, b, found))
    if rows:
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, placeholder="—", height="content", column_config=_columns(curves[0], eps),
            alt="One row per pair of curves of two runs: the difference of their drop points and of their losses, with 95 % intervals.",
        )  # fmt: skip
        st.caption(
            "One minus the other on the same draws of the same documents, so noise that both share cancels: an interval that leaves out 0 "
            "tells the two apart even where their own intervals overlap. Losses are each above the dense model of its own run."
        )
    for why in refused:
        st.caption(f"Not compared by their difference: {plain(why)} Compare their intervals.")


def why_not(one: Curve, other: Curve) -> str | None:
    """Why two curves cannot be paired, as far as their runs tell; None where they can (foreign text)."""
    if unit_of(one) != unit_of(other):
        return f"their losses are in {unit_of(one)} and {unit_of(other)}."
    if _of_data(one) is None or _of_data(one) != _of_data(other):
        return f"{one.data} and {other.data} are other data, or read in another way."
    for name in ("seed", "split", "task"):
        a, b = (curve.run.config.get(name) for curve in (one, other))
        if a != b:
            return f"their setting {name} differs ({a} and {b}), and with it what was measured."
    return None


def _of_data(curve: Curve) -> str | None:
    """Fingerprint of the data that it was measured on."""
    role = SECOND if curve.key["data"] == SECOND_SET else "model"
    return ((curve.run.provenance.get("fingerprints") or {}).get(role) or {}).get("data")


def compared(one: Curve, other: Curve, eps: float) -> Compared | None:
    """Two curves on the same documents; None where the documents turn out to be others."""
    return _compared(data.store_folder(), one.run.id, one.where, other.run.id, other.where, eps)


@st.cache_data(max_entries=256, show_spinner=False)
def _compared(folder: str, run: str, where: tuple[Filter, ...], other: str, where_other: tuple[Filter, ...], eps: float) -> Compared | None:
    opened = data.open_store(folder)
    rows = [opened.read(opened.find(one), "point_losses", where=of) for one, of in ((run, where), (other, where_other))]
    curves = [DocumentLosses.of_rows(part) for part in rows]
    return compare(curves[0], curves[1], eps) if curves[0].is_on_the_documents_of(curves[1]) else None


def _row(one: Curve, other: Curve, found: Compared) -> dict[str, Any]:
    return {
        "one": one.label,
        "other": other.label,
        "difference": found.drop.value,
        "low": found.drop.low,
        "high": found.drop.high,
        "words": found.drop.words,
        "at": None if found.level is None else percent(found.level),
        "loss": found.loss.value,
        "loss_low": found.loss.low,
        "loss_high": found.loss.high,
        "loss_words": found.loss.words,
    }


def _columns(curve: Curve, eps: float) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    unit = unit_of(curve)
    return {
        "one": st.column_config.TextColumn("One"),
        "other": st.column_config.TextColumn("Other"),
        "difference": number(f"s*({eps:g}), difference", format="%+.3f", help="s* of one minus s* of the other; shares of the scope"),
        "low": number("from", format="%+.3f", help="Lower end of its 95 % interval over documents"),
        "high": number("to", format="%+.3f", help="Upper end of it"),
        "words": st.column_config.TextColumn("Drop points"),
        "at": st.column_config.TextColumn("At", help="A share removed that both measured, the nearest to their drop points"),
        "loss": number("Loss, difference", format="%+.3g", help=f"Loss of one minus the other there; {unit}"),
        "loss_low": number("from ", format="%+.3g", help="Lower end of its 95 % interval over documents"),
        "loss_high": number("to ", format="%+.3g", help="Upper end of it"),
        "loss_words": st.column_config.TextColumn("Losses"),
    }
