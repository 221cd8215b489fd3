"""Trust: what can run code is opened only from the command line, and only by somebody who says so.

Trust belongs to a command, not to a request: it is never written into the job table, so that no page can ask for it and no
resumed job can inherit it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from analysis.spec import UserError

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def trusting() -> Iterator[None]:
    """Within it, files and functions that can run code are opened. Only the command line calls it, for ``--trust``."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether `trusting` is in force here."""
    return _trusted.get()


def refuse_exported(path: Path) -> UserError:
    """Why an exported program is not opened."""
    return UserError(
        f"a program exported by torch.export can run code when it is opened, so it must come from somebody you trust, got {path}; "
        "run it from the command line with --trust, or save the weights as safetensors."
    )


def refuse_factory(name: str) -> UserError:
    """Why a function that makes a model is not called."""
    return UserError(
        f"a function that makes a model is code, so it must be run on purpose, got {name!r}; use --factory from the command line "
        "with --trust."
    )
