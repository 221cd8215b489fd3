"""What the questions about attention ask of a subject before it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def needs_inputs(slug: str, what: str) -> Callable[[Any], str | None]:
    """None, or the sentence saying why ``slug``, which ``what``, cannot be asked: no inputs, or windows longer than the model's positions.

    Whether there is attention shows only when the model is run once.
    """

    def needs(subject: Any) -> str | None:
        if subject.data is None:
            return f"{subject.label} has no inputs, and {slug} {what} on them; give a text with --data."
        limit, tokens = subject.facts.get("context_length"), subject.data.token_ids
        if limit and tokens is not None and tokens.shape[1] > limit:
            return (
                f"the window must be at most {limit:,} tokens, the positions of {subject.label}, got {tokens.shape[1]:,}; "
                "set a shorter one."
            )
        return None

    return needs
