"""One tensor's pictures on its page: asked of the runs of its model, drawn, and where a run is missing, how to make it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from figures.spec import FigureError, FigureSpec
from store import Filter, Order, RunInfo
from ui.charts import show_spec
from ui.data import ask, first_row
from ui.links import START_PAGE, WEIGHTS_PAGE
from ui.runs import beside, reference_of, weights_of
from ui.weights import charts
from ui.weights.charts import PROFILES, Row
from ui.weights.runs import RATIOS, SPECTRUM, differences, missing, series_with
from ui.weights.view import OTHER, SERIES
from ui.words import percent, plain, short


def _draw(run: RunInfo, make: Callable[[], FigureSpec], title: str, name: str) -> None:
    """A figure of one tensor, or the sentence why there is none."""
    try:
        spec = make()
        show_spec(spec, run.provenance, name=f"tensor-{name}", key=name)
    except FigureError as error:
        st.markdown(f"## {title}")
        st.caption(f"Nothing to draw: {plain(error)}")


def _of(row: Row) -> tuple[Filter, ...]:
    return (Filter("tensor", "=", row["tensor"]),)


def magnitudes(run: RunInfo, row: Row) -> None:
    """The histogram of |w|."""
    bins = ask(run, "read", "tensor_histograms", where=_of(row), order_by=(Order("low"),))
    _draw(run, lambda: charts.histogram_spec(row, bins, float(run.config["near"])), "Magnitudes", "magnitudes")


def matrix(run: RunInfo, row: Row) -> None:
    """The thumbnail, and profiles along rows and columns beside each other."""
    tiles = ask(run, "read", "tensor_tiles", where=_of(row), order_by=(Order("start"),))
    _draw(run, lambda: charts.thumbnail_spec(row, tiles), "The matrix", "thumbnail")
    what = st.segmented_control(
        "Profiles show",
        list(PROFILES),
        default="norm",
        required=True,
        key="profile",
        bind="query-params",
        format_func=lambda one: PROFILES[one][0],
    )
    for place, kind in zip(st.columns(2, gap="medium"), ("row", "column"), strict=True):
        with place:
            lines = ask(run, "read", f"tensor_{kind}s", where=_of(row), order_by=(Order("start"),))
            _draw(run, lambda k=kind, rows=lines: charts.profile_spec(row, rows, k, what), f"Along its {kind}s", f"{kind}s")


def spectrum(run: RunInfo, row: Row) -> None:
    """Singular values with the ranks read from them."""
    found = beside(run, SPECTRUM)
    if found is None:
        _not_yet(run, SPECTRUM, "Spectrum", "its singular values, stable and effective rank, and what low rank would lose")
        return
    n = max(1, int(row["n_matrices"]))
    index = int(st.number_input("Matrix of the stack", 0, n - 1, 0, key="matrix", bind="query-params", width=160)) if n > 1 else 0
    where = (*_of(row), Filter("matrix", "=", index))
    numbers = first_row(ask(found, "read", "spectra", where=where, limit=1))
    if numbers is None or numbers["missing"]:
        st.markdown("## Spectrum")
        st.caption(plain(numbers["missing"]) if numbers else "The spectrum was measured without this tensor.")
        return
    curve = ask(found, "read", "spectrum_curves", where=where, order_by=(Order("rank"),))
    _draw(found, lambda: charts.spectrum_spec(row, curve, numbers), "Spectrum", "spectrum")
    labels = (
        ("stable_rank", "Stable rank"),
        ("effective_rank", "Effective rank"),
        ("numerical_rank", "Numerical rank"),
        ("break_even_rank", "Break-even rank"),
        ("break_even_error", "Error at it"),
        ("n_outliers", "Outlier weights"),
    )
    with st.container(horizontal=True, gap="small"):
        for name, label in labels:
            if numbers[name] is not None:
                st.metric(label, short(numbers[name]), width=150)


def ratios(run: RunInfo, row: Row) -> None:
    """The densities that methods would give it."""
    found = beside(run, RATIOS)
    title = "Density that methods would give it"
    if found is None:
        _not_yet(run, RATIOS, title, "what uniform, ERK, global magnitude, LAMP and others would keep of it")
        return
    level = float(found.provenance["facts"]["shown_density"])
    rows = ask(
        found, "read", "layer_ratios", where=(*_of(row), Filter("density", ">=", level - 1e-12), Filter("density", "<=", level + 1e-12))
    )
    _draw(found, lambda: charts.ratios_spec(row, rows, level, str(found.provenance["facts"]["scope"])), title, "ratios")


def _not_yet(run: RunInfo, slug: str, title: str, says: str) -> None:
    st.markdown(f"## {title}")
    st.markdown(f"**{plain(missing(slug))}** tells {says}. It has not been run on this model.", width="content")
    query = {"analysis": slug, "model": reference_of(run)}
    st.page_link(START_PAGE, label=f"Start {plain(missing(slug))}", icon=":material/play_arrow:", query_params=query)


def elsewhere(run: RunInfo, row: Row) -> None:
    """What the newest comparison and the newest series say of this tensor; nothing where there is neither."""
    compared = next(iter(differences(run)), None)
    if compared is not None:
        _difference(run, compared, row)
    found = next(iter(series_with(run)), None)
    if found is not None:
        steps = ask(found, "read", "timeline_tensors", where=_of(row), order_by=(Order("step"),))
        if not steps.empty:
            _draw(found, lambda: charts.series_spec(row, steps), "Over the series", "series")
            _more(run, SERIES, "series", found, "The whole series")


def _difference(run: RunInfo, compared: RunInfo, row: Row) -> None:
    named = "tensor" if weights_of(compared) == weights_of(run) else "base_tensor"
    one = first_row(ask(compared, "read", "tensor_diffs", where=(Filter(named, "=", row["tensor"]),), limit=1))
    if one is None:
        return
    st.markdown("## Beside another checkpoint")
    parts = [f"{one['n_changed']:,} of {one['n_weights']:,} weights changed"]
    if one["relative_change"] is not None:
        parts.append(f"by {percent(one['relative_change'])} of the base's norm")
    if one["mask_overlap"] is not None and one["mask_chance"] is not None:
        parts.append(f"masks overlap by {percent(one['mask_overlap'])} (by chance {percent(one['mask_chance'])})")
    if one["stable_rank"] is not None:
        parts.append(f"the difference has stable rank {one['stable_rank']:.3g} (random entries: {one['random_rank']:.3g})")
    st.markdown(plain(", ".join(parts) + "."))
    where = (Filter("tensor", "=", one["tensor"]),)
    most = ask(compared, "read", "changed_rows", where=where, order_by=(Order("share_of_change", descending=True),), limit=5)
    if len(most):
        told = ", ".join(f"{int(r['row'])} ({percent(r['share_of_change'])})" for r in most.to_dict("records"))
        st.caption(f"Rows with most of the change, as stored, and their share of its squares: {told}.")
    _more(run, OTHER, "diff", compared, "The whole comparison")


def _more(run: RunInfo, view: str, name: str, found: RunInfo, label: str) -> None:
    query = {"run": run.id, "view": view, name: found.id}
    st.page_link(WEIGHTS_PAGE, label=label, icon=":material/grid_on:", query_params=query)
