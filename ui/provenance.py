"""Where a run's numbers come from: model, data, settings, versions, time, and how sure its definitions are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st

from analysis.spec import EVIDENCE_WORDS
from store import RunInfo
from store.errors import size_words
from ui.links import n_tokens
from ui.words import code, count, duration, moment, plain, value

Fact = tuple[str, str]
"""A label and its text, which is Markdown already made safe."""


def headline(run: RunInfo) -> str:
    """The one line under the title: which model, on what, how much of it, when (safe Markdown)."""
    record = run.provenance
    parts = [plain(record.get("model_label") or run.model)]
    if run.data:
        role = (record.get("facts") or {}).get("data_role")
        parts.append(f"{role.lower() if role else 'on'} {plain(run.data)}")
    tokens = n_tokens(run)
    if tokens is not None:
        parts.append(count(tokens, "token"))
    if record.get("dtype"):
        parts.append(plain(record["dtype"]))
    return " · ".join([*parts, moment(run.started)])


def show(run: RunInfo) -> None:
    """Everything that is known about how the run was made, in groups."""
    columns = st.columns(2, gap="medium")
    for i, (title, facts) in enumerate(groups(run)):
        with columns[i % 2].container(border=True):
            st.markdown(f"**{title}**")
            st.markdown("\n".join(f"- {label}: {text}" for label, text in facts))


def groups(run: RunInfo) -> list[tuple[str, list[Fact]]]:
    """The groups of facts, in the order of a methods section."""
    found = [
        ("Model", list(_model(run))),
        ("Settings", [(plain(k), plain(value(v))) for k, v in run.config.items()] or [("none", "this analysis has no settings")]),
        ("Data", list(_data(run))),
        ("Made with", list(_made(run))),
        ("Definitions", list(_definitions(run.provenance))),
        ("File", list(_file(run))),
    ]
    return [(title, facts) for title, facts in found if facts]


def _model(run: RunInfo) -> Iterator[Fact]:
    record = run.provenance
    yield "name", code(run.model)
    if record.get("model_label"):
        yield "label", plain(record["model_label"])
    if record.get("model_source"):
        yield "source", code(record["model_source"])
    yield from _facts(record.get("model_facts"))
    for role, prints in (record.get("fingerprints") or {}).items():
        for part, digest in prints.items():
            yield plain(f"fingerprint of {role} {part}"), code(str(digest)[:16])


def _data(run: RunInfo) -> Iterator[Fact]:
    record = run.provenance
    if not run.data:
        yield "none", "this question reads weights only, so its answer does not depend on data"
        return
    yield "name", code(run.data)
    yield from _facts(record.get("data_facts"))
    yield from _facts(record.get("facts"))


def _made(run: RunInfo) -> Iterator[Fact]:
    record = run.provenance
    yield "analysis", f"{code(run.slug)}, version {run.version}"
    yield "started", moment(run.started)
    yield "took", duration(run.seconds)
    for name in ("device", "dtype", "seed"):
        yield name, plain(value(record.get(name))) if record.get(name) is not None else "not recorded"
    yield "commit", code(record["commit"]) if record.get("commit") else "not made from a git checkout"
    if record.get("versions"):
        yield "versions", plain(", ".join(f"{name} {version}" for name, version in record["versions"].items()))


def _definitions(record: Mapping[str, Any]) -> Iterator[Fact]:
    for source in record.get("sources") or []:
        yield plain(source["title"]), f"{plain(source['reference'])} ({EVIDENCE_WORDS.get(source['evidence'], 'evidence not stated')})"


def _file(run: RunInfo) -> Iterator[Fact]:
    yield "run", code(run.id)
    yield "path", code(run.path)
    yield "size", size_words(run.size)
    yield "attempt", f"{run.attempt}" + ("" if run.current else " (a newer attempt counts for this question)")


def _facts(facts: Mapping[str, Any] | None) -> Iterator[Fact]:
    for name, one in (facts or {}).items():
        yield plain(name), plain(value(one))
