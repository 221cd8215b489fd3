"""A checkpoint beside another one: what changed, where, and whether their masks are the same."""

from __future__ import annotations

import streamlit as st

from figures.words import visible
from store import Filter, Order, RunInfo
from ui import data
from ui.charts import show_figure
from ui.compare.sides import compare_query
from ui.links import COMPARE_PAGE, RUN_PAGE, START_PAGE, run_query
from ui.runs import WEIGHTS, beside, readable, reference_of, weights_of
from ui.weights.rows import info_of, tensor_rows
from ui.weights.runs import DIFF, differences, missing
from ui.words import count, moment, percent, plain

FIGURES = (
    ("most_changed", "Tensors that changed most"),
    ("new_zeros", "Weights that became zero"),
    ("rank", "Rank of the change"),
    ("tiles", "Tiles"),
)
COLUMNS = (
    "tensor", "layer", "kind", "changed_share", "relative_change", "cosine", "norm_ratio", "mask_overlap", "mask_chance", "n_new_zero",
    "n_revived", "stable_rank", "rank_99", "base_tensor", "matched",
)  # fmt: skip
SORTS = {"change": "relative_change", "changed weights": "changed_share", "new zeros": "n_new_zero", "mask overlap": "mask_overlap"}


def show_difference(run: RunInfo) -> None:
    """The comparison chosen, or how to make one."""
    known = {one.id: one for one in differences(run)}
    if not known:
        st.markdown(
            f"This model has not been compared with another one yet. **{plain(missing(DIFF))}** takes it and a base: dense beside pruned, "
            "base beside fine-tuned, or an adapter."
        )
        st.page_link(
            START_PAGE, label="Compare it", icon=":material/play_arrow:", query_params={"analysis": DIFF, "model": reference_of(run)}
        )
        st.code(data.command(DIFF, reference_of(run), **{"with": "base=PATH_OF_THE_OTHER"}), language="bash", wrap_lines=True)
        return
    chosen = st.selectbox("Compared with", list(known), format_func=lambda one: visible(label(known[one])), key="diff", bind="query-params")
    found = known.get(chosen) or next(iter(known.values()))
    _verdict(run, found)
    _totals(found)
    _table(run, found)
    for slug, title in FIGURES:
        with st.container(border=True):
            show_figure(found, slug, title)


def label(run: RunInfo) -> str:
    """A comparison in the list (text, no Markdown)."""
    base = next((row["base"] for row in run.summaries.get("diff_verdict", [])), "its base")
    return f"{run.model} against {base} · {moment(run.started)}"


def _verdict(run: RunInfo, found: RunInfo) -> None:
    for row in found.summaries.get("diff_verdict", []):
        st.markdown(f"**{plain(found.model)} against {plain(row['base'])}: {plain(row['verdict'])}.** {plain(row['words'])}")
        if row["n_unmatched"]:
            st.caption(f"{count(row['n_unmatched'], 'tensor')} of the two have no partner and are in no number here.")
    if weights_of(found) != weights_of(run):
        st.caption("The model of this page is the base of that comparison.")
    st.page_link(RUN_PAGE, label="The whole comparison", icon=":material/analytics:", query_params=run_query(found))
    both = [next((one for one in readable(WEIGHTS) if weights_of(one) == weights_of(found, role)), None) for role in ("base", "model")]
    if both[0] is not None and both[1] is not None:
        query = compare_query(both[0].id, both[1].id)
        st.page_link(COMPARE_PAGE, label="Both models side by side", icon=":material/compare_arrows:", query_params=query)


def _totals(found: RunInfo) -> None:
    for row in found.summaries.get("diff_totals", []):
        if row["scope"] != "all weights":
            continue
        with st.container(horizontal=True, gap="small"):
            if row["changed_share"] is not None:
                words = f"Of {row['n_weights']:,} weights compared; one minus it is the sparsity of the difference."
                st.metric("Changed weights", percent(row["changed_share"]), width=160, help=words)
            if row["relative_change"] is not None:
                st.metric("Change", percent(row["relative_change"]), width=140, help="Norm of the difference / norm of the base.")
            if row["cosine"] is not None:
                st.metric("Cosine", f"{row['cosine']:.4f}", width=140)
            if row["mask_overlap"] is not None:
                chance = f"{percent(row['mask_chance'])} by chance" if row["mask_chance"] is not None else None
                words = "Weights that are non-zero in both / in either; by chance: two random masks of these densities."
                overlap = percent(row["mask_overlap"])
                st.metric("Mask overlap", overlap, chance, delta_color="off", delta_arrow="off", width=170, help=words)
            st.metric("New zeros", f"{row['n_new_zero']:,}", width=160, help="Zero in the model, not in the base.")
            st.metric("Revived", f"{row['n_revived']:,}", width=140, help="Zero in the base, not in the model.")


def _table(run: RunInfo, found: RunInfo) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.markdown("## Tensors by change")
        sort = st.selectbox("Most first by", list(SORTS), key="diff_sort", bind="query-params", width=180)
    is_model = weights_of(found) == weights_of(run)
    tensor_rows(
        found,
        info_of(found, "tensor_diffs", COLUMNS),
        run if is_model else beside(run, WEIGHTS),
        where=(Filter("n_weights", ">", 0),),
        order_by=(Order(SORTS[sort], descending=True),),
        named="tensor" if is_model else "base_tensor",
        key="diffs",
        nothing="No tensor of one has a partner in the other, so nothing could be compared.",
    )
