"""What lowers the loss when it is gone (AxFormer prunes those first): interventions of a plane, and parts pruned alone."""

from __future__ import annotations

from typing import Any

import streamlit as st

from store import Filter, RunInfo
from ui import data
from ui.runs import weights_of
from ui.sensitivity.plane_layers import runs_of
from ui.words import count


def lowered(of: RunInfo, rows: Any) -> tuple[list[dict[str, Any]], int]:
    """Levels whose 95 % interval lies below 0, lowest first, of a part the lowest only; and how many levels were tried.

    rows: of `plane.costs`.
    """
    tried = rows[rows["level"] > 0].drop_duplicates(["method", "seed", "level"])
    table = [
        {"what": row.method, "share": row.achieved, "delta": row.delta, "low": row.low, "high": row.high, "again": row.choice_delta}
        for row in tried[tried["high"] < 0].itertuples()
    ]
    n = len(tried)
    for kind, run in runs_of(weights_of(of)).items():
        parts: Any = data.rows(run, "matrix_points", where=(Filter("kind", "=", kind),))
        helps = parts[parts["high"] < 0].sort_values("delta").drop_duplicates("tensor")
        table += [
            {"what": row.tensor, "share": row.level, "delta": row.delta, "low": row.low, "high": row.high, "again": None}
            for row in helps.itertuples()
        ]
        n += len(parts)
    return sorted(table, key=lambda row: row["delta"]), n


def lowering(of: RunInfo, rows: Any) -> None:
    """A row for each, and how far luck may have made it."""
    import pandas as pd

    table, n = lowered(of, rows)
    st.markdown("## What lowers the loss")
    if not table:
        st.caption("Nothing measured lowers the loss by more than the documents differ among themselves (95 % interval below 0).")
        return
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = {
        "what": text("Gone", help="An intervention on the whole model, or one part removed alone"),
        "share": number("Share", format="percent", help="Removed, of the intervention's own denominator or of the part"),
        "delta": number("Loss above dense", format="%+.3g"),
        "low": number("from", format="%+.3g", help="Lower end of its 95 % interval over documents"),
        "high": number("to", format="%+.3g", help="Upper end of it"),
        "again": number("On other documents", format="%+.3g", help="The same on the choice documents, measured with the planes only"),
    }
    st.dataframe(
        pd.DataFrame(table)[list(config)], hide_index=True, column_config=config, placeholder="—",
        alt="One row per ablation that lowers the loss.",
    )  # fmt: skip
    st.caption(
        f"Ablations whose 95 % interval lies below 0: on these documents the model does better without. {count(n, 'level')} were tried, of "
        "which about one in forty would do so by luck alone: look whether the loss is lower on other documents, too."
    )
