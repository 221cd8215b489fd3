"""The lines of Python that load what a view shows as a data frame."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from store import Filter, Order, RunInfo
from ui import data


def as_python(
    run: RunInfo, table: str, *, where: Sequence[Filter] = (), order_by: Sequence[Order] = (), threshold: float | None = None, folder: str
) -> str:
    """Lines to run in the folder of Sparsescope; they leave the rows in ``frame``."""
    names = [name for name, used in (("Filter", where), ("Order", order_by)) if used] + ["Store"]
    arguments = [repr(table)]
    if where:
        arguments.append("where=[" + ", ".join(f"Filter({f.column!r}, {f.op!r}, {f.value!r})" for f in where) + "]")
    if order_by:
        arguments.append("order_by=[" + ", ".join(f"Order({o.column!r}, descending={o.descending})" for o in order_by) + "]")
    lines = [f"from store import {', '.join(names)}", f"store = Store({folder!r})"]
    if threshold is None:
        return "\n".join([*lines, f"frame = store.read({', '.join([repr(run.id), *arguments])})"])
    lines = ["from analysis.neurons.thresholds import at_threshold", *lines, f"run = store.find({run.id!r})"]
    return "\n".join([*lines, f"frame = store.read({', '.join(['run', *arguments, f'derive=at_threshold(run, {threshold!r})'])})"])


def copy_as_python(
    run: RunInfo,
    table: str,
    *,
    where: Sequence[Filter] = (),
    order_by: Sequence[Order] = (),
    threshold: float | None = None,
    rows: str = "these rows",
    key: str | None = None,
) -> None:
    """The lines, with a button to copy them."""
    with st.popover("Copy as Python", icon=":material/code:", type="tertiary", key=key):
        st.caption(f"Loads {rows} as a data frame; run it in the folder of Sparsescope.")
        st.code(
            as_python(run, table, where=where, order_by=order_by, threshold=threshold, folder=data.store_folder()),
            language="python",
            wrap_lines=True,
        )
