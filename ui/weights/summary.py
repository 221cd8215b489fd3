"""What the weights of one model say, in a sentence per question that has been asked of them; for the model's own page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from analysis import find_analysis
from store import RunInfo
from ui.links import RUN_PAGE, WEIGHTS_PAGE, run_query
from ui.runs import WEIGHTS
from ui.weights.runs import DIFF, RATIOS, SPECTRUM, TIMELINE
from ui.weights.verdict import claim_words
from ui.weights.view import OTHER, SERIES
from ui.words import count, percent, plain


def weights_say(newest: Mapping[str, RunInfo]) -> None:
    """One line per sealed run; nothing where none of these questions has been asked, which the list of questions tells."""
    found = {slug: newest[slug] for slug in _SAYS if slug in newest and newest[slug].version == find_analysis(slug).version}
    lines = {slug: words for slug, run in found.items() if (words := _SAYS[slug](run))}
    if not lines:
        return
    st.header("What its weights say", anchor="weights")
    whole = found.get(WEIGHTS)
    for slug, words in lines.items():
        told, link = st.columns((6, 1), vertical_alignment="center")
        told.markdown(words)
        with link:
            if whole is None:
                st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(found[slug]), width="content")
            else:
                query = run_query(whole) | _VIEWS.get(slug, {})
                label = "All tensors" if slug == WEIGHTS else "Show"
                st.page_link(WEIGHTS_PAGE, label=label, icon=":material/grid_on:", query_params=query, width="content")


def _sparsity(run: RunInfo) -> str:
    claims = [claim_words(claim) for claim in run.summaries.get("claims", [])]
    totals = {row["scope"]: row for row in run.summaries.get("totals", [])}
    row = totals.get("block matrices") or totals.get("all weights")
    zeros = f"{percent(row['zero_share'])} of the {row['n_weights']:,} weights of its {row['scope']} are exactly zero." if row else ""
    return " ".join(filter(None, [*claims, zeros]))


def _spectrum(run: RunInfo) -> str:
    rows = [row for row in run.summaries.get("layer_spectra", []) if row["effective_rank_share"] is not None]
    n = sum(row["n_matrices"] for row in rows)
    if not n:
        return ""
    mean = sum(row["effective_rank_share"] * row["n_matrices"] for row in rows) / n
    return f"The effective rank of its {count(n, 'block matrix', 'block matrices')} is {percent(mean)} of their shorter side, in the mean."


def _ratios(run: RunInfo) -> str:
    rows = [row for row in run.summaries.get("ratio_totals", []) if row["is_shown"] and row["distance"] is not None]
    if not rows:
        return ""
    nearest = min(rows, key=lambda row: row["distance"])
    return (
        f"Of the ways to share a density of {percent(nearest['density'])} out among its tensors, {plain(nearest['method'])} is nearest "
        f"to what it has: {percent(nearest['distance'])} away in the mean."
    )


def _diff(run: RunInfo) -> str:
    return " ".join(
        f"Against {plain(row['base'])}: **{plain(row['verdict'])}**, {plain(row['words'])}" for row in run.summaries["diff_verdict"]
    )


def _series(run: RunInfo) -> str:
    return plain((run.provenance.get("facts") or {}).get("jump_words", ""))


_SAYS: Mapping[str, Callable[[RunInfo], str]] = {
    WEIGHTS: _sparsity,
    SPECTRUM: _spectrum,
    RATIOS: _ratios,
    DIFF: _diff,
    TIMELINE: _series,
}
_VIEWS: Mapping[str, dict[str, str]] = {
    DIFF: {"view": OTHER},
    TIMELINE: {"view": SERIES},
    SPECTRUM: {"measure": "effective rank"},
}
