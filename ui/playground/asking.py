"""Asking live models, one question at a time, and keeping what they answered; the page stays as quick as ever meanwhile.

A live model is started by a click only (`want`). One that runs already is asked as soon as the address says what. While one starts or is at
work, this part of the page looks again by itself; Cancel stops the worker between two layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.live import LiveCancelled, LiveError, LiveModel, LiveStatus, Pending, Played, needed_by
from store.errors import size_words
from ui import data
from ui.library import library
from ui.words import percent, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ui.playground.choices import Side

_ANSWERS, _WANTED, _PENDING, _STARTED = "playground_answers", "playground_wanted", "playground_pending", "playground_started"
_LOOK_S = 0.5
_PATIENCE_S = 1.0
_KEPT = 24


def want() -> None:
    """Run was clicked: a live model may be started, and what went wrong is tried again."""
    st.session_state[_WANTED] = True
    st.session_state[_STARTED] = set()
    _drop()
    for key in [key for key, found in _answers().items() if isinstance(found, str)]:
        del _answers()[key]


def answered(asked: Sequence[Side]) -> list[Played] | None:
    """The answers; None while there are not all of them, which the page says."""
    missing = next((side for side in asked if side.key not in _answers()), None)
    if missing is None:
        st.session_state.pop(_WANTED, None)
        _drop()
    else:
        st.fragment(_watch, run_every=_LOOK_S if _is_moving(missing) else None)(missing)
    found = [_answers().get(side.key) for side in asked]
    for side, one in zip(asked, found, strict=True):
        if isinstance(one, str):
            st.warning(plain(one if len(asked) == 1 else f"{side.name}: {one}"), icon=":material/warning:")
    if missing is None:
        _quiet(asked)
    played = [one for one in found if isinstance(one, Played)]
    return played if len(played) == len(asked) else None


def _answers() -> dict[Any, Played | str]:
    """What has been answered in this session: an answer, or the sentence why there is none."""
    return st.session_state.setdefault(_ANSWERS, {})


def _keep(key: Any, found: Played | str) -> None:
    answers = _answers()
    answers[key] = found
    while len(answers) > _KEPT:
        del answers[next(iter(answers))]


def _drop() -> None:
    kept: tuple[Any, Pending[Played]] | None = st.session_state.pop(_PENDING, None)
    if kept is not None:
        kept[1].close()


def _is_moving(side: Side) -> bool:
    return bool(st.session_state.get(_WANTED) or st.session_state.get(_PENDING)) or side.live.status().state in (
        "starting",
        "ready",
        "busy",
    )


def _watch(side: Side) -> None:
    """One look: ask, or take the answer, or say what is waited for."""
    status = side.live.status()
    try:
        found = _advance(side, status)
    except LiveCancelled:
        found = "The question was cancelled."
    except LiveError as error:
        found = str(error)
    if found is not None:
        _drop()
        _keep(side.key, found)
        st.rerun()
    _say(side, side.live.status())


def _advance(side: Side, status: LiveStatus) -> Played | str | None:
    """Do what can be done now; the answer where it is there."""
    pending: tuple[Any, Pending[Played]] | None = st.session_state.get(_PENDING)
    if pending is not None and pending[0] != side.key:
        _drop()
        pending = None
    if pending is None and not status.answers:
        started: set[str] = st.session_state.setdefault(_STARTED, set())
        if status.state == "starting" or not st.session_state.get(_WANTED):
            return None
        if side.live.model in started:  # it was started by this click, and has ended: once is enough
            st.session_state.pop(_WANTED, None)
            return status.words
        started.add(side.live.model)
        side.live.start()
        return None
    if pending is None:
        pending = (side.key, side.live.begin_play(side.play))
        st.session_state[_PENDING] = pending
    return pending[1].poll(_PATIENCE_S)


def _say(side: Side, status: LiveStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if status.state == "starting":
            done = f" {percent(status.share)}" if status.share is not None else ""
            st.status(plain(f"{side.name}: {status.words}{done}"))
            st.button("Stop", key="playground_stop", on_click=_stop, args=(side.live,))
        elif st.session_state.get(_PENDING) is not None:
            st.status(plain(f"{side.name}: the model is at work on this."))
            st.button("Cancel", key="playground_cancel", icon=":material/cancel:", on_click=_cancel)
        elif status.state in ("failed", "other"):
            st.warning(plain(status.words), icon=":material/warning:")
        else:
            st.info(plain(f"The live model of {side.name} is not running. Run starts it ({_memory(side.live)})."), icon=":material/bolt:")


def _memory(live: LiveModel) -> str:
    entry = next((one for one in library(data.runs(summaries=False), data.store().models()) if one.ref == live.model), None)
    record = entry.runs[0].provenance if entry is not None and entry.runs else {}
    need = None if entry is None else needed_by(entry.facts, str(record.get("dtype") or entry.facts.get("dtype")))
    return f"about {size_words(need)} of memory" if need is not None else "it needs memory for a copy of the model"


def _quiet(asked: Sequence[Side]) -> None:
    """What the live models hold, and how to free it."""
    for live in {side.live.model: side.live for side in asked}.values():
        status = live.status()
        if not status.answers:
            continue
        holds = f" It holds {size_words(status.memory)}." if status.memory else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(plain(f"{live.model}: {status.words}{holds}"))
            st.button("Stop it", key=f"playground_stop_{live.model}", type="tertiary", on_click=_stop, args=(live,))


def _stop(live: LiveModel) -> None:
    _drop()
    st.session_state.pop(_WANTED, None)
    live.stop()


def _cancel() -> None:
    kept: tuple[Any, Pending[Played]] | None = st.session_state.get(_PENDING)
    if kept is None:
        return
    st.session_state.pop(_WANTED, None)
    kept[1].cancel()
    _keep(kept[0], "The question was cancelled; Run asks it again.")
    _drop()
