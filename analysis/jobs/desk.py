"""Where jobs are asked for, looked at and stopped: by pages and the command line alike. Holds nothing: the catalogue does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from analysis.jobs import memory, processes, request
from analysis.jobs.processes import GRACE_S, Identity
from analysis.jobs.request import JobSpec
from analysis.models import cache_folder
from analysis.spec import UserError
from store.jobs import KEPT, LIVE, STATUSES

if TYPE_CHECKING:
    from store import Job, JobStatus, Store

_SILENT_S = 120.0
"""A job of another machine without a sign of life for so long is taken for dead; here, its process tells."""


class Jobs:
    """The jobs of one store. Cheap to make; any number of processes may have one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.table = store.jobs

    # -- asking -------------------------------------------------------------------------------------------------------

    def submit(
        self,
        slug: str,
        model: str,
        data: str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, str] | None = None,
        device: str = "cpu",
        force: bool = False,
        now: bool = False,
        executor: str = "local",
        workers: int | str | None = None,
        address: str = "",
        origin: str = "page",
    ) -> Job:
        """Start a job in a process of its own, or return the live one that was asked for exactly the same.

        ``config`` are settings by name, as values or as texts from a form. Raises `UserError` with one sentence, before
        anything is started, where the request cannot be carried out (setting, model, data, memory). ``now`` skips the queue.
        ``executor``, ``workers``, ``address``: who computes (`analysis.executors.choice.choose`).
        """
        spec = request.checked(
            slug, model, data, config, inputs=inputs, device=device, force=force, now=now,
            executor=executor, workers=workers, address=address,
        )  # fmt: skip
        return self.start(spec, origin=origin)

    def inspect(self, model: str, *, device: str = "cpu", now: bool = False, origin: str = "page") -> Job:
        """Start a job that opens a model, files its facts and asks every analysis whether it can run on it."""
        request.check_model(model)
        return self.start(JobSpec(None, request.reference(model), device=device, now=now), origin=origin)

    def resume(self, ref: str, *, origin: str = "page") -> Job:
        """Start a new job that goes on where a failed, cancelled or interrupted one stopped."""
        return self.start(self.again(ref), origin=origin, resumes=self.get(ref).id)

    def again(self, ref: str) -> JobSpec:
        """The request of a job that can be resumed, to be started with ``resumes``. Raises `UserError` where it cannot."""
        job = self.get(ref)
        if not job.can_resume:
            state = f"is {job.status}" + (f" (its result is run {job.run})" if job.run else "")
            raise UserError(f"a job to resume must have failed or been stopped, got {job.id}, which {state}; submit it anew instead.")
        return replace(JobSpec.from_json(job.spec), resume=True)

    def start(self, spec: JobSpec, *, origin: str, resumes: str | None = None) -> Job:
        """Start the process of a checked request and enter it; see `submit`."""
        for job in self.list(LIVE):
            if replace(JobSpec.from_json(job.spec), resume=spec.resume, now=spec.now, **asdict(spec.choice)) == spec:
                return job
        memory.check_machine(spec)
        job_id = secrets.token_hex(4)
        arguments = ["job", job_id, "--store", str(self.store.folder)]
        # The process looks for its row when it begins, and gives up when there is none: so a row always has a process.
        who = processes.start(arguments, self.table.log_path(job_id), {"SPARSESCOPE_CACHE": str(cache_folder().resolve())})
        return self._enter(job_id, spec, who, origin, resumes)

    def register(self, spec: JobSpec, *, origin: str = "command line", resumes: str | None = None) -> Job:
        """Enter a job that this very process is about to do."""
        memory.check_machine(spec)
        return self._enter(secrets.token_hex(4), spec, processes.identity(), origin, resumes)

    def _enter(self, job_id: str, spec: JobSpec, who: Identity, origin: str, resumes: str | None) -> Job:
        return self.table.add(job_id, spec.as_json(), origin=origin, host=who.host, pid=who.pid, process_start=who.start, resumes=resumes)

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(self, statuses: Sequence[JobStatus] = STATUSES, *, limit: int | None = None) -> list[Job]:
        """Jobs in one of these states, the newest first."""
        self.reconcile()
        return self.table.all(statuses, limit=limit)

    def get(self, ref: str) -> Job:
        """The job of that id, or of that beginning of one. Raises `store.JobNotFound`."""
        self.reconcile()
        return self.table.get(ref)

    def log(self, ref: str, tail: int = 200) -> str:
        """The last lines of a job's log. Text of strangers: show it as text only."""
        return self.table.log(self.table.get(ref).id, tail)

    def reconcile(self) -> None:
        """Say of live jobs whose process is gone that they were interrupted."""
        processes.reap()
        for job in self.table.all(LIVE):
            words = _gone(job)
            if words:
                status = "cancelled" if job.stop_asked else "interrupted"
                self.table.change(job.id, status=status, words=words, finished=job.heartbeat or datetime.now(UTC), seconds_left=None)

    # -- stopping and forgetting --------------------------------------------------------------------------------------

    def cancel(self, ref: str, *, grace: float = GRACE_S) -> Job:
        """Stop a job and return it as it ended; one that has already ended stays as it is. Finished parts are kept.

        Takes as long as the job needs to stop; after ``grace`` seconds it is killed.
        """
        job = self.get(ref)
        if not job.is_live:
            return job
        if job.host != processes.this_host():
            raise UserError(
                f"a job must be cancelled on its own machine, got {job.id}, which runs on {job.host}; run the same command there."
            )
        now = datetime.now(UTC)
        self.table.change(job.id, stop_asked=now)
        self.table.change(job.id, only=("queued",), status="cancelled", words="cancelled before it began.", finished=now)
        processes.stop(_identity(job), grace)
        words = f"stopped while {job.what}; {KEPT}."
        self.table.change(job.id, status="cancelled", words=words, finished=datetime.now(UTC), seconds_left=None)
        return self.table.get(job.id)

    def remove(self, ref: str) -> None:
        """Forget a job that has ended, and its log. Sealed runs and unfinished parts stay."""
        job = self.get(ref)
        if job.is_live:
            raise UserError(f"a job to remove must have ended, got {job.id}, which is {job.status}; cancel it first.")
        self.table.remove([job.id])

    def prune(self, keep_days: float = 30.0) -> int:
        """Forget jobs that ended longer ago, and their logs; how many there were."""
        oldest = datetime.now(UTC) - timedelta(days=keep_days)
        old = [job.id for job in self.list() if not job.is_live and (job.finished or job.submitted) < oldest]
        self.table.remove(old)
        return len(old)


def _identity(job: Job) -> Identity:
    return Identity(job.host, job.pid, job.process_start)


def _gone(job: Job) -> str | None:
    """The sentence for a job whose process is gone; None while it is there."""
    last = job.heartbeat or job.submitted
    at = last.astimezone().isoformat(sep=" ", timespec="seconds")
    if job.host == processes.this_host():
        if processes.is_alive(_identity(job)):
            return None
        reason = "it was killed, ran out of memory, or the machine was restarted"
        return f"its process ended without a word after {at} while {job.what}: {reason}; {KEPT}."
    if (datetime.now(UTC) - last).total_seconds() < _SILENT_S:
        return None
    return f"no sign of life from {job.host} since {at}; look there, or {KEPT}."
