"""A question in SQL to many runs at once, answered in a process of its own.

The process is given nothing but the runs, the text and its limits. Its connection is hardened (docs/decisions/0007), one SELECT is
let through, and it is ended when its time is up or nobody waits for it any more: what it was doing does not matter, as it can
write nowhere. It has a limit on memory besides DuckDB's own, because texts and lists under construction are not counted by that one.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from store.records import RunInfo

ROWS = 10_000
"""Rows of an answer; further ones are left out, and the answer says so."""
ANSWER_BYTES = 32_000_000
"""Size of an answer; as for rows."""
SECONDS = 20.0
MEMORY_MB = 1_000
"""What DuckDB may use; the process may have three times as much."""
RUNS = 1_000
"""Runs that are asked, the newest; each is an open file."""
AT_ONCE = 4
LONGEST = 20_000
"""Characters of a query."""
_ROOT = Path(__file__).resolve().parent.parent
_free = threading.BoundedSemaphore(AT_ONCE)


class QueryError(StoreError):
    """A query that has no answer. Its text is one sentence; ``detail`` is all that DuckDB said of it (it may be empty)."""

    def __init__(self, words: str, detail: str = "") -> None:
        super().__init__(words)
        self.detail = detail


@dataclass(frozen=True)
class Request:
    """What the process is told, through its standard input."""

    runs: tuple[RunInfo, ...]
    text: str
    rows: int
    seconds: float
    memory_mb: int


@dataclass(frozen=True)
class Answer:
    """The rows a query found."""

    text: str
    table: pa.Table
    more: bool
    """Whether rows were left out at a limit."""
    runs: tuple[str, ...]
    """Ids of the runs that were asked."""
    seconds: float
    """From asking to the answer, the start of the process included."""

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as pandas; whole numbers with gaps stay whole."""
        from store.reading import to_pandas

        return to_pandas(self.table)


class Query:
    """A query at work. Who starts one calls `stop` in the end, whatever happens."""

    def __init__(
        self, runs: Sequence[RunInfo], text: str, *, rows: int = ROWS, seconds: float = SECONDS, memory_mb: int = MEMORY_MB
    ) -> None:
        """Start its process. Raises `QueryError` for what need not be tried."""
        if not text.strip() or len(text) > LONGEST:
            raise QueryError(f"a query must have 1 to {LONGEST:,} characters, got {len(text.strip()):,}; write a SELECT.")
        if not runs:
            raise QueryError("a query must be to at least one sealed run, got a store without any; run an analysis first.")
        if not _free.acquire(blocking=False):
            raise QueryError(f"at most {AT_ONCE} queries must be at work at a time, got one more; ask again in a moment.")
        self.text, self.seconds, self.memory_mb = text, seconds, memory_mb
        asked = tuple(replace(run, provenance={}, summaries={}, config={}, rows={}) for run in runs[:RUNS])
        self._ids = tuple(run.id for run in asked)
        self._input: bytes | None = pickle.dumps(Request(asked, text, rows, seconds, memory_mb))
        self._held, self._began = True, time.monotonic()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "store.query_process"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                cwd="/", env={"PYTHONPATH": str(_ROOT), "PATH": os.defpath, "TZ": "UTC"},
            )  # fmt: skip
        except OSError as error:
            self._release()
            raise QueryError(f"a query must have a process of its own, got {error.strerror}; ask again in a moment.") from error

    @property
    def elapsed(self) -> float:
        """Seconds since it was asked."""
        return time.monotonic() - self._began

    def wait(self, at_most: float) -> Answer | None:
        """The answer, or None where it is still at work after ``at_most`` seconds. Raises `QueryError` where there will be none."""
        left = self.seconds - self.elapsed
        try:
            given, _ = self._process.communicate(self._input, timeout=max(0.0, min(at_most, left)))
        except subprocess.TimeoutExpired:
            self._input = None  # it is on its way
            if left > at_most:
                return None
            self.stop()
            raise QueryError(
                f"a query must be answered within {self.seconds:g} s, got none by then, so it was stopped; ask for fewer rows, "
                "runs or columns, or say first which rows are wanted."
            ) from None
        self._release()
        return self._read(given)

    def result(self) -> Answer:
        """The answer, waited for. Raises `QueryError` where there will be none."""
        try:
            while (found := self.wait(self.seconds)) is None:
                continue
            return found
        finally:
            self.stop()

    def stop(self) -> None:
        """End it if it is at work; nothing it did is lost to anybody else."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):  # what was to be told it may still be in the buffer
                    pipe.close()
        self._release()

    def _release(self) -> None:
        if self._held:
            self._held = False
            _free.release()

    def _read(self, given: bytes) -> Answer:
        import pyarrow as pa

        head, _, body = given.partition(b"\n")
        if self._process.returncode != 0 or not head:
            raise QueryError(
                f"a query must get by with {self.memory_mb:,} MB of memory, got one whose process ended (status "
                f"{self._process.returncode}); filter or aggregate earlier, or ask for fewer columns."
            )
        said: dict[str, Any] = json.loads(head)
        if "error" in said:
            raise QueryError(said["error"], said["detail"])
        table = pa.ipc.open_stream(body).read_all()
        return Answer(self.text, table, said["more"], self._ids, self.elapsed)
