"""The report of a model on the page: its numbers, the main figure of each answer, and the file that says the same without a server."""

from __future__ import annotations

import re
from functools import partial

import streamlit as st

from analysis.report import Answer, Report, gather
from analysis.spec import Analysis
from figures.words import visible
from store import RunInfo
from ui import data, provenance
from ui.barcode import bar_code
from ui.cards import start_link
from ui.charts import show_figure
from ui.library import Entry
from ui.links import RUN_PAGE, browse_link, run_query
from ui.words import count, percent, plain


def show_report(entry: Entry) -> None:
    """Everything of one model, in the order of the file that the button gives."""
    runs = [run for run in entry.runs if run.status == "sealed" and run.current]
    report = gather(runs)
    _download(report, runs)
    _numbers(report)
    picture = bar_code([answer.run for answer in report.answers])
    if picture is not None:
        st.header("Layer by layer", anchor="layers")
        st.image(picture.svg, width="stretch", alt=visible(f"{report.name}: {picture.words}"))
    for answer in report.answers:
        _section(answer)
    _unmeasured(report, entry.ref)


def _download(report: Report, runs: list[RunInfo]) -> None:
    """The file is made when it is asked for."""
    ids = tuple(run.id for run in runs)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", report.name).strip("-.") or "model"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "One HTML file", data=partial(report_file, data.store_folder(), ids), file_name=f"{name}-report.html", mime="text/html",
            icon=":material/download:", on_click="ignore", type="primary",
        )  # fmt: skip
        st.caption("The same as below, figures inside: opens anywhere without a network, and prints. As a command:")
    st.code(data.command_line("report", report.weights[:12] or report.name, to=f"{name}-report.html"), language=None, wrap_lines=True)


@st.cache_data(max_entries=8, show_spinner="Drawing the figures of the report …")
def report_file(folder: str, ids: tuple[str, ...]) -> bytes:
    """The file of the model that these runs are of; sealed runs never change, so neither does it."""
    from analysis.report.page import report_html  # loads matplotlib

    opened = data.open_store(folder)
    return report_html(opened, [opened.find(one) for one in ids])


def _numbers(report: Report) -> None:
    import pandas as pd

    told = [one for answer in report.answers for one in answer.headlines]
    st.markdown(f"**{plain(report.label)}**")
    if told:
        st.header("In numbers", anchor="numbers")
        table = {
            "number": [one.label for one in told],
            "value": [percent(one.share) for one in told],
            "of what": [one.over for one in told],
        }
        st.dataframe(pd.DataFrame(table), hide_index=True, height="content", alt="One row per headline number: its value, and of what.")


def _section(answer: Answer) -> None:
    """The question, its main figure as its run's page draws it, and how it was measured."""
    st.header(answer.analysis.title, anchor=answer.analysis.slug.replace("_", "-"))
    st.markdown(f"**{plain(answer.analysis.question)}** {provenance.headline(answer.run)}")
    slug = main_figure(data.store_folder(), answer.run.id)
    figure = next((one for one in answer.analysis.figures if one.slug == slug), None)
    if figure is None:
        st.caption("Nothing to draw of it.")
    else:
        with st.container(border=True):
            show_figure(answer.run, figure.slug, figure.title)
    if answer.n_further:
        st.caption(f"{count(answer.n_further, 'further run')} of this question, on other data or with other settings, not shown.")
    with st.container(horizontal=True):
        st.page_link(RUN_PAGE, label="Its run, all figures and tables", icon=":material/analytics:", query_params=run_query(answer.run))
        browse_link(answer.run)


@st.cache_data(max_entries=128, show_spinner=False)
def main_figure(folder: str, run_id: str) -> str:
    """The figure that stands for a run: the first that has something to show; empty where none has."""
    from analysis import find_analysis
    from analysis.report import shown_figure

    opened = data.open_store(folder)
    run = opened.find(run_id)
    return shown_figure(opened, Answer(find_analysis(run.slug), run, 0)).slug


def _unmeasured(report: Report, ref: str) -> None:
    st.header("What was not measured", anchor="unmeasured")
    if report.outdated:
        st.markdown("Answered by another version of the analysis only, whose numbers mean something else:")
        _questions(report.outdated, ref)
    if report.unasked:
        st.markdown(f"{count(len(report.unasked), 'question')} that nobody has asked of this model:")
        _questions(report.unasked, ref)
    if not report.outdated and not report.unasked:
        st.markdown("Nothing: every question that Sparsescope knows has been answered.")


def _questions(asked: tuple[Analysis, ...], ref: str) -> None:
    with st.container(horizontal=True):
        for one in asked:
            start_link(one, ref, plain(one.title))
