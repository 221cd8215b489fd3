"""Where things are: the addresses of pages and views, links to them, and the link to copy."""

from __future__ import annotations

import html
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from figures.words import tokens_seen, visible
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
PLANES_PAGE = "pages/planes.py"
ATTENTION_PAGE = "pages/attention.py"
HEAD_PAGE = "pages/head.py"
LATENTS_PAGE = "pages/latents.py"
LATENT_PAGE = "pages/latent.py"
PLAYGROUND_PAGE = "pages/playground.py"
GALLERY_PAGE = "pages/gallery.py"
DATA_PAGE = "pages/data.py"
COMPARE_PAGE = "pages/compare.py"
REPORT_PAGE = "pages/report.py"


BROWSE: Mapping[str, tuple[str, str, str]] = {
    "weight_sparsity": (WEIGHTS_PAGE, "Browse its tensors", "grid_on"),
    "neuron_activity": (NEURONS_PAGE, "Browse its neurons", "scatter_plot"),
    "head_sparsity": (ATTENTION_PAGE, "Browse its heads", "center_focus_strong"),
    "sae_train": (LATENTS_PAGE, "Browse its latents", "hub"),
    "sae_quality": (LATENTS_PAGE, "Browse its latents", "hub"),
    "latent_examples": (LATENTS_PAGE, "Browse its latents", "hub"),
    "latent_attribution": (LATENTS_PAGE, "Browse its latents", "hub"),
    "essential_sparsity": (SENSITIVITY_PAGE, "See its curves", "trending_up"),
    "sparsity_plane": (PLANES_PAGE, "See its planes", "bubble_chart"),
}
"""The page that shows the units of a run best, by analysis: the page, the words of the link to it, and its icon."""


COMPARED = ("weight_sparsity", "neuron_activity", "head_sparsity", "sae_quality", "task_loss", "essential_sparsity")
"""Analyses that the page of comparisons has a section of, in its order."""


def browse_link(run: RunInfo) -> None:
    """The way to the page of a run's units; nothing where its analysis has no such page."""
    if run.slug in BROWSE:
        page, label, icon = BROWSE[run.slug]
        st.page_link(page, label=label, icon=f":material/{icon}:", query_params=run_query(run), width="content")


def gallery_link(run: RunInfo) -> None:
    """The way to everything of a run that can be taken along."""
    label = "Take its figures and tables along"
    st.page_link(GALLERY_PAGE, label=label, icon=":material/photo_library:", query_params=run_query(run), width="content")


def run_query(run: RunInfo) -> dict[str, str]:
    """The part of the address that says which run a page shows."""
    return {"run": run.id}


def tensor_query(run: RunInfo, tensor: str) -> dict[str, str]:
    """The address of a tensor's page; the run is one of `weight_sparsity`."""
    return run_query(run) | {"tensor": tensor}


def run_title(run: RunInfo) -> str:
    """What a run is called in lists: the title of its analysis as it was when the run was made (foreign text)."""
    return str(run.provenance.get("title") or run.slug)


def n_tokens(run: RunInfo) -> int | None:
    """How many tokens the run has seen, where it recorded that."""
    return tokens_seen(run.provenance)


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


def copy_link(embed: str = "") -> None:
    """The address of exactly this view, with a button to copy it; for a unit, which ``embed`` names, the code that embeds it, too.

    A page that is embedded has a way out to the whole dashboard instead.
    """
    here, shown = st.context.url or "", st.query_params.to_dict()
    if st.context.is_embedded:
        st.link_button("Open in Sparsescope", address(here, shown), icon=":material/open_in_new:", type="tertiary")
        return
    with st.popover("Link to this view", icon=":material/link:", type="tertiary"):
        st.caption("Whoever can reach this dashboard sees the same run, table, sorting and page under this address.")
        st.code(address(here, shown), language=None, wrap_lines=True)
        if embed:
            st.caption("To show it within another page, without the menus (which pages may: `serve --embed-in`):")
            st.code(embed_code(here, shown, embed), language="html", wrap_lines=True)


def embed_code(page_address: str, query: Mapping[str, str], title: str) -> str:
    """The HTML that shows a view within another page; ``title`` is what a screen reader calls it (foreign text)."""
    source = html.escape(address(page_address, {**query, "embed": "true"}), quote=True)
    name = html.escape(visible(title), quote=True)
    return f'<iframe src="{source}" title="{name}" width="100%" height="900" style="border:0" loading="lazy"></iframe>'
