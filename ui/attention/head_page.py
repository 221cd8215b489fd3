"""The parts of one head's page: getting about, what it does in words, and its numbers with their place among the model's heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.spec import UserError
from store import RunInfo
from ui.attention.heads import SLUG, Head, Place, in_layer, jump, step
from ui.attention.measures import FIRST, Measure, pattern_measures
from ui.attention.patterns import patterns_of
from ui.attention.promoted import show_promoted
from ui.data import ask, first_row
from ui.links import START_PAGE
from ui.playground.ways import play_link
from ui.runs import reference_of
from ui.words import count, percent, plain, short

Row = Mapping[str, Any]
_JUMP, _REFUSED = "jump", "_refused_head"
_PARTS = {"layer", "hook", "turn", "head"}
"""What of the address says which head is shown; the rest stays when another one is."""


def row_of(run: RunInfo, head: Head) -> Row:
    """Its row of `heads`, missing values as None. Raises `UserError` where the run has none."""
    row = first_row(ask(run, "read", "heads", where=head.where, limit=1))
    if row is None:
        raise UserError(f"the run must hold the head {head.name}, got a run without that row; choose another head.")
    return row


def getting_about(run: RunInfo, places: list[Place], head: Head) -> None:
    """Previous and next head, the same one of the layers beside, and a box to jump; arrow keys do the same as the buttons."""
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        _button(run, "Previous", "chevron_left", step(places, head, -1), "previous", "Left")
        _button(run, "Next", "chevron_right", step(places, head, 1), "next", "Right")
        _button(run, "Layer before", "arrow_upward", in_layer(places, head, -1), "layer_before", "Shift+Left")
        _button(run, "Layer after", "arrow_downward", in_layer(places, head, 1), "layer_after", "Shift+Right")
        st.text_input(
            "Jump to", key=_JUMP, placeholder=f"{head.place.layer}:{head.head}", on_change=_jump, args=(run, places, head), width=110,
            label_visibility="collapsed", help="layer:head, for example 3:5; a single number stays in this layer",
        )  # fmt: skip
        play_link(run, f"head {head.place.layer}:{head.head}")
    refused = st.session_state.pop(_REFUSED, None)
    if refused:
        st.warning(plain(refused), icon=":material/turn_slight_right:")


def _button(run: RunInfo, label: str, icon: str, to: Head | None, key: str, shortcut: str) -> None:
    st.button(label, icon=f":material/{icon}:", on_click=_go, args=(run, to), key=key, shortcut=shortcut, disabled=to is None)


def _go(run: RunInfo, to: Head | None) -> None:
    if to is not None:
        query = to.query(run)
        for name in _PARTS - query.keys():
            st.query_params.pop(name, None)
        for name, value in query.items():
            st.query_params[name] = value


def _jump(run: RunInfo, places: list[Place], head: Head) -> None:
    typed = st.session_state[_JUMP].strip()
    st.session_state[_JUMP] = ""
    if typed:
        try:
            _go(run, jump(places, typed, head.place))
        except UserError as error:
            st.session_state[_REFUSED] = str(error)


# ---------------------------------------------------------------------------------------------------------------------


def state(row: Row) -> str:
    """What it needs and where it looks, in a sentence or two (foreign text)."""
    if row["keys"] is None:
        return "None of its queries has two valid keys, so there is nothing to average."
    said = f"It needs {row['keys']:,.1f} keys for 90 % of a query's attention, {percent(row['key_share'])} of the valid ones"
    said += _interval(row, "key_share")
    told = [f"{percent(row['first_mass'])} of its attention{_interval(row, 'first_mass')} goes to the first token"]
    if row["local_mass"] is not None:
        told.append(f"{percent(row['local_mass'])}{_interval(row, 'local_mass')} to tokens less than 64 away")
    return f"{said}. {', '.join(told)}. Mean over {count(int(row['n_rows']), 'query', 'queries')} with two or more valid keys."


def _interval(row: Row, name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""


def interval_words(row: Row) -> str:
    """What the brackets of `state` are."""
    if row.get("key_share_low") is None:
        return "Without intervals: the run has read a single document."
    return "In brackets: 95 % intervals over documents."


def numbers(run: RunInfo, head: Head, row: Row, known: Mapping[str, Measure]) -> None:
    """Six up front and the rest behind one click, each with its place among the other heads of the model."""
    below = places_among(run, row, known)
    with st.container(horizontal=True, gap="small"):
        for one in (known[name] for name in FIRST if name in known):
            value = row[one.column]
            if value is not None:
                words = percent(value) if one.unit.startswith("share") else short(value)
                st.metric(
                    one.label,
                    words,
                    _place_words(below[one.name]),
                    delta_color="off",
                    delta_arrow="off",
                    width=155,
                    help=plain(one.comment),
                )
    _all_of("measures", known, row, below)
    missing = [name for name, one in known.items() if row[one.column] is None]
    if missing:
        st.caption(f"This head has no number for {', '.join(missing)}; the meaning of each says when.")

    patterns = patterns_of(run)
    found = None if patterns is None else first_row(ask(patterns, "read", "head_patterns", where=head.where, limit=1))
    if patterns is not None and found is not None:
        more = pattern_measures(patterns)
        _all_of("measures of its pattern", more, found, places_among(patterns, found, more, "head_patterns"))
        st.markdown(plain(pattern_words(found)))


def pattern_words(row: Row) -> str:
    """What its pattern looks like, from its row of `head_patterns` (foreign text)."""
    recall = {"A-shape": "a_shape_recall", "vertical-slash": "lines_recall", "block-sparse": "blocks_recall"}[row["pattern"]]
    agreeing = f"so in {percent(row['shape_agreement'])} of {count(int(row['n_windows']), 'window')}"
    return (
        f"Its pattern looks like this: {row['shape']} ({agreeing}). Of MInference's classes {row['pattern']} suits it best: with "
        f"{row['keys']:,} keys per query it keeps {percent(row[recall])} of the attention, the best choice of as many keys "
        f"{percent(row['oracle_mass'])}."
    )


def _all_of(noun: str, known: Mapping[str, Measure], row: Row, below: Mapping[str, float | None]) -> None:
    """A table of numbers behind a click."""
    with st.expander(f"All {len(known)} {noun}", icon=":material/tune:"):
        every = list(known.values())
        st.dataframe(
            {
                "measure": [one.label for one in every],
                "value": [short(row[one.column]) for one in every],
                "unit": [one.unit for one in every],
                "above": [below[one.name] for one in every],
                "meaning": [one.comment for one in every],
            },
            hide_index=True, height="content", placeholder="—", alt=f"All {noun} of this head.",
            column_config={
                "above": st.column_config.NumberColumn("above", format="percent", help="Share of the other heads with a smaller number"),
                "meaning": st.column_config.TextColumn("meaning, range, evidence", width=700),
            },
        )  # fmt: skip


def places_among(run: RunInfo, row: Row, known: Mapping[str, Measure], table: str = "heads") -> dict[str, float | None]:
    """By measure, the share of the model's other heads whose number is smaller; None where this one or all others have none."""
    frame = ask(run, "read", table, columns=tuple(one.column for one in known.values()))
    found: dict[str, float | None] = {}
    for name, one in known.items():
        others, value = int(frame[one.column].notna().sum()) - 1, row[one.column]
        found[name] = float((frame[one.column] < value).sum()) / others if value is not None and others > 0 else None
    return found


def _place_words(below: float | None) -> str | None:
    return None if below is None else f"above {100 * below:.0f} % of heads"


def show_writes(run: RunInfo, head: Head, row: Row) -> None:
    """What its output does to the tokens the model predicts, as far as runs say."""
    st.markdown("## What it writes")
    if "copying_score" not in row:
        st.markdown("This run was made before heads were read through the unembedding; measure them again to see whether this one copies.")
        query = {"analysis": SLUG, "model": reference_of(run)}
        st.page_link(START_PAGE, label="Measure its heads again", icon=":material/play_arrow:", query_params=query)
    elif row["copying_score"] is None:
        unseen = "no unembedding reads what it writes, or its values or projection were not seen."
        why = (run.provenance.get("facts") or {}).get("no_copying_score", unseen)
        st.markdown(plain(f"Whether it copies is not known: {why}"))
    else:
        st.markdown(plain(copying_words(row["copying_score"])))
        st.caption("Read through the unembedding, on tokens of the run.")
    show_promoted(run, head)


def copying_words(score: float) -> str:
    """What the copying score says, in words (foreign text)."""
    said = f"What it moves from a token raises that token's own logit more than those of {percent(score)} of other tokens"
    kinds = (
        (0.9, "it copies"),
        (0.6, "it leans towards copying"),
        (0.4, "it has little to do with the token"),
        (0.1, "it leans against it"),
    )
    kind = next((words for least, words in kinds if score >= least), "it works against the tokens it looks at")
    return f"{said} (half of them would be chance): {kind}."
