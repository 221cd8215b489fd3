"""What a model's files say of themselves: kind, size, types, ties, modules, tensors, metadata. Every name in it is a stranger's text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from analysis.models.files import Branch, Header
from analysis.models.files.header import Entry
from figures.screen import PLOTLY_CONFIG
from figures.words import visible
from store.errors import size_words
from ui.checkpoint.modules import LEVELS, modules_at, treemap
from ui.paging import first_page
from ui.words import code, count, percent, plain

PER_PAGE = 100
_MOST_LISTED = 20
_LONGEST = 300
_STORED, _NAME, _LARGEST, _SMALLEST = "as stored", "name", "largest first", "smallest first"


def summary(header: Header) -> None:
    """The numbers that stand first, and in sentences what is missing and what is odd."""
    figures = {"Size": size_words(header.n_bytes)}
    if header.n_parameters is not None and header.refusal is None:
        figures = {"Parameters": _short(header.n_parameters), "Tensors": f"{len(header.tensors):,}"} | figures
    with st.container(horizontal=True, gap="medium"):
        for label, value in figures.items():
            st.metric(label, value, width="content")
    for sentence in header.missing:
        st.warning(_sentence(sentence), icon=":material/info:")
    lines = [_sentence(note) for note in header.notes[:_MOST_LISTED]]
    more = len(header.notes) - _MOST_LISTED
    lines += [f"and {count(more, 'further note')}."] if more > 0 else []
    if lines:
        st.markdown("\n".join(f"- {line}" for line in lines))


def details(header: Header, tree: Callable[[], Branch]) -> None:
    """Types, ties, modules, tensors, metadata, files, and the checkpoints of a series."""
    if header.steps:
        _steps(header)
    if header.tensors:
        columns = st.columns((3, 2), gap="large")
        with columns[0]:
            _modules(tree())
        with columns[1]:
            _types(header)
            _ties(header)
        _tensors(header.tensors)
    _metadata(header)


def _short(n: int) -> str:
    for unit, one in ((" billion", 10**9), (" million", 10**6)):
        if n >= one:
            return f"{n / one:.4g}{unit}"
    return f"{n:,}"


def _sentence(text: str) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return plain(shown[:1].upper() + shown[1:] + ("" if shown.endswith((".", "…")) else "."))


def _modules(root: Branch) -> None:
    """The tree by module: as areas, and as a table that can be read aloud and searched."""
    st.header("Modules", anchor="modules")
    figure, words = treemap(root)
    if figure is None:
        st.caption(words)
    else:
        st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=words, key="modules-map")
        st.caption(f"{words} Click a module to go into it, and the bar above to come back.")
    with st.expander("The same as a table", icon=":material/table:"):
        depth = st.segmented_control("Levels", LEVELS, default=2, required=True, key="levels", bind="query-params")
        rows = modules_at(root, depth)
        st.dataframe(
            {
                "module": [visible(path) for path, _ in rows],
                "tensors": [branch.n_tensors for _, branch in rows],
                "parameters": [branch.n_parameters for _, branch in rows],
                "share": [branch.n_parameters / max(1, root.n_parameters) for _, branch in rows],
                "size": [size_words(branch.n_bytes) for _, branch in rows],
            },
            hide_index=True,
            column_config=_numbers("tensors", "parameters") | {"share": st.column_config.NumberColumn("share", format="percent")},
            alt=f"{count(len(rows), 'module')} with the number and size of their tensors.",
        )


def _types(header: Header) -> None:
    st.header("Types", anchor="types")
    whole = max(1, sum(of[1] for of in header.by_type.values()))
    ordered = sorted(header.by_type.items(), key=lambda one: -one[1][1])
    st.dataframe(
        {
            "type": [visible(name) for name, _ in ordered],
            "tensors": [of[0] for _, of in ordered],
            "elements": [of[1] for _, of in ordered],
            "share": [percent(of[1] / whole) for _, of in ordered],
            "size": [size_words(of[2]) for _, of in ordered],
        },
        hide_index=True,
        column_config=_numbers("tensors", "elements"),
        alt="Number, elements and size of the tensors of each type.",
    )


def _ties(header: Header) -> None:
    if not header.tied:
        return
    st.markdown(f"**{count(len(header.tied), 'tensor')}** with more than one name, counted once:")
    lines = [" = ".join(code(name) for name in names) for names in header.tied[:_MOST_LISTED]]
    more = len(header.tied) - _MOST_LISTED
    st.markdown("\n".join(f"- {line}" for line in [*lines, *([f"and {more:,} more"] if more > 0 else [])]))


def _tensors(entries: Sequence[Entry]) -> None:
    """The tensors, searched, sorted and paged here: a browser should not be sent two hundred thousand rows."""
    st.header("Tensors", anchor="tensors")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input(
            "Search", key="search", bind="query-params", on_change=first_page, placeholder="part of a tensor's name, type or shape"
        )
        order = st.selectbox(
            "Order", (_STORED, _NAME, _LARGEST, _SMALLEST), key="order", bind="query-params", on_change=first_page, width=180
        )
    part = wanted.strip().casefold()
    found = [entry for entry in entries if not part or part in f"{entry.name} {entry.dtype} {_shape(entry)}".casefold()]
    if order == _NAME:
        found.sort(key=lambda entry: entry.name)
    elif order != _STORED:
        found.sort(key=lambda entry: entry.numel, reverse=order == _LARGEST)
    if not found:
        st.info("No tensor's name, type or shape holds that.", icon=":material/search_off:")
        return
    n_pages = -(-len(found) // PER_PAGE)
    asked = str(st.session_state.get("page", st.query_params.get("page", "1")))
    page = min(max(1, int(asked) if asked.isdigit() else 1), n_pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    _tensor_table(shown)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        of = count(len(found), "tensor") if len(found) == len(entries) else f"{count(len(found), 'tensor')} found ({len(entries):,} in all)"
        st.caption(f"{(page - 1) * PER_PAGE + 1:,} to {min(page * PER_PAGE, len(found)):,} of {of}.")
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")


def _tensor_table(entries: Sequence[Entry]) -> None:
    table: dict[str, list[Any]] = {
        "tensor": [visible(entry.name) for entry in entries],
        "shape": [_shape(entry) for entry in entries],
        "type": [visible(entry.dtype) for entry in entries],
        "elements": [entry.numel for entry in entries],
        "size": [size_words(entry.n_bytes) for entry in entries],
    }
    if any(entry.tied for entry in entries):
        table["also named"] = [visible(", ".join(entry.tied)) or "—" for entry in entries]
    if len({entry.file for entry in entries}) > 1:
        table["file"] = [visible(entry.file) for entry in entries]
    st.dataframe(
        table,
        hide_index=True,
        height="content" if len(entries) <= 25 else 620,
        column_config=_numbers("elements"),
        alt=f"{count(len(entries), 'tensor')} with shape, type and size.",
    )


def _numbers(*names: str) -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(name, format="localized") for name in names}


def _shape(entry: Entry) -> str:
    return " × ".join(f"{side:,}" for side in entry.shape) or "a single number"


def _steps(header: Header) -> None:
    st.header("Checkpoints", anchor="checkpoints")
    st.dataframe(
        {"step": [one.step for one in header.steps], "file": [visible(one.path.name) for one in header.steps]},
        hide_index=True,
        column_config=_numbers("step"),
        alt=f"{count(len(header.steps), 'checkpoint')} with the step of each.",
    )


def _metadata(header: Header) -> None:
    if header.files:
        with st.expander(f"{count(len(header.files), 'file')}", icon=":material/folder:"):
            st.code("\n".join(visible(name) for name in header.files), language=None, wrap_lines=True)
    if header.metadata:
        with st.expander(f"{count(len(header.metadata), 'line')} of metadata, as its makers wrote them", icon=":material/label:"):
            st.dataframe(
                {
                    "name": [visible(str(name)) for name in header.metadata],
                    "value": [visible(str(value))[:2000] for value in header.metadata.values()],
                },
                hide_index=True,
                alt="The metadata of the file, name and value.",
            )
