"""Observe a model that somebody else calls: every call of it is a pass of a session, until the block is left."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.capture.handover import Contract
from analysis.capture.running import by_name, forward_replaced, unwrapped
from analysis.capture.session import Session
from analysis.capture.site import Frame, Site

if TYPE_CHECKING:
    from torch import nn

Around = Callable[[Frame, Mapping[str, Any]], contextlib.AbstractContextManager[Any]]
"""A block that one call runs in, given the frame of its batch and its arguments by name."""


@contextlib.contextmanager
def observing_calls(model: nn.Module, sites: Sequence[Site], observer: Any, around: Around | None = None) -> Iterator[None]:
    """While inside, ``observer`` (`Contract`) sees, and may replace, what flows past ``sites`` in every call of ``model``.

    On exit, also on error, the model is as before.
    """
    inner = unwrapped(model)
    session = Session(inner, sites, Contract(observer))
    forward = inner.forward

    @functools.wraps(forward)
    def watched(*args: Any, **kwargs: Any) -> Any:
        given = by_name(forward, args, kwargs)
        frame = Frame.of(given)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_fast_paths_off())
            if around is not None:
                stack.enter_context(around(frame, given))
            stack.enter_context(session.watching(frame))
            return forward(*args, **kwargs)

    try:
        session.attach()
        with forward_replaced(inner, watched):
            yield
    finally:
        session.detach()


@contextlib.contextmanager
def _fast_paths_off() -> Iterator[None]:
    """torch's own encoder skips its modules, and with them every hook, on its fast path."""
    import torch

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
