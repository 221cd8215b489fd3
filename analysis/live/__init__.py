"""The live model: a resident process that holds one model and reads texts for pages, which never load torch.

`LiveModel` is all that others need: `client` (names, status, start, ask) talks to `worker` (a process started as
``python -m analysis live``) over a private socket (`wire`, `places`). In the worker, `desk` takes requests and `reader` is the only
module that loads torch, with those of the playground (`player`). A page asks `LiveModel.begin` about units, `LiveModel.begin_play` about
a prompt and what is taken away from the model.
"""

from __future__ import annotations

from analysis.live.client import LiveCancelled, LiveError, LiveGone, LiveModel, LiveStatus, Pending
from analysis.live.limits import needed_by
from analysis.live.played import Arm, Played
from analysis.live.playing import Play, Step, UnitRef
from analysis.live.question import Answer, Unit

__all__ = [
    "Answer", "Arm", "LiveCancelled", "LiveError", "LiveGone", "LiveModel", "LiveStatus", "Pending", "Play", "Played", "Step", "Unit",
    "UnitRef", "needed_by",
]  # fmt: skip
