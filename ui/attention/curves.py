"""The pictures of one head: where it looks by distance, its measures by position, and what needs how many keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from figures.spec import Axis, FigureError, FigureSpec, NothingToDraw, Series
from figures.words import number
from store import Filter, RunInfo
from ui.attention.charts import of_model, read_on
from ui.attention.heads import Head
from ui.attention.measures import Measure
from ui.charts import show_spec
from ui.data import ask
from ui.words import count, percent, plain

Frame = Any
Row = Mapping[str, Any]
ALL = "median head of the model"
_GROWTH = (
    (1.1, "grows faster than the context"),
    (0.9, "grows as the context does: always about the same share of it"),
    (0.1, "grows with the context, but slower"),
    (-0.1, "hardly depends on the context"),
)
"""Slopes above each number, in words."""


def show(title: str, key: str, make: Callable[..., FigureSpec], run: RunInfo, *args: Any) -> None:
    """A figure, or the sentence why there is none."""
    try:
        show_spec(make(run, *args), run.provenance, name=f"head-{key}", key=key)
    except FigureError as error:
        st.markdown(f"## {plain(title)}")
        st.caption(f"Nothing to draw: {plain(error)}")


def distance_spec(run: RunInfo, head: Head, row: Row) -> FigureSpec:
    """Attention by distance, in bins that double."""
    frame = ask(run, "read", "head_distances", where=head.where, order_by=("distance_from",))
    if frame.empty:
        raise NothingToDraw("queries and keys of cross-attention are different sequences, or no query has two valid keys.")
    names = [_span(*pair) for pair in zip(frame["distance_from"], frame["distance_to"], strict=True)]
    return FigureSpec(
        kind="bars",
        data=frame[["mass", "distance_from", "distance_to"]].assign(distance=names),
        x=Axis("distance", "Distance from query to key", unit="tokens", scale="category"),
        y=Axis("mass", "Attention", unit="share"),
        title="How far it looks",
        sentence=f"Mean attention of head {head.name} of {of_model(run)} by distance between query and key, in bins that double; "
        f"n = {count(int(row['n_rows']), 'query', 'queries')}; shares add up to 1.",
    )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first:,}–{last:,}"


def position_spec(run: RunInfo, head: Head, measure: Measure) -> FigureSpec:
    """A measure by the position of the query, beside the median head of the model and the middle half of its heads."""
    import pandas as pd

    bins = ask(run, "read", "head_positions", columns=("position_from", "n_rows"), where=head.where, order_by=("position_from",))
    columns = ("position_from", measure.column)
    own = ask(run, "read", measure.table, columns=columns, where=(*head.where, *measure.filters), order_by=("position_from",))
    own = bins.merge(own.dropna(subset=[measure.column]), on="position_from")
    if own.empty:
        raise NothingToDraw(f"this head has no {measure.name} at any position.")
    like = (Filter("position_from", "in", tuple(own["position_from"].tolist())), *measure.filters)
    every = ask(run, "read", measure.table, columns=columns, where=like).dropna(subset=[measure.column])
    by = every.groupby("position_from")[measure.column]
    median = pd.DataFrame({"value": by.median(), "low": by.quantile(0.25), "high": by.quantile(0.75), "heads": by.size()}).reset_index()
    mine = own.rename(columns={measure.column: "value", "n_rows": "queries"}).assign(who=f"head {head.name}")
    data: Frame = pd.concat([mine, median.assign(who=ALL)], ignore_index=True)
    data["position"] = data["position_from"] + 1
    n, n_heads = sum(own["n_rows"].tolist()), max(median["heads"].tolist())
    log = not measure.is_share and bool((data[["value", "low"]].min() > 0).all())
    return FigureSpec(
        kind="line",
        data=data[["position", "value", "low", "high", "who", "queries", "heads"]],
        x=Axis("position", "Query position, first of its bin, counted from 1", unit="tokens", scale="log"),
        y=Axis("value", measure.label, unit=measure.unit, scale="log" if log else "linear"),
        y_low="low",
        y_high="high",
        series=Series("who", "Head", order=(f"head {head.name}", ALL)),
        title="By query position",
        sentence=f"{measure.meaning}, by query position in bins that double: head {head.name} "
        f"(n = {count(n, 'query', 'queries')}), and the "
        f"median of {count(n_heads, 'head')} of {of_model(run)} with the middle half of heads.",
        hover=("queries", "heads"),
    )


def show_curves(run: RunInfo, head: Head, row: Row, known: Mapping[str, Measure]) -> None:
    """Its measures over position, and at other parameters."""
    show_positions(run, head, row, known)
    show_levels(run, head)


def show_positions(run: RunInfo, head: Head, row: Row, known: Mapping[str, Measure]) -> None:
    """A measure over the query's position, chosen by name; and the slope of the number of keys, in words."""
    if not known:
        return
    names = list(known)
    name = st.selectbox("Over position", names, names.index("keys") if "keys" in known else 0, key="curve", bind="query-params", width=230)
    show("By query position", "positions", position_spec, run, head, known[name or names[0]])
    st.caption(plain(slope_words(row)))
    st.caption("Measures of whole windows (block density, heavy hitters, ZipVL, detected sinks) and of rules have no position.")


def slope_words(row: Row) -> str:
    """How the number of keys grows with context (foreign text)."""
    slope = row.get("slope")
    if slope is None:
        return "Slope of ln(keys for 90 %) on ln(position + 1): not known, since fewer than three bins from position 8 on have queries."
    grows = next((words for above, words in _GROWTH if slope > above), "shrinks as the context grows")
    return f"Slope of ln(keys for 90 %) on ln(position + 1): {slope:.2f}. The number of keys it needs {grows}."


def mass_spec(run: RunInfo, head: Head, row: Row) -> FigureSpec:
    """Keys needed for 50, 90, 95 and 99 % of the attention."""
    frame = levels(run, head)
    keys = frame[frame["measure"] == "keys"].sort_values("level")
    if keys.empty:
        raise NothingToDraw("no query of this head has two valid keys.")
    shares = frame[frame["measure"] == "key_share"].set_index("level")["value"]
    data = keys[["level", "value"]].assign(mass=[f"{100 * level:g} %" for level in keys["level"]], share=keys["level"].map(shares))
    return FigureSpec(
        kind="bars",
        data=data.reset_index(drop=True),
        x=Axis("mass", "Attention to be held", unit="share of it", scale="category"),
        y=Axis("value", "Keys needed", unit="keys"),
        title="Keys needed",
        sentence="Keys that hold " + ", ".join(f"{mass} ({number(value)})" for mass, value in zip(data["mass"], data["value"], strict=True))
        + f" of a query's attention, mean over n = {count(int(row['n_rows']), 'query', 'queries')} of head {head.name} of {of_model(run)}; "
        f"a query has {number(row['valid_keys'])} valid keys on average.",
        hover=("share",),
    )  # fmt: skip


def levels(run: RunInfo, head: Head) -> Frame:
    """Measures with a parameter, at each of its levels."""
    return ask(run, "read", "head_levels", columns=("measure", "level", "value"), where=head.where, order_by=("measure", "level"))


_LEVEL_WORDS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "keys": ("keys for so much of the attention", percent),
    "key_share": ("share of valid keys for so much of the attention", percent),
    "below": ("share of valid keys with a weight below", number),
    "below_fair": ("share of valid keys with a weight below this / valid keys", number),
    "local_mass": ("attention on keys less than so many tokens away", lambda level: f"{level:g} tokens"),
    "block_density": ("share of blocks of this width that are not negligible", lambda level: f"{level:g} × {level:g}"),
    "subsampled_agreement": ("cosine of the output with the whole one where a query sees so many of its keys, at random", percent),
}


def show_levels(run: RunInfo, head: Head) -> None:
    """All of them as a table, behind a click."""
    frame = levels(run, head)
    if frame.empty:
        return
    with st.expander("At other thresholds, windows and block widths", icon=":material/tune:"):
        told = [_LEVEL_WORDS.get(name, (name, number)) for name in frame["measure"]]
        st.dataframe(
            {
                "what": [words for words, _ in told],
                "at": [text(level) for (_, text), level in zip(told, frame["level"], strict=True)],
                "value": frame["value"],
            },
            hide_index=True, height="content", alt="Measures with a parameter, at each of its levels.",
            column_config={"value": st.column_config.NumberColumn("value", format="%.4g")},
        )  # fmt: skip
        st.caption(f"Means over queries; those of blocks over windows. Measured on {plain(read_on(run))}.")
