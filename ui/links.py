"""Where things are: the addresses of pages and views, links to them, and the link to copy."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from store import RunInfo
from ui.words import code, count, moment, plain

HOME_PAGE = "pages/home.py"
RUNS_PAGE = "pages/runs.py"
RUN_PAGE = "pages/run.py"
NEURONS_PAGE = "pages/neurons.py"
NEURON_PAGE = "pages/neuron.py"
START_PAGE = "pages/start.py"
CHECKPOINT_PAGE = "pages/checkpoint.py"
JOB_PAGE = "pages/job.py"
WEIGHTS_PAGE = "pages/weights.py"
TENSOR_PAGE = "pages/tensor.py"
SENSITIVITY_PAGE = "pages/sensitivity.py"
ATTENTION_PAGE = "pages/attention.py"
HEAD_PAGE = "pages/head.py"


def run_query(run: RunInfo | str) -> dict[str, str]:
    """The part of the address that says which run the run page shows."""
    return {"run": run if isinstance(run, str) else run.id}


def run_title(run: RunInfo) -> str:
    """What a run is called in lists: the title of its analysis as it was when the run was made (foreign text)."""
    return str(run.provenance.get("title") or run.slug)


def n_tokens(run: RunInfo) -> int | None:
    """How many tokens the run has seen, where it recorded that."""
    for place in ("facts", "data_facts"):
        found = (run.provenance.get(place) or {}).get("n_tokens")
        if isinstance(found, int):
            return found
    return None


def run_link(run: RunInfo, *, with_model: bool = False) -> None:
    """A link to the page of one run, and below it on how much text and when it was made."""
    parts = [f"**{plain(run_title(run))}**"]
    parts += [code(run.model)] if with_model else []
    parts += [f"on {plain(run.data)}"] if run.data else []
    tokens = n_tokens(run)
    below = [count(tokens, "token")] if tokens is not None else []
    with st.container(gap=None):
        st.page_link(RUN_PAGE, label=" · ".join(parts), icon=":material/analytics:", query_params=run_query(run))
        st.caption(" · ".join([*below, moment(run.started)]))


def address(page_address: str, query: Mapping[str, str]) -> str:
    """The whole address of a view: the page's, with ``query`` in place of any query it has."""
    return urlunsplit(urlsplit(page_address)._replace(query=urlencode(query), fragment=""))


def copy_link() -> None:
    """The address of exactly this view, with a button to copy it."""
    with st.popover("Link to this view", icon=":material/link:", type="tertiary"):
        st.caption("Whoever can reach this dashboard sees the same run, table, sorting and page under this address.")
        st.code(address(st.context.url or "", st.query_params.to_dict()), language=None, wrap_lines=True)
