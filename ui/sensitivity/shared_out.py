"""How a level is best shared out among the matrices, where that was measured; else the command that measures it."""

from __future__ import annotations

import streamlit as st

from analysis import find_analysis
from store import RunInfo
from ui import data
from ui.charts import show_figure
from ui.links import RUN_PAGE, run_query
from ui.runs import reference_of, weights_of
from ui.sensitivity.grid import newest

SLUG = "allocation"
FIGURES = ("outcomes", "shares")


def shared_out(of: RunInfo, matrices: RunInfo | None) -> None:
    """The newest allocation on the weights of a run; ``matrices`` is the grid one can be made from."""
    run = newest(SLUG, "allocation_outcomes", weights_of(of))
    if run is None and matrices is None:
        return  # the grid comes first, and says so itself
    st.header("Shared out among the matrices", anchor="allocation")
    if run is None and matrices is not None:
        st.markdown(
            "From the measured grid, the shares that cost least can be worked out, and measured beside uniform, ERK and global ones:"
        )
        st.code(data.command(SLUG, reference_of(of), **{"with": f"run={matrices.id}"}), language=None, wrap_lines=True)
        return
    assert run is not None  # the two cases without one are above
    st.page_link(RUN_PAGE, label="Its run, all tables", icon=":material/analytics:", query_params=run_query(run))
    analysis = find_analysis(SLUG)
    for slug in FIGURES:
        show_figure(run, slug, analysis.figure(slug).title)
