"""Where a live model stands, and the ways in which it gives no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.spec import UserError

State = Literal["absent", "starting", "ready", "busy", "ended", "failed", "other"]


class LiveError(UserError):
    """The live model gave no answer; the text says why and what to do."""


class LiveGone(LiveError):
    """There is no worker (any more); the next `LiveModel.start` makes one."""


class LiveCancelled(LiveError):
    """The question was cancelled."""


@dataclass(frozen=True)
class LiveStatus:
    """Where a live model stands, in a word and in words."""

    state: State
    words: str
    """One or two sentences for people."""
    share: float | None = None
    """While it starts: how much of the present step is done; None where that is not known."""
    memory: int | None = None
    """Bytes it holds."""
    pid: int | None = None

    @property
    def answers(self) -> bool:
        """Whether a question asked now would be answered."""
        return self.state in ("ready", "busy")
