"""What is told of where the numbers come from: into exported figures, and as the Python that asks the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from analysis.live import Play, Step, UnitRef
from analysis.live.offered import offered
from ui.playground.choices import Side


def provenance_of(asked: Sequence[Side]) -> dict[str, Any]:
    """Model, prompt and what was taken away, for exported files."""
    play = asked[0].play
    taken = [f"{offered(step.slug).line.rstrip('.')}, at {step.level:g}" for step in play.steps]
    taken += [f"without {unit}" for unit in play.without]
    read = [f"row {side.play.row} of {side.live.data}" if side.play.row is not None else f"“{side.play.text}”" for side in asked]
    return {
        "model": " and ".join(dict.fromkeys(side.live.model for side in asked)),
        "told": [
            f"Input: {'; '.join(dict.fromkeys(read))}.",
            f"Taken away: {'; '.join(taken)}." if taken else "Nothing was taken away.",
            "Made with Sparsescope, in the playground.",
        ],
        "facts": {"interventions": [step.slug for step in play.steps]},
        "made_with": "the playground",
        "models": [side.live.model for side in asked],
        "prompts": [side.play.text for side in asked],
        "rows": [f"{side.play.row} of {side.live.data}" for side in asked if side.play.row is not None],
        "taken_away": [f"{step.slug} at {step.level:g}" for step in play.steps] + [str(unit) for unit in play.without],
        "active": play.active,
        "magnitude": play.magnitude,
    }


def in_python(asked: Sequence[Side]) -> None:
    """The lines that ask the same questions."""
    with st.expander("The same in Python"):
        st.caption("Run it in the folder of Sparsescope; each answer holds tokens, both states, and the KL divergence between them.")
        st.code(
            "\n".join(["from analysis.live import LiveModel, Play, Step, UnitRef", *map(_lines, asked)]), language="python", wrap_lines=True
        )


def _lines(side: Side) -> str:
    live = side.live
    data = f", data={live.data!r}" if side.play.row is not None else ""
    return (
        f"live = LiveModel({live.store!r}, {live.model!r}{data})\n"
        "live.start(), live.wait()\n"
        f"answer = live.play({_call(side.play)})\n"
        "answer.kl, answer.dense.next[-1]"
    )


def _call(play: Play) -> str:
    """The question as it would be typed: what is left out is as it is by default."""
    usual = Play(play.text)
    names = ("steps", "without", "colour", "new", "temperature", "seed", "lens", "row", "active", "magnitude")
    given = [f"{name}={_value(getattr(play, name))}" for name in names if getattr(play, name) != getattr(usual, name)]
    return f"Play({', '.join([repr(play.text), *given])})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({''.join(f'{_value(one)}, ' for one in value)})"
    if isinstance(value, Step):
        return f"Step({value.slug!r}, {value.level!r})"
    if isinstance(value, UnitRef):
        return f"UnitRef.of_text({str(value)!r})"
    return repr(value)
