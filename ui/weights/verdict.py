"""What a checkpoint is, in a line: its N of M confirmed or refuted, its structures, and the denominators of its shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from store import Filter, RunInfo
from ui.data import ask
from ui.links import TENSOR_PAGE
from ui.weights.rows import tensor_query
from ui.weights.view import ALONG_INPUT, PATTERN
from ui.words import code, count, percent, plain

_VECTORS = "vector"


def show_verdict(run: RunInfo) -> None:
    """The claims, one line each; where nothing is claimed, how many matrices are 2 of 4 by themselves."""
    claims = run.summaries.get("claims", [])
    for claim in claims:
        if claim["confirmed"]:
            st.success(claim_words(claim), icon=":material/verified:")
        else:
            st.error(claim_words(claim), icon=":material/cancel:")
            if claim["tensor"]:
                query = tensor_query(run, claim["tensor"])
                st.page_link(TENSOR_PAGE, label=f"Open {code(claim['tensor'])}", icon=":material/grid_on:", query_params=query)
    st.markdown(" ".join(filter(None, [None if claims else unclaimed(run), structures(run)])))


def claim_words(claim: Mapping[str, Any]) -> str:
    """Whether the checkpoint is what it is said to be (safe Markdown)."""
    pattern, source = plain(claim["pattern"]), plain(claim["source"])
    n, conforming = count(claim["n_matrices"], "matrix", "matrices"), claim["n_conforming"]
    if claim["confirmed"]:
        return f"**This checkpoint is {pattern} in {conforming:,} of {n}**, group by group along the input; told by {source}."
    said = f"**This checkpoint claims to be {pattern} and is not**: {conforming:,} of {n} are; told by {source}."
    if claim["first_line"] is None:
        return f"{said} The first against it is {code(claim['tensor'])}, which is too narrow for a group."
    return (
        f"{said} First offending group: {code(claim['tensor'])}, row {claim['first_line']:,}, group {claim['first_group']:,}, "
        f"with {claim['first_nonzeros']} non-zeros."
    )


def unclaimed(run: RunInfo) -> str:
    """How many matrices are 2 of 4 all the same."""
    inside = (*ALONG_INPUT, Filter("layer", "!=", None))
    n = ask(run, "count", "tensor_patterns", where=inside)
    where = inside if n else ALONG_INPUT
    n = n or ask(run, "count", "tensor_patterns", where=where)
    whole = ask(run, "count", "tensor_patterns", where=(*where, Filter("conforming_share", "=", 1.0)))
    return (
        f"No N of M is claimed, and {whole:,} of {count(n, 'matrix', 'matrices')} {'is' if whole == 1 else 'are'} {PATTERN}." if n else ""
    )


def structures(run: RunInfo) -> str:
    """How many matrices have which structure."""
    found = ask(run, "groups", "tensors", by=("structure",))
    known = {row["structure"]: int(row["n_rows"]) for row in found.to_dict("records")}
    vectors = known.pop(_VECTORS, 0)
    ordered = sorted(known.items(), key=lambda pair: -pair[1])
    parts = [f"{plain(name)} {n:,}" for name, n in ordered] + ([f"{count(vectors, 'vector')}"] if vectors else [])
    return f"By the structure of their zeros: {', '.join(parts)}."


def show_totals(run: RunInfo) -> None:
    """Tensors, weights and zeros, each share with its denominator."""
    totals = {row["scope"]: row for row in run.summaries.get("totals", [])}
    whole = totals.get("all weights")
    if whole is None:
        return
    facts: Mapping[str, Any] = run.provenance.get("facts") or {}
    block = totals.get("block matrices")
    with st.container(horizontal=True, gap="small"):
        st.metric("Tensors", f"{whole['n_tensors']:,}", width=140, help="Tied tensors once.")
        st.metric("Weights", f"{whole['n_weights']:,}", width=190)
        st.metric("Exact zeros", percent(whole["zero_share"]), width=150, help="Of all weights.")
        if block:
            st.metric(
                "Zeros in blocks", percent(block["zero_share"]), width=150, help=f"Of {block['n_weights']:,} weights of block matrices."
            )
            words = f"Of the same, with |w| at most {facts.get('near', 0):g} times their tensor's root mean square."
            st.metric("Near zeros in blocks", percent(block["near_zero_share"]), width=170, help=plain(words))
    for note in facts.get("values") or []:
        st.caption(plain(note))
