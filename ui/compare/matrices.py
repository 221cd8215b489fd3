"""Matrices of two models, matched by name: zeros, structure and concentration, and which matrices changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from figures.layer_maps import layer_map
from figures.spec import Axis, FigureSpec
from store import RunInfo
from ui import data
from ui.charts import show_spec
from ui.compare.changes import by_measure, changes, floats
from ui.compare.matching import BASE, Matched, matched_tensors
from ui.compare.section import Pair, Value, ranked, side_by_side, unit_address, value_columns
from ui.links import RUN_PAGE, START_PAGE, TENSOR_PAGE, run_query, tensor_query
from ui.runs import readable, reference_of, weights_of
from ui.tables import shown_text
from ui.weights.maps import largest_roles
from ui.weights.measures import MEASURES as ALL
from ui.weights.measures import OF_TENSORS
from ui.weights.runs import DIFF
from ui.weights.view import DERIVE
from ui.words import count, plain

MEASURES: Mapping[str, str] = {name: measure.column for name, measure in OF_TENSORS.items()}
_KEPT = ("tensor", "layer", "kind", "role", "shape", "tied", "n_weights", "n_rows", "structure")


def matrices(pairs: Sequence[Pair], closer: Pair | None) -> None:
    """Totals of all models; of the pair looked at closer what changed by which measure, the map and the ranked list."""
    side_by_side(totals(pairs), pairs, key="weight-totals", alt="One row per total: its value for each model, and the difference.")
    if closer is None:
        return
    matched = matched_weights(data.store_folder(), closer.run, closer.base)
    _alone(closer, matched)
    if not len(matched.rows):
        return
    _measures(closer, matched)
    names = list(MEASURES)
    name = st.selectbox("Map and rank matrices by", names, names.index("zeros"), key="matrices_by", bind="query-params", width=230)
    spec = map_spec(closer, matched, name)
    if spec is not None:
        show_spec(spec, closer.provenance, name="compare-matrices", key="compare-matrices")
    found = changes(matched, MEASURES[name])
    ranked(closer, found, name, _columns(closer, name), _table(closer, found.rows), "tensor", key=f"ranked-matrices-{name}")
    if found.n_changed:
        st.caption("Every weight was read, so these differences are exact: there is no noise to test against.")
    entry_by_entry(closer)


def totals(pairs: Sequence[Pair]) -> list[tuple[str, Mapping[str, Value], bool]]:
    """Rows of the table: weights and zeros, over all weights and over those of block matrices."""
    runs = {pairs[0].first.letter: pairs[0].base} | {pair.side.letter: pair.run for pair in pairs}
    rows: list[tuple[str, Mapping[str, Value], bool]] = []
    for scope, of in (("all weights", "all weights"), ("block matrices", "weights of block matrices")):
        here = {letter: next((row for row in run.summaries.get("totals", ()) if row["scope"] == scope), {}) for letter, run in runs.items()}
        for column, words, share in (
            ("n_weights", of, False),
            ("zero_share", f"exact zeros of {of}", True),
            ("near_zero_share", f"near zeros of {of}", True),
        ):
            rows.append((words, {letter: row.get(column) for letter, row in here.items()}, share))
    return rows


@st.cache_data(max_entries=16, show_spinner="Matching matrices by name …", hash_funcs={RunInfo: lambda run: run.id})
def matched_weights(folder: str, run: RunInfo, base: RunInfo) -> Matched:
    """Tensors of both, with every measure of `weight_sparsity`."""
    opened = data.open_store(folder)
    frames = []
    for one in (run, base):
        there = {known.name for info in opened.table_info(one) for known in info.columns}
        wanted = list(dict.fromkeys([*_KEPT, *(column for column in MEASURES.values() if column in there)]))
        frames.append(opened.read(one, "tensors", columns=wanted, derive=DERIVE))
    return matched_tensors(frames[0], frames[1])


def _alone(pair: Pair, matched: Matched) -> None:
    parts = [
        f"{count(n, 'tensor')} of {side.letter}" for n, side in ((matched.n_alone, pair.side), (matched.n_alone_base, pair.first)) if n
    ]
    if parts:
        st.caption(f"{' and '.join(parts)} have no partner of the same name and shape in the other model, and are in no difference here.")


def _measures(pair: Pair, matched: Matched) -> None:
    """Which measures changed at all, so that the right one is looked at."""
    import pandas as pd

    told = by_measure(matched, MEASURES)
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    with st.expander("By which measures the matrices differ", icon=":material/rule:"):
        st.dataframe(
            pd.DataFrame(told), hide_index=True, height="content", alt="One row per measure: how many matrices differ by it.",
            column_config={"measure": text("measure"), "differ": number("tensors that differ", format="localized"),
                           "of": number("of", format="localized"), "largest": number(f"largest, {pair.minus}", format="%+.4g")},
        )  # fmt: skip


def map_spec(pair: Pair, matched: Matched, name: str) -> FigureSpec | None:
    """The difference, layer by matrix, grey where there is none; None where no matrix lies in a block."""
    rows = matched.rows
    gap = floats(rows[MEASURES[name]]) - floats(rows[MEASURES[name] + BASE])
    inside = (rows["layer"].notna() & (rows["n_rows"] > 0) & ~np.isnan(gap)).to_numpy(bool)
    if not inside.any():
        return None
    column = MEASURES[name]
    shown = largest_roles(rows.assign(difference=gap, first=rows[column + BASE], second=rows[column])[inside])
    shown = shown.assign(layer=shown["layer"].astype(int)).sort_values("layer", kind="stable")
    reach = float(shown["difference"].abs().max()) or 1.0
    unit = ALL[name].unit
    return layer_map(
        shown,
        Axis("difference", f"{ALL[name].label}, {pair.minus}", unit, bounds=(-reach, reach)),
        title=f"Matrices, {pair.minus}",
        sentence=f"{ALL[name].label} of each matrix in the blocks of {pair.side.name} minus that of the matrix of the same name of "
        f"{pair.first.name}; n = {count(len(shown), 'matrix', 'matrices')} with {int(shown['n_weights'].sum()):,} weights each side.",
        hover=("first", "second", "n_weights"),
        notes=("Grey is no difference.", *pair.notes),
        down=Axis("place", "Matrix", scale="category"),
    )


def _table(pair: Pair, rows: Any) -> Any:
    shown = rows.assign(
        name=[shown_text(str(one)) for one in rows["tensor"]],
        in_base=[unit_address(TENSOR_PAGE, tensor_query(pair.base, str(one))) for one in rows["tensor" + BASE]],
        in_run=[unit_address(TENSOR_PAGE, tensor_query(pair.run, str(one))) for one in rows["tensor"]],
    )
    return shown[["name", "base", "value", "change", "structure" + BASE, "structure", "n_weights", "in_base", "in_run"]]


def _columns(pair: Pair, name: str) -> dict[str, Any]:
    text = st.column_config.TextColumn
    return {
        "name": text("tensor", pinned=True, width=250),
        **value_columns(pair, name),
        "structure" + BASE: text(f"structure, {pair.first.letter}"),
        "structure": text(f"structure, {pair.side.letter}"),
        "n_weights": st.column_config.NumberColumn("weights", format="localized"),
    }


def entry_by_entry(pair: Pair) -> None:
    """The comparison weight by weight, which is an analysis of its own: where it is, or how to make it."""
    wanted = {weights_of(pair.run), weights_of(pair.base)}
    made = next((one for one in readable(DIFF) if {weights_of(one), weights_of(one, "base")} == wanted), None)
    if made is not None:
        st.page_link(RUN_PAGE, label="Compared weight by weight", icon=":material/difference:", query_params=run_query(made))
        return
    model, base = reference_of(pair.run), reference_of(pair.base)
    st.caption("These are numbers of whole matrices. Weight by weight (what changed, mask overlap, rank of the change):")
    with st.container(horizontal=True, vertical_alignment="center"):
        query = {"analysis": DIFF, "model": model}
        label = f"Compare {plain(pair.side.name)} weight by weight"
        st.page_link(START_PAGE, label=label, icon=":material/play_arrow:", query_params=query, width="content")
        st.code(data.command(DIFF, model, **{"with": f"base={base}"}), language=None, wrap_lines=True)
