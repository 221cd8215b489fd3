"""The figures of `head_sparsity`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw


def _places(rows: Any) -> Any:
    """One row of heads per layer where a layer has one place; else the place's name tells them apart."""
    shown = rows.sort_values(["layer", "hook_name", "turn", "head"]).reset_index(drop=True)
    one_each = len(shown[["layer", "hook_name", "turn"]].drop_duplicates()) == shown["layer"].nunique()
    turns = shown["turn"].max() > 0
    named = shown["hook_name"] + (" call " + shown["turn"].astype(str) if turns else "")
    shown["place"] = shown["layer"].astype(str) if one_each else named
    return shown.assign(head=shown["head"].astype(str)), "Layer" if one_each else "Place"


def _read(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['heads']:,} heads of {provenance['model_label']}, {facts['n_tokens']:,} queries from {facts['n_documents']:,} documents "
        f"of {provenance['data']}"
    )


def heads_map(
    rows: Any,
    provenance: Mapping[str, Any],
    colour: Axis,
    title: str,
    sentence: str,
    hover: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> FigureSpec:
    """Layer by head in the colour of a column, from rows that have it."""
    if rows.empty:
        raise NothingToDraw(f"no query of {provenance['model_label']} has two valid keys, so there is nothing to average.")
    shown, words = _places(rows)
    x, y = Axis("head", "Head", scale="category"), Axis("place", words, scale="category")
    return FigureSpec("heatmap", shown, x, y, title, sentence, colour=colour, hover=hover, notes=notes)


def _map(rows: Any, provenance: Mapping[str, Any], column: str, label: str, unit: str, title: str, sentence: str) -> FigureSpec:
    return heads_map(
        rows[rows[column].notna()],
        provenance,
        Axis(column, label, unit=unit, bounds=(0.0, 1.0)),
        title,
        f"{sentence}: {_read(provenance)}.",
        ("keys", "relative_entropy", "first_mass", "local_mass"),
        ("Only valid keys count: of a causal model those up to the query; queries with a single valid key are left out.",),
    )


def draw_keys(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: share of the valid keys that hold 90 % of the attention."""
    sentence = "Mean share of a query's valid keys that hold 90 % of its attention"
    return _map(rows, provenance, "key_share", "Keys for 90 %", "share of valid keys", "Keys each head needs", sentence)


def draw_first(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: attention on the first token."""
    sentence = "Mean attention on the first token"
    return _map(rows, provenance, "first_mass", "On the first token", "share of attention", "Attention on the first token", sentence)


def draw_growth(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Keys for 90 % over query position: median head, and the range of the middle half."""
    known = rows[rows["keys"].notna() & (rows["position_from"] > 0)]
    if known.empty:
        raise NothingToDraw(f"no query of {provenance['model_label']} has two valid keys, so there is nothing to average.")
    by = known.groupby("position_from")["keys"]
    shown = by.median().rename("median").to_frame().assign(low=by.quantile(0.25), high=by.quantile(0.75), n_heads=by.size()).reset_index()
    return FigureSpec(
        kind="line",
        data=shown,
        x=Axis("position_from", "Query position, first of its bin", unit="tokens", scale="log"),
        y=Axis("median", "Keys for 90 %", unit="keys", scale="log"),
        y_low="low",
        y_high="high",
        title="Keys needed by position",
        sentence=f"Keys that hold 90 % of a query's attention, by its position: the median head and the middle half of heads, "
        f"{_read(provenance)}.",
        hover=("n_heads",),
    )
