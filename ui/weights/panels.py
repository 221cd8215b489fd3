"""The parts of one tensor's page that are numbers and lists: flags, N of M, tiles, dead lines, and what it belongs to."""

from __future__ import annotations

from typing import Any

import streamlit as st

from store import Filter, Order, RunInfo
from ui import data
from ui.data import ask
from ui.links import NEURON_PAGE, NEURONS_PAGE
from ui.neighbours import show_heads
from ui.neurons.units import Unit, sites
from ui.runs import HEADS, NEURONS, beside, reference_of
from ui.tables import column_config, readable
from ui.weights.charts import Row
from ui.weights.rows import info_of
from ui.words import code, count, percent, plain, short

_NUMBERS = (
    ("zero_share", "Exact zeros"), ("near_zero_share", "Near zeros"), ("rms", "Root mean square"), ("max_abs", "Largest |w|"),
    ("pq_index", "PQ Index"), ("gini", "Gini"), ("hoyer", "Hoyer"), ("kurtosis", "Excess kurtosis"), ("mean", "Mean"),
)  # fmt: skip
_SHARES = ("zero_share", "near_zero_share")
_LINKED = 12
"""Dead lines that are named one by one as links to their neurons."""


def flags(row: Row) -> None:
    """What must be known of a tensor before its numbers, in words."""
    said = [f"Structure of its zeros: **{plain(row['structure'])}**" + _held(row)]
    tied = [str(name) for name in row["tied"]]
    if tied:
        said.append(f"Tied, the same numbers as {', '.join(code(name) for name in tied)}.")
    if row["constant"]:
        said.append("All of its weights are one number.")
    if row["n_matrices"] > 1:
        said.append(f"A stack of {row['n_matrices']:,} matrices of {row['n_rows'] // row['n_matrices']:,} × {row['n_columns']:,}.")
    if row["n_matrices"] and row["input_axis"] is None:
        said.append("Which axis its input runs along is not known; rows are its first axis as stored.")
    elif row["n_matrices"]:
        said.append(
            f"Its input runs along stored axis {row['input_axis']}, so it is {row['n_rows']:,} rows (outputs) by "
            f"{row['n_columns']:,} columns."
        )
    st.markdown(" ".join(said))
    if row["n_nonfinite"]:
        st.error(
            f"{count(row['n_nonfinite'], 'weight')} of it {'is' if row['n_nonfinite'] == 1 else 'are'} NaN or infinite and in no "
            "other number."
        )


def _held(row: Row) -> str:
    share = row["structure_share"]
    return f", which holds {percent(share)} of the {row['n_zero']:,} zeros." if share is not None else "."


def numbers(run: RunInfo, row: Row) -> None:
    """Its numbers, each with its meaning as help."""
    comments = {column.name: column.comment for info in data.tables(run) if info.name == "tensors" for column in info.columns}
    with st.container(horizontal=True, gap="small"):
        for name, label in _NUMBERS:
            if row[name] is not None:
                value = percent(row[name]) if name in _SHARES else short(row[name])
                st.metric(label, value, width=150, help=plain(comments[name]))


def patterns(run: RunInfo, row: Row) -> None:
    """N of M in both directions, with the first group against it; and tiles."""
    where = (Filter("tensor", "=", row["tensor"]),)
    st.markdown("## N of M, and tiles")
    columns = (
        "pattern", "along", "conforming_share", "retained_energy", "first_line", "first_group", "first_nonzeros", "n_conforming",
        "n_groups", "n_empty",
    )  # fmt: skip
    order = (Order("along"), Order("of"), Order("keep"))
    found = _table(run, "tensor_patterns", columns, where, order, "Groups of M that have at most N non-zeros.")
    if not found:
        st.caption("It has values that are not finite, or is no matrix, so it has no groups.")
        return
    st.caption(
        _first_words(
            ask(run, "read", "tensor_patterns", where=(*where, Filter("along", "=", "input"), Filter("pattern", "=", "2 of 4 kept")))
        )
    )
    _table(
        run,
        "tensor_blocks",
        ("side", "n_tiles", "zero_tile_share", "block_efficiency"),
        where,
        (Order("side"),),
        "Tiles that are all zero.",
    )


def _first_words(rows: Any) -> str:
    """Where 2 of 4 along the input first fails."""
    for row in rows.to_dict("records"):
        if int(row["n_conforming"]) == int(row["n_groups"]):
            return (
                f"2 of 4 along the input: all {count(int(row['n_groups']), 'group')} conform."
                if row["n_groups"]
                else "Too narrow for groups of 4."
            )
        groups = count(int(row["n_groups"]), "group")
        return (
            f"2 of 4 along the input: {int(row['n_conforming']):,} of {groups} conform. The first that does not: row "
            f"{int(row['first_line']):,}, "
            f"group {int(row['first_group']):,} (columns {4 * int(row['first_group']):,} to {4 * int(row['first_group']) + 3:,}), "
            f"with {int(row['first_nonzeros'])} non-zeros."
        )
    return ""


def _table(run: RunInfo, table: str, columns: tuple[str, ...], where: Any, order: Any, words: str) -> bool:
    info = info_of(run, table, columns)
    frame = ask(run, "read", table, columns=columns, where=where, order_by=order)
    if frame.empty:
        return False
    st.dataframe(readable(frame, info), hide_index=True, column_config=column_config(info), placeholder="—", alt=words, height="content")
    return True


def dead_lines(run: RunInfo, row: Row) -> None:
    """Rows and columns that are all zero."""
    for kind, total in (("row", row["n_zero_rows"]), ("column", row["n_zero_columns"])):
        if not total:
            continue
        where = (Filter("tensor", "=", row["tensor"]), Filter("line_kind", "=", kind))
        lines = ask(run, "read", "dead_lines", columns=("line",), where=where, order_by=(Order("line"),))["line"].tolist()
        more = f" and {total - len(lines):,} more" if total > len(lines) else ""
        n = row["n_rows"] if kind == "row" else row["n_columns"]
        st.markdown(f"**{count(total, kind)} of {n:,} {'is' if total == 1 else 'are'} all zero:** {', '.join(map(str, lines))}{more}.")
    if not row["n_zero_rows"] and not row["n_zero_columns"]:
        st.caption("None of its rows or columns is all zero.")


def belongs(run: RunInfo, row: Row) -> None:
    """The neurons and heads its lines are, with the way to them."""
    st.markdown("## What it belongs to")
    if row["kind"] == "ffn":
        _neurons(run, row)
    elif row["kind"] == "attention":
        _heads(run, row)
    else:
        st.caption(f"It is of kind {plain(row['kind'])}: its rows and columns are neither neurons nor heads.")


def _neurons(run: RunInfo, row: Row) -> None:
    activity = beside(run, NEURONS)
    here = [site for site in sites(activity) if site.layer == row["layer"]] if activity is not None else []
    if activity is None or not here:
        st.caption("It belongs to a feed-forward part. Which of its lines are neurons is told once the model's neurons have been measured:")
        st.code(data.command(NEURONS, reference_of(run)), language="bash", wrap_lines=True)
        return
    for site in here:
        n = site.n_neurons
        square = row["n_rows"] == row["n_columns"]  # then sizes do not tell which of them the neurons are
        lines = "" if square else "rows" if n == row["n_rows"] else "columns" if n == row["n_columns"] else ""
        does = {"rows": "Each of its rows writes one neuron of", "columns": "Each of its columns is read from one neuron of"}.get(
            lines, "It is beside"
        )
        st.markdown(f"{does} layer {plain(site.label)} ({count(n, 'neuron')}).")
        query = {"run": activity.id, "site": site.label}
        st.page_link(NEURONS_PAGE, label=f"Neurons of layer {plain(site.label)}", icon=":material/scatter_plot:", query_params=query)
        if lines:
            where = (Filter("tensor", "=", row["tensor"]), Filter("line_kind", "=", lines[:-1]))
            dead = ask(run, "read", "dead_lines", columns=("line",), where=where, order_by=(Order("line"),), limit=_LINKED)["line"].tolist()
            with st.container(horizontal=True, gap="small"):
                for line in dead:
                    unit = Unit(site, int(line))
                    st.page_link(NEURON_PAGE, label=f"{plain(unit.name)} (all zero here)", query_params=unit.query(activity))


def _heads(run: RunInfo, row: Row) -> None:
    if row["layer"] is None or not show_heads(run, int(row["layer"]), row["tensor"]):
        st.caption("It belongs to an attention part. Its heads are told once they have been measured:")
        st.code(data.command(HEADS, reference_of(run)), language="bash", wrap_lines=True)
