"""Heads of two models, matched by layer and number: the measures of `head_sparsity`, and which heads changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from figures.layer_maps import layer_map
from figures.spec import Axis, FigureSpec
from store import RunInfo
from ui import data
from ui.attention.heads import places_of
from ui.attention.measures import FIRST, MORE
from ui.charts import show_spec
from ui.compare.changes import Changes, changes, floats, interval_noise
from ui.compare.matching import BASE, Matched, matched_units
from ui.compare.section import Pair, Value, ranked, side_by_side, unit_address, value_columns
from ui.links import HEAD_PAGE
from ui.words import count, plain

_PLACE = ("layer", "hook_name", "turn")
_UNIT = "head"
MEASURES: Mapping[str, str] = {**FIRST, **MORE}
_ENDS = ("_low", "_high")


def heads(pairs: Sequence[Pair], closer: Pair | None) -> None:
    """Means over all heads; the map and the ranked list of the pair looked at closer."""
    side_by_side(
        means(pairs), pairs, key="head-means", alt="One row per measure: its mean over the heads of each model, and the difference."
    )
    if closer is None:
        return
    name = st.selectbox("Map and rank heads by", list(MEASURES), key="heads_by", bind="query-params", width=260)
    matched = matched_heads(data.store_folder(), closer.run, closer.base, MEASURES[name])
    if matched is None:
        st.caption(f"One of the two runs does not hold {plain(name)}.")
        return
    noise = None if closer.reasons else interval_noise(matched, MEASURES[name], n_documents(closer.run))
    found = changes(matched, MEASURES[name], noise)
    spec = map_spec(closer, matched, name)
    if spec is not None:
        show_spec(spec, closer.provenance, name="compare-heads", key="compare-heads")
    ranked(closer, found, name, _columns(closer, name), _table(closer, found), _UNIT, key=f"ranked-heads-{name}")
    if found.n_changed and not closer.reasons:
        st.caption(noise_words(noise is not None, name, n_documents(closer.run)))


def noise_words(tested: bool, name: str, documents: int) -> str:
    """What the interval and q of a ranked head are worth (safe Markdown)."""
    if not tested:
        with_one = "share of keys, entropy, first token and local have one"
        return f"Not tested: no interval over documents is stored for {plain(name)} ({with_one}); only the numbers differ for sure."
    return (
        f"Both were measured on the same {count(documents, 'document')}, but only each head's interval is stored: the interval of the "
        "difference and q are the widest and the largest that a paired t test could give; q is corrected after Benjamini and Hochberg."
    )


def n_documents(run: RunInfo) -> int:
    """Documents that the means were taken over, as the run recorded it; 0 where it did not."""
    return int((run.provenance.get("facts") or {}).get("n_documents") or 0)


def means(pairs: Sequence[Pair]) -> list[tuple[str, Mapping[str, Value], bool]]:
    """Rows of the table: means over heads, from the places' means weighed by their heads."""
    runs = {pairs[0].first.letter: pairs[0].base} | {pair.side.letter: pair.run for pair in pairs}
    words = {
        "key_share": "share of valid keys for 90 %", "relative_entropy": "entropy, share of uniform",
        "first_mass": "on the first token", "local_mass": "within 64 tokens",
    }  # fmt: skip
    rows: list[tuple[str, Mapping[str, Value], bool]] = [
        ("heads", {letter: sum(row["n_heads"] for row in _places(run)) for letter, run in runs.items()}, False),
        ("sink heads", {letter: sum(row["n_sink_heads"] for row in _places(run)) for letter, run in runs.items()}, False),
    ]
    return rows + [(said, {letter: _mean(run, name) for letter, run in runs.items()}, True) for name, said in words.items()]


def _places(run: RunInfo) -> Sequence[Mapping[str, Any]]:
    return run.summaries.get("attention_layers", ())


def _mean(run: RunInfo, name: str) -> float | None:
    known = [(row[name], row["n_heads"]) for row in _places(run) if row[name] is not None]
    return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={RunInfo: lambda run: run.id})
def matched_heads(folder: str, run: RunInfo, base: RunInfo, column: str) -> Matched | None:
    """Heads of both with one measure, and its interval where it has one; None where one of the files has no such column."""
    opened = data.open_store(folder)
    frames = []
    for one in (run, base):
        there = {known.name for info in opened.table_info(one) if info.name == "heads" for known in info.columns}
        if column not in there:
            return None
        wanted = [*_PLACE, _UNIT, column, *(column + end for end in _ENDS if column + end in there)]
        frames.append(opened.read(one, "heads", columns=wanted))
    return matched_units(frames[0], frames[1], _PLACE, _UNIT)


def map_spec(pair: Pair, matched: Matched, name: str) -> FigureSpec | None:
    """The difference, layer by head, grey where there is none; None where no head has the number on both sides."""
    column = MEASURES[name]
    labels = {place.key: place.label for place in places_of(pair.run)}
    gap = floats(matched.rows[column]) - floats(matched.rows[column + BASE])
    if not len(gap) or np.isnan(gap).all():
        return None
    shown = matched.rows.assign(
        place=[labels.get(key, str(key[0])) for key in matched.rows[list(_PLACE)].itertuples(index=False, name=None)],
        difference=gap, first=matched.rows[column + BASE], second=matched.rows[column],
    )  # fmt: skip
    shown = shown.sort_values(["layer", "hook_name", "turn", "head"], kind="stable")
    reach = float(np.nanmax(np.abs(gap))) or 1.0
    return layer_map(
        shown,
        Axis("difference", f"{name}, {pair.minus}", bounds=(-reach, reach)),
        title=f"Heads, {pair.minus}",
        sentence=f"How far {name} of each head of {pair.side.name} lies from that of the head of the same layer and number of "
        f"{pair.first.name}; n = {count(len(shown), 'head')}.",
        hover=("first", "second"),
        notes=("Grey is no difference.", *pair.notes),
        layer="place",
        down=Axis("head", "Head", scale="category"),
    )


def _table(pair: Pair, found: Changes) -> Any:
    rows = found.rows
    labels = {place.key: place.label for place in places_of(pair.run)}
    keys = rows[[*_PLACE, _UNIT]].itertuples(index=False, name=None)
    names = [f"{labels.get(key[:3], key[0])}:{key[3]}" for key in keys]
    shown = rows.assign(unit=names, in_base=_addresses(rows, pair.base, BASE), in_run=_addresses(rows, pair.run, ""))
    tested = ["low", "high", "q"] if found.n_sure is not None else []
    return shown[["unit", "base", "value", "change", *tested, "in_base", "in_run"]]


def _addresses(rows: Any, run: RunInfo, side: str) -> list[str]:
    keys = zip(*(rows[name + side] for name in _PLACE), rows[_UNIT], strict=True)
    return [
        unit_address(HEAD_PAGE, {"run": run.id, "layer": layer, "hook": hook, "head": head} | ({"turn": turn} if turn else {}))
        for layer, hook, turn, head in keys
    ]


def _columns(pair: Pair, name: str) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "unit": st.column_config.TextColumn("head", pinned=True, help="layer:head"),
        **value_columns(pair, name),
        "low": number("from", format="%+.3g", help=plain(f"95 % interval of {pair.minus}, lower end")),
        "high": number("to", format="%+.3g", help=plain(f"95 % interval of {pair.minus}, upper end")),
        "q": number("q", format="%.3g", help="p of the difference, corrected for the number of heads"),
    }
