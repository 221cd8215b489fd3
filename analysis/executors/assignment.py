"""What a worker is given, and what an executor is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from analysis.spec import UserError

Report = Callable[[float], None]
Compute = Callable[[str, Report], Any]
"""From a cell's name to its value, which depends on the name, the config and the inputs alone; tells how far it is, 0 to 1."""
Opening = Callable[[], Mapping[str, Any]]
"""Opens the inputs of a run, in whatever process; one that another process can import."""


@dataclass(frozen=True)
class Status:
    """What an executor is at."""

    waiting: int
    running: int
    done: int
    """Cells computed and not asked for yet."""
    workers: int
    """Those ready to compute."""
    lost: int
    """Workers that have died and were replaced."""


class Executor(Protocol):
    """Computes cells. Used by one run at a time, from one thread; `start` begins it, `cancel` ends it."""

    @property
    def workers(self) -> int:
        """How many cells are computed at once."""
        ...

    def start(self, assignment: Assignment) -> None:
        """Let workers open what the run reads."""
        ...

    def submit(self, cells: Sequence[str]) -> None:
        """These will be asked for, in this order. What was submitted before, waits still and is not among them is forgotten."""
        ...

    def result(self, cell: str, report: Report) -> Any:
        """The value of a cell, once it is there. Raises what computing it raised."""
        ...

    def status(self) -> Status:
        """How many cells wait, are at work, are done."""
        ...

    def cancel(self) -> None:
        """End every worker at once, whatever it is doing; a second call does nothing."""
        ...


@dataclass(frozen=True)
class Assignment:
    """Which run it is: all that a cell's value depends on, but for its name."""

    slug: str
    config: Any
    opening: Opening
    fingerprints: Mapping[str, Mapping[str, str]]
    """Of every input, by role: a worker that opens something else is refused."""

    def packed(self) -> bytes:
        """For another process. Raises `UserError` where the opening cannot go there."""
        words = f"the opening of inputs must be a function that other processes can import, got {self.opening!r}"
        remedy = "define it at the top of a module that is imported, not of the program that is run."
        try:
            given = pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(f"{words} ({error}); {remedy}") from error
        if b"__main__" in given:  # another process has another main program
            raise UserError(f"{words}; {remedy}")
        return given

    @contextmanager
    def opened(self) -> Iterator[Compute]:
        """The inputs opened here, as a worker holds them: inside, the function of one cell."""
        from analysis import find_analysis

        analysis, inputs = find_analysis(self.slug), self.opening()
        if analysis.cells is None:
            raise UserError(undivided(self.slug))
        for role, expected in self.fingerprints.items():
            found = inputs[role].fingerprints if role in inputs else {}
            other = [name for name, value in expected.items() if found.get(name) != value]
            if other:
                raise UserError(
                    f"every worker must read the same {role}, got other {' and '.join(other)} than the process that asked; "
                    "give all machines the same files."
                )
        with analysis.cells(self.config, inputs) as compute:
            yield compute


@contextmanager
def serving(executor: Executor | None, slug: str, config: Any, inputs: Mapping[str, Any], opening: Opening | None) -> Iterator[None]:
    """Inside, the executor's workers serve a run of these inputs; on the way out, however that is, they are ended."""
    if executor is None:
        yield
        return
    if opening is None:
        raise UserError(f"workers must be given the opening of the inputs of {slug}, got none; name a function that opens the same.")
    try:
        executor.start(Assignment(slug, config, opening, {role: dict(one.fingerprints) for role, one in inputs.items()}))
        yield
    finally:
        executor.cancel()


def undivided(slug: str) -> str:
    """Why an analysis takes one process."""
    from analysis import ANALYSES

    divided = ", ".join(one.slug for one in ANALYSES if one.cells is not None)
    return f"{slug} must be run by one process, since its units are not computed apart from one another; workers can be given to {divided}."
