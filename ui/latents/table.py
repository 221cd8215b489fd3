"""The table of latents, in step with the scatter: sorted, filtered and paged by the database. A click on a row opens its latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.stats.intervals import CLASSES
from figures.palettes import inks
from store import Filter, Order
from ui import data
from ui.controls import PAGE_SIZES, rows_control, sort_controls
from ui.latents.charts import OPEN
from ui.latents.labels import labels_of
from ui.latents.saes import Sae
from ui.latents.view import MEASURES, View, promoted
from ui.notes import LABEL, label_heading
from ui.paging import asked_page
from ui.python import copy_as_python
from ui.tables import shown_text
from ui.words import count, plain

DUPLICATE = "duplicate"
COLUMNS = {
    "density": "Density",
    "n_active": "Tokens",
    "documents_active": "Documents",
    "max": "Largest",
    "mean": "Mean active",
    "activations_per_window": "Per window",
    "max_decoder_cosine": "Nearest",
    "encoder_decoder_cosine": "Enc · dec",
    "logit_skewness": "Logit skew",
    "logit_kurtosis": "Logit kurtosis",
}
"""Columns with their short headings; pointing at one tells its unit and meaning."""


def show_table(sae: Sae, view: View, found: int) -> None:
    """One page of the latents that meet the filters."""
    comments = _comments(view)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("## Table", width="stretch")
        sort, descending = sort_controls([name for name, column in MEASURES.items() if column in comments], "number")
        limit = rows_control()
    if not found:
        st.info("No latent meets all of these filters; loosen one of them.", icon=":material/filter_alt:")
        return
    order_by = (Order(MEASURES[sort], descending=descending), Order("latent")) if sort else (Order("latent"),)
    n_pages = -(-found // limit)
    page = min(asked_page(), n_pages)
    names = tuple(dict.fromkeys([*COLUMNS, *([MEASURES[sort]] if sort else [])]))
    names = tuple(name for name in names if name in comments)
    frame = data.ask(
        view.run, "read", "latents", columns=("latent", "class", "near_duplicate", *names), where=view.where, order_by=order_by,
        limit=limit, offset=(page - 1) * limit,
    )  # fmt: skip
    latents = [int(one) for one in frame["latent"]]
    shown = _readable(sae, view, frame, latents)
    said = f"Latents {(page - 1) * limit + 1:,} to {min(page * limit, found):,} of {found:,}."
    event = st.dataframe(
        shown, hide_index=True, column_config=_headings(comments, shown), height="content" if len(shown) <= PAGE_SIZES[0] else 860,
        placeholder="—", alt=f"One row per latent. {said}", on_select="rerun", selection_mode="single-cell",
        key=f"latents-{hash((view.run.id, view.where, order_by, limit, page))}",
    )  # fmt: skip
    chosen = event["selection"]["cells"]
    if chosen:
        st.session_state[OPEN] = latents[chosen[0][0]]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{said} Click a row to open the latent.")
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")
        where = tuple(one if not isinstance(one.value, tuple) else Filter(one.column, one.op, list(one.value)) for one in view.where)
        copy_as_python(view.run, "latents", where=where, order_by=order_by, rows=count(found, "row"))


def _readable(sae: Sae, view: View, frame: Any, latents: list[int]) -> Any:
    """Badges first, then what it promotes and the reader's label, then numbers."""
    pieces, labels = promoted(view.run, tuple(latents)), labels_of(sae)
    badges = [badges_of(row) for row in frame[["class", "near_duplicate"]].to_dict("records")]
    shown = frame.drop(columns=["class", "near_duplicate"])
    shown.insert(1, "badges", badges)
    if pieces:
        shown.insert(2, "promotes", [" · ".join(map(shown_text, pieces.get(one, ()))) for one in latents])
    if labels:
        shown.insert(2, LABEL, [labels[one].text if one in labels else None for one in latents])
    return shown


def badges_of(row: Any) -> list[str]:
    """What stands out about a latent, in a word each: its class, and whether another direction is nearly its own."""
    return [str(row["class"]), *([DUPLICATE] if row["near_duplicate"] else [])]


def _comments(view: View) -> dict[str, str]:
    return {column.name: column.comment for info in data.tables(view.run) if info.name == "latents" for column in info.columns}


def _headings(comments: Mapping[str, str], shown: Any) -> dict[str, Any]:
    config = st.column_config
    made: dict[str, Any] = {
        "latent": config.NumberColumn("Latent", help="Its number, from 0", format="%d", pinned=True),
        "badges": config.MultiselectColumn(
            "Class", help=plain(comments["class"]), options=[*CLASSES, DUPLICATE], disabled=True,
            color=[*(ink.colour for ink in inks("activity", CLASSES)), "#dadaeb"],
        ),
        "promotes": config.TextColumn("Promotes", help="Tokens whose logits it raises most; ␣: a space at an end", width="medium"),
        LABEL: label_heading(),
    }  # fmt: skip
    for name in shown.columns:
        if name not in made:
            whole = name in ("n_active", "documents_active")
            label = COLUMNS.get(name) or next(one for one, column in MEASURES.items() if column == name).capitalize()
            made[name] = config.NumberColumn(label, help=plain(comments[name]), format="localized" if whole else "%.4g")
    return made
