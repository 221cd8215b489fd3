"""Two interventions at once: whether what they cost the loss adds up, as a map of their levels or as a table."""

from __future__ import annotations

from typing import Any

import streamlit as st

from figures.spec import Axis, FigureError, FigureSpec
from store import RunInfo
from ui import data
from ui.charts import show_spec
from ui.words import percent, plain

TABLE = "combinations"
SHORT = 10
"""Rows that a table shows without being scrolled."""
Frame = Any


def combined(run: RunInfo) -> None:
    """One pair of interventions; nothing where no combination was asked for."""
    if not run.rows.get(TABLE):
        return
    rows: Frame = data.rows(run, TABLE)
    st.markdown("## Two at once")
    pairs = {f"{one} and {other}": part for (one, other), part in rows.groupby(["method", "other"], sort=False)}
    chosen = next(iter(pairs))
    if len(pairs) > 1:
        chosen = st.selectbox("Pair", list(pairs), key="pair", bind="query-params", format_func=str, width=420) or chosen
    part = pairs[chosen].sort_values(["other_level", "level"]).reset_index(drop=True)
    try:
        if min(part["level"].nunique(), part["other_level"].nunique()) > 1 and part["excess"].notna().any():
            show_spec(grid_spec(part, _unit(run)), run.provenance, name="plane-combined", key="combined")
    except FigureError as error:
        st.caption(plain(error))
    _table(part, _unit(run))
    harm, share = int((part["excess_low"] > 0).sum()), int((part["excess_high"] < 0).sum())
    st.caption(
        f"Excess: the increase with both minus the increase with each alone. Of {len(part):,} combinations {harm:,} cost more than their "
        f"parts (the interval lies above 0), {share:,} cost less: there both remove the same; for the others the data does not tell. "
        "Intervals are paired, over the same documents."
    )


def grid_spec(part: Frame, unit: str) -> FigureSpec:
    """Level by level, coloured by the excess. part: rows of one pair."""
    one, other = str(part["method"].iloc[0]), str(part["other"].iloc[0])
    known = part[part["excess"].notna()]
    shown = known.assign(first=known["level"].map(percent), second=known["other_level"].map(percent)).reset_index(drop=True)
    return FigureSpec(
        kind="heatmap",
        data=shown,
        x=Axis("first", one, unit="share removed", scale="category"),
        y=Axis("second", other, unit="share removed", scale="category"),
        colour=Axis("excess", "Excess", unit=unit),
        title=f"{one} with {other}: more than the sum?",
        sentence=f"Increase of the loss with {one} and {other} at once, minus those of each alone, at {len(shown):,} pairs of levels.",
        hover=("excess_low", "excess_high", "delta", "delta_method", "delta_other"),
    )


def _table(part: Frame, unit: str) -> None:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = {
        "method": text("One"), "level": number("removes", format="percent"),
        "other": text("The other"), "other_level": number("removes ", format="percent"),
        "delta": number("Loss above dense", format="%+.3g", help=f"With both; {unit}"),
        "delta_method": number("one alone", format="%+.3g"), "delta_other": number("the other alone", format="%+.3g"),
        "excess": number("Excess", format="%+.3g", help="Above 0: more harm than both alone, together"),
        "excess_low": number("from", format="%+.3g", help="Lower end of its 95 % interval over documents"),
        "excess_high": number("to", format="%+.3g", help="Upper end of it"),
    }  # fmt: skip
    st.dataframe(
        part[list(config)], hide_index=True, column_config=config, placeholder="—", height="content" if len(part) <= SHORT else 400,
        alt="One row per combination of two levels: the increase of the loss with both, with each alone, and the excess.",
    )  # fmt: skip


def _unit(run: RunInfo) -> str:
    return str((run.provenance.get("facts") or {}).get("unit", ""))
