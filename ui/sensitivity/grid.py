"""Every matrix pruned alone: layer by matrix at a level, by loss, drop point or area; the ranking, and one matrix' own curve."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.sensitivity.matrix_figures import ALONE, MIDDLE, draw_grid, draw_parts, draw_ranking
from figures.screen import PLOTLY_CONFIG
from figures.spec import Axis, FigureError, FigureSpec, NothingToDraw
from store import Filter, RunInfo
from ui import data
from ui.charts import clickable, export_menu, show_spec
from ui.links import RUN_PAGE, START_PAGE, run_query
from ui.neighbours import tensor_link
from ui.runs import reference_of, weights_of
from ui.words import code, percent, plain

SLUG = "matrix_sensitivity"
MATRIX = "matrix"
"""The address' name for the matrix looked at."""
LOSS, DROP = "Loss at a level", "Drop point"
MATRICES = "matrix"


def newest(slug: str, table: str, weights: str | None = None) -> RunInfo | None:
    """The newest sealed run of an analysis that has this table, on these weights; on any where none are given."""
    there = [run for run in data.current_runs(slug) if run.rows.get(table)]
    return next((run for run in there if weights is None or weights_of(run) == weights), None)


def grid(of: RunInfo) -> RunInfo | None:
    """The grid of the model of a run, or the way to it; the run it is from."""
    st.header("Every matrix alone", anchor="matrices")
    run = newest(SLUG, "matrix_points", weights_of(of))
    if run is None:
        _how_to(reference_of(of))
        return None
    kinds = sorted({row["kind"] for row in run.summaries.get("matrix_ranking", ())}, key=lambda one: (one != MATRICES, one))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = kinds[0]
        if len(kinds) > 1:
            kind = st.segmented_control("Of", kinds, default=kind, required=True, key="kind", bind="query-params") or kind
        shown = st.segmented_control("Colour", [LOSS, DROP], default=LOSS, required=True, key="colour", bind="query-params") or LOSS
        st.page_link(RUN_PAGE, label="Its run, all tables", icon=":material/analytics:", query_params=run_query(run))
    points: Any = data.rows(run, "matrix_points", where=(Filter("kind", "=", kind),))
    ranking = [row for row in run.summaries["matrix_ranking"] if row["kind"] == kind]
    try:
        _show(run, drop_spec(run, ranking) if shown == DROP else _loss_spec(run, points, kind))
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")
    one_matrix(run, points, ranking)
    ranked(run, kind)
    _proxies(run, kind)
    return run


def _how_to(model: str) -> None:
    st.markdown("Which matrix hurts most when it is pruned alone has not been measured on this model.")
    query = {"analysis": SLUG, "model": model}
    st.page_link(START_PAGE, label="Measure every matrix alone", icon=":material/play_arrow:", query_params=query)


def _loss_spec(run: RunInfo, points: Any, kind: str) -> FigureSpec:
    """The declared figure, at the level chosen."""
    levels = sorted(points.loc[points["stage"] == "grid", "level"].unique())
    texts = {percent(level): level for level in levels if level > 0}
    if not texts:
        raise NothingToDraw("No level has been measured.")
    chosen = next(iter(texts))
    if len(texts) > 1:
        usual = percent(min(texts.values(), key=lambda one: abs(one - MIDDLE)))
        chosen = st.select_slider("Level of each alone", list(texts), usual, key="alone", bind="query-params")
    rows = points[(points["level"] == texts[chosen]) & (points["stage"] == "grid")]
    return draw_grid(rows, run.provenance) if kind == MATRICES else draw_parts(rows, run.provenance)


def drop_spec(run: RunInfo, ranking: list[dict[str, Any]]) -> FigureSpec:
    """Drop point of each alone: layer by matrix, blank where there is none."""
    import pandas as pd

    frame: Any = pd.DataFrame(ranking).sort_values(["layer", "role"], kind="stable").reset_index(drop=True)
    frame["place"] = [
        "outside" if missing else str(int(layer)) for layer, missing in zip(frame["layer"], frame["layer"].isna(), strict=True)
    ]
    kind, several = str(frame["kind"].iloc[0]), frame.duplicated(["place", "role"]).any()
    number = frame.groupby(["place", "role"]).cumcount().astype(str)
    frame = frame.assign(what=number if several else frame["role"], drop=pd.to_numeric(frame["drop"]))
    known, eps = int(frame["drop"].notna().sum()), float(frame["eps"].iloc[0])
    return FigureSpec(
        kind="heatmap",
        data=frame[["place", "what", "drop", "tensor", "words", "rank", "n_weights"]],
        x=Axis("place", "Layer", scale="category"),
        y=Axis("what", kind.capitalize(), scale="category"),
        colour=Axis("drop", f"s*({eps:g})", unit="share of it", bounds=(0, 1)),
        title=f"How much of one {kind} may go",
        sentence=f"Largest share of each {kind} of {run.model} that may go alone before the loss rises by {eps:g}; {known:,} of "
        f"{len(frame):,} leave the tolerance within the measured levels.",
        hover=("tensor", "words", "rank", "n_weights"),
        notes=("A blank place does not leave the tolerance there, or noise hides it: look at it below.", ALONE),
    )


def _show(run: RunInfo, spec: FigureSpec) -> None:
    figure = clickable(spec)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"### {plain(spec.title)}")
        export_menu(spec, run.provenance, name="sensitivity-matrices", key="matrices")
    key = f"matrices-{run.id}-{spec.title}"
    st.session_state["_matrices"] = (key, spec.data["tensor"].tolist())
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key, on_select=_choose, selection_mode="points")
    st.caption(" ".join(plain(one) for one in (spec.sentence, *spec.notes, "Click a cell to look at it.")))


def _choose() -> None:
    key, tensors = st.session_state["_matrices"]
    chosen = st.session_state[key]["selection"]["points"]
    if chosen:
        row = chosen[0]["customdata"]
        st.session_state[MATRIX] = tensors[int(row[0] if isinstance(row, (list, tuple)) else row["0"] if isinstance(row, dict) else row)]


def one_matrix(run: RunInfo, points: Any, ranking: list[dict[str, Any]]) -> None:
    """One of them, chosen by name or by a click: its rank, its drop point, its curve, and the way to its own page."""
    names = list(dict.fromkeys(points["tensor"]))
    name = st.selectbox(
        "One of them", names, None, placeholder="click a cell, or choose one", key=MATRIX, bind="query-params", format_func=str
    )
    if name is None:
        return
    row = next((one for one in ranking if one["tensor"] == name), None)
    if row is not None:
        st.markdown(f"**{code(name)}**: {plain(ranking_words(row, len(ranking)))}")
    own = points[points["tensor"] == name].sort_values("level")
    try:
        show_spec(matrix_spec(own, name), run.provenance, name="sensitivity-matrix", key="one-matrix")
    except FigureError as error:
        st.caption(f"Its curve cannot be drawn: {plain(error)}")
    if str(own["kind"].iloc[0]) == "matrix":
        tensor_link(run, name)


def ranking_words(row: dict[str, Any], n: int) -> str:
    """How sensitive one is among its kind (foreign text)."""
    if row["rank"] is None:
        return f"{row['words']}."
    between = f" (between {row['rank_low']} and {row['rank_high']} in 95 % of the draws)" if row["rank_low"] is not None else ""
    return f"number {row['rank']} of {n} by sensitivity{between}; s*({row['eps']:g}): {row['words']}."


def matrix_spec(own: Any, name: str) -> FigureSpec:
    """Loss over the share removed of one, with its band."""
    row = own.iloc[0]
    return FigureSpec(
        kind="line",
        data=own.reset_index(drop=True),
        x=Axis("level", "Removed", unit="share of it", bounds=(0, 1)),
        y=Axis("delta", "Loss above dense", unit=str(row["unit"])),
        y_low="low",
        y_high="high",
        title="Pruned alone",
        sentence=f"Increase of the loss with a share of {name} removed ({int(row['n_weights']):,} weights), all others as they are; "
        f"{int(row['n']):,} positions of {int(row['n_documents']):,} documents, 95 % intervals over documents.",
        hover=("achieved", "stage"),
    )


def ranked(run: RunInfo, kind: str) -> None:
    """The declared figure of the most sensitive ones of a kind."""
    rows: Any = data.rows(run, "matrix_ranking", where=(Filter("kind", "=", kind),))
    try:
        spec = draw_ranking(rows, run.provenance)
    except NothingToDraw as error:
        st.caption(f"No ranking: {plain(error)}")
        return
    show_spec(spec, run.provenance, name="sensitivity-ranking", key="ranking")


def _proxies(run: RunInfo, kind: str) -> None:
    """Whether cheap predictions may be trusted, in words."""
    rows = [row for row in run.summaries.get("proxy_agreement", ()) if row["kind"] == kind]
    if rows:
        st.markdown("### May cheap predictions be trusted?")
        st.markdown("\n".join(f"- {plain(row['proxy'])}, {percent(row['level'])} removed: {plain(_agreement(row))}" for row in rows))


def _agreement(row: dict[str, Any]) -> str:
    if row["spearman"] is None:
        return f"{row['words']}."
    between = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] is not None else ""
    return f"rank correlation {row['spearman']:.2f}{between} over {row['n']:,}: {row['words']}."
