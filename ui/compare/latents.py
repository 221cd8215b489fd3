"""SAEs of two models: what each is worth, and, where it is one and the same SAE, whose latents' density changed most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from analysis.latents.quality_tables import JUDGED, MEASURES, OURS
from store import RunInfo
from ui import data
from ui.compare.changes import Changes, changes, floats, share_noise
from ui.compare.matching import BASE, Matched
from ui.compare.section import Pair, gap, ranked, unit_address, value_columns
from ui.latents.overview import HEADLINES, SCORED
from ui.latents.saes import print_of
from ui.links import LATENT_PAGE
from ui.words import count, plain

_ROWS = (*((measure, tokens) for measure, tokens, _ in HEADLINES), ("fvu", JUDGED), ("kl_spliced", SCORED), ("cosine", JUDGED))
_OF_LATENTS = {"density": "density", "largest": "max", "mean active": "mean"}
_UNIT = "latent"


def latents(pairs: Sequence[Pair], closer: Pair | None) -> None:
    """What the dictionaries cost their models; latent by latent only where the SAE is the same."""
    _worth(pairs)
    if closer is None:
        return
    if not print_of(closer.run) or print_of(closer.run) != print_of(closer.base):
        st.caption(
            f"{closer.side.letter} and {closer.first.letter} were judged with different SAEs, whose latents have nothing to do with each "
            "other: latent 7 of one is not latent 7 of the other, so none is matched."
        )
        return
    name = st.selectbox("Rank latents by", list(_OF_LATENTS), key="latents_by", bind="query-params", width=210)
    found = latent_changes(data.store_folder(), closer.run, closer.base, _OF_LATENTS[name], bool(closer.reasons))
    ranked(closer, found, name, _columns(closer, name), _table(closer, found), _UNIT, key=f"ranked-latents-{name}")
    if found.n_sure is not None and found.n_changed:
        documents = int(found.rows["n_documents"].iloc[0])
        st.caption(
            f"Tested is the share of the {count(documents, 'document')} that a latent is active in, with the largest p that McNemar's "
            "exact test could give from the two counts; q is corrected after Benjamini and Hochberg."
        )


def _worth(pairs: Sequence[Pair]) -> None:
    """A row per measure: each value, and the difference with its interval where both were judged on the same documents."""
    import pandas as pd

    known = {pair.side.letter: _measured(pair.run) for pair in pairs} | {pairs[0].first.letter: _measured(pairs[0].base)}
    rows = [key for key in _ROWS if any((*key, OURS) in measured for measured in known.values())]
    table: dict[str, list[Any]] = {"measure": [measure.replace("_", " ") for measure, _ in rows]}
    table["meaning"] = [MEASURES[measure].meaning for measure, _ in rows]
    first = pairs[0].first
    table[first.heading] = [_value(known[first.letter], key) for key in rows]
    for pair in pairs:
        table[pair.side.heading] = [_value(known[pair.side.letter], key) for key in rows]
        table[pair.minus] = [gap(_value(known[pair.side.letter], key), _value(known[first.letter], key)) for key in rows]
        if not pair.reasons:
            ends = [_interval(known[pair.side.letter], known[first.letter], key) for key in rows]
            table[f"{pair.minus}, from"], table[f"{pair.minus}, to"] = [low for low, _ in ends], [high for _, high in ends]
    numbers = {name: st.column_config.NumberColumn(name, format="%.4g") for name in table if name not in ("measure", "meaning")}
    st.dataframe(pd.DataFrame(table), hide_index=True, height="content", column_config=numbers, placeholder="—", key="sae-worth",
                 alt="One row per measure of the SAEs: its value for each model and the difference.")  # fmt: skip
    if any(not pair.reasons for pair in pairs):
        st.caption("Intervals of differences hold however the two are correlated: the paired ones lie within them.")


def _measured(run: RunInfo) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["measure"], row["tokens"], row["variant"]): row for row in run.summaries.get("sae_quality", ())}


def _value(measured: dict[tuple[str, str, str], dict[str, Any]], key: tuple[str, str]) -> float | None:
    return (measured.get((*key, OURS)) or {}).get("value")


def _interval(measured: Any, base: Any, key: tuple[str, str]) -> tuple[float | None, float | None]:
    one, other = (known.get((*key, OURS)) or {} for known in (measured, base))
    return gap(one.get("low"), other.get("high")), gap(one.get("high"), other.get("low"))


@st.cache_data(max_entries=16, show_spinner="Matching latents …", hash_funcs={RunInfo: lambda run: run.id})
def latent_changes(folder: str, run: RunInfo, base: RunInfo, column: str, untested: bool) -> Changes:
    """Latents of one SAE in two models, ranked by the change of a column."""
    opened = data.open_store(folder)
    wanted = list(dict.fromkeys([_UNIT, "class", "n_documents", "documents_active", column]))
    ours, theirs = (opened.read(one, "latents", columns=wanted) for one in (run, base))
    matched = Matched(ours.merge(theirs, on=_UNIT, suffixes=("", BASE)), 0, 0)
    noise = None if untested else share_noise(matched, "documents_active", int(floats(matched.rows["n_documents"]).max()))
    return changes(matched, column, noise)


def _table(pair: Pair, found: Changes) -> Any:
    rows = found.rows
    addresses = {
        name: [unit_address(LATENT_PAGE, {"run": run.id, "latent": str(one)}) for one in rows[_UNIT]]
        for name, run in (("in_base", pair.base), ("in_run", pair.run))
    }
    tested = ["low", "high", "q"] if found.n_sure is not None else []
    return rows.assign(**addresses)[[_UNIT, "base", "value", "change", f"class{BASE}", "class", *tested, "in_base", "in_run"]]


def _columns(pair: Pair, name: str) -> dict[str, Any]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        _UNIT: number("latent", format="%d", pinned=True),
        **value_columns(pair, name),
        f"class{BASE}": text(f"class, {pair.first.letter}"),
        "class": text(f"class, {pair.side.letter}"),
        "low": number("share of documents, from", format="%+.3f", help=plain(f"95 % interval of {pair.minus}, lower end")),
        "high": number("to", format="%+.3f", help=plain(f"95 % interval of {pair.minus}, upper end")),
        "q": number("q", format="%.3g", help="p of the difference in documents, corrected for the number of latents"),
    }
