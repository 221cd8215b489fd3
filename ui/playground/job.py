"""The same question as a job: longer prompts, interventions that take minutes, and answers that are kept as a run."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.live.playing import JOB_TOKENS
from analysis.quality.prompt_effect import PROMPT_EFFECT, typed
from ui.links import START_PAGE
from ui.playground.choices import Side
from ui.words import plain


def job_links(asked: Sequence[Side]) -> None:
    """A link per prompt to the form that starts it, filled in; nothing for rows of data."""
    with st.container(horizontal=True, vertical_alignment="center"):
        for side in asked:
            if side.play.row is None:
                st.page_link(
                    START_PAGE, label="As a job" if len(asked) == 1 else plain(f"As a job: {side.name}"),
                    icon=":material/work_history:", width="content",
                    query_params={"analysis": PROMPT_EFFECT.slug, "model": side.live.model} | typed(side.play),
                    help=f"For up to {JOB_TOKENS:,} tokens, and for what takes longer than a minute. Its answer is kept as a run; of "
                    "latents it tells nothing.",
                )  # fmt: skip
