"""The table of all tensors: filtered, sorted and paged by the database."""

from __future__ import annotations

import streamlit as st

from store import Order, RunInfo
from ui.weights.rows import info_of, tensor_rows
from ui.weights.view import DERIVE, column_of, filters

COLUMNS = (
    "tensor", "layer", "kind", "shape", "structure", "zero_share", "near_zero_share", "n_weights", "pq_index", "n_zero_rows",
    "n_zero_columns", "gini", "kurtosis", "rms", "max_abs", "n_nonfinite", "dtype",
)  # fmt: skip
PATTERN_COLUMNS = ("conforming_share", "retained_energy")


def show_table(run: RunInfo) -> None:
    """One page of the tensors that meet the filters; a click on a row opens one."""
    st.markdown("## Tensors")
    chosen = filters(run)
    order_by = (Order(column_of(chosen.sort), descending=chosen.descending),) if chosen.sort else ()
    tensor_rows(
        run,
        info_of(run, "tensors", COLUMNS, PATTERN_COLUMNS),
        run,
        where=chosen.where,
        order_by=order_by,
        derive=DERIVE,
        key="tensors",
        nothing="No tensor meets all of these filters; loosen one of them.",
    )
