"""The life of a job inside its process: waiting, signs of life, signals, and an ending that is always written down.

done         the run is sealed (or the model inspected)
failed       one sentence says why; what was unexpected is in the log with its traceback
cancelled    somebody asked it to stop, or pressed Ctrl-C
interrupted  the system stopped it; where it had no time to say so, readers find its process gone
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from analysis.jobs import line, work
from analysis.jobs.request import JobSpec
from analysis.runner import Progress
from analysis.spec import UserError
from store import StoreError
from store.jobs import KEPT

if TYPE_CHECKING:
    from analysis.jobs.desk import Jobs
    from store import Job, JobStatus, RunInfo

BEAT_S = 2.0
_LOG_EVERY_S = 15.0
_LONGEST_MESSAGE = 300

log = logging.getLogger("sparsescope.jobs")


class Session:
    """Use it in a ``with`` statement in the process that does the job; ``progress`` is shown every change, too."""

    def __init__(self, jobs: Jobs, job: Job, *, to_terminal: bool, progress: Callable[[Progress], None] | None = None) -> None:
        self._jobs = jobs
        self.job = job
        self._to_terminal = to_terminal
        self._show = progress
        self._progress = Progress("waiting", 0, 0)
        self._logged = ("", 0.0)
        self._signal: int | None = None
        self._before: Any = None
        self._over = threading.Event()
        self._wake = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name=f"heartbeat of job {job.id}", daemon=True)

    def __enter__(self) -> Session:
        jobs_log = self._jobs.table.log_path(self.job.id)
        jobs_log.parent.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(jobs_log, encoding="utf-8") if self._to_terminal else logging.StreamHandler()
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(self._handler)
        log.setLevel(logging.INFO)
        log.propagate = False
        self._before = self._listen(self._stopped)
        log.info("job %s: %s", self.job.id, JobSpec.from_json(self.job.spec).words)
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listen(signal.SIG_IGN)
        self._over.set()
        self._wake.set()
        self._heart.join()
        try:
            self._end(error)
        finally:
            log.removeHandler(self._handler)
            self._handler.close()
            self._listen(self._before)

    def work(self, tell: Callable[[str], None]) -> RunInfo | None:
        """Wait for a slot, do the job, write the result down."""
        spec = JobSpec.from_json(self.job.spec)

        def say(words: str) -> None:
            log.info(words)
            self._jobs.table.change(self.job.id, only=("queued",), words=words)
            tell(words)

        slot = line.take() if spec.now else line.wait(self._jobs, self.job, say)
        try:
            if not self._jobs.table.change(self.job.id, only=("queued",), status="running", started=datetime.now(UTC), words=""):
                raise KeyboardInterrupt  # cancelled in this very moment
            info = work.carry_out(self._jobs.store, spec, self.show, self._note_key)
            self._listen(signal.SIG_IGN)
            self._finish("done", "", run=info.id if info else None)
            return info
        finally:
            if slot is not None:
                slot.release()

    def show(self, progress: Progress) -> None:
        """Note how far the job is, for the next heartbeat; a new phase beats at once and is logged."""
        fresh = progress.what != self._progress.what
        self._progress = progress
        if self._show is not None:
            self._show(progress)
        if fresh or time.monotonic() - self._logged[1] > _LOG_EVERY_S:
            self._logged = (progress.what, time.monotonic())
            log.info("%s %s", progress.what, f"{progress.done:g} of {progress.total:g}" if progress.total else "")
        if fresh:
            self._wake.set()

    def _note_key(self, key: str) -> None:
        self._jobs.table.change(self.job.id, key=key)

    def _listen(self, to: Any) -> Any:
        """Who hears SIGTERM from now on; who heard it before. What has ended is deaf: it can no longer be stopped."""
        in_main = threading.current_thread() is threading.main_thread()
        return signal.signal(signal.SIGTERM, to) if in_main else None

    def _stopped(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: what follows is the tidying up
        self._signal = number
        raise KeyboardInterrupt

    def _beat_on(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            try:
                self._beat()
            except StoreError as error:  # the job can go on without; the next beat may succeed
                log.warning("no heartbeat: %s", error)
            self._wake.wait(BEAT_S)

    def _beat(self) -> None:
        now = self._progress
        values = {"what": now.what, "done": now.done, "total": now.total, "seconds_left": now.seconds_left}
        self._jobs.table.change(self.job.id, heartbeat=datetime.now(UTC), **values)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            return  # `work` has written it down
        if isinstance(error, UserError | StoreError):
            self._finish("failed", str(error))
        elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not loaded here
            words = f"the memory must suffice, got none left while {self._progress.what}; use a smaller model or batch, or {KEPT}."
            self._finish("failed", words, error)
        elif isinstance(error, KeyboardInterrupt):
            row = self._jobs.table.find(self.job.id)
            asked = self._signal is None or (row is not None and row.stop_asked is not None)
            who = "stopped" if asked else "the system stopped it"
            self._finish("cancelled" if asked else "interrupted", f"{who} while {self._progress.what}; {KEPT}.")
        else:
            first = (str(error).strip().splitlines() or [""])[0][:_LONGEST_MESSAGE]
            self._finish("failed", f"internal error: {type(error).__name__}: {first}; the log has the details", error)

    def _finish(self, status: JobStatus, words: str, error: BaseException | None = None, *, run: str | None = None) -> None:
        now = datetime.now(UTC)
        self._beat()
        self._jobs.table.change(self.job.id, status=status, words=words, run=run, finished=now, heartbeat=now, seconds_left=None)
        # The traceback of a job without a terminal goes to its log by itself, as Python's last words.
        log.info("%s%s", status, words and f": {words}", exc_info=error if self._to_terminal else None)
