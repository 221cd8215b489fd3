"""Jobs as the catalogue knows them: what was asked for, whose process does it, how far it is, how it ended.

A row is written by several processes (the one that submits, the one that works, any that looks), so every change names
the states it may start from: `JobTable.change` does nothing to a job that has meanwhile ended. Nothing here starts or
stops a process; `analysis.jobs` does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from store.catalogue import Catalogue
from store.errors import JobNotFound
from store.records import to_json

JobStatus = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)
LIVE: tuple[JobStatus, ...] = ("queued", "running")
KEPT = "resume it to go on from there: the finished parts are kept"
"""What can be done about a job that did not end well, as every such sentence ends."""
_TIMES = ("submitted", "started", "finished", "heartbeat", "stop_asked")
_LOG_BYTES = 1 << 20
"""At most so much of a log is read: its end."""


@dataclass(frozen=True)
class Job:
    """One job. Only a job that is ``done`` has a ``run``: what the others left behind is no result."""

    id: str
    place: int
    """Its place in the store's order of submission; lower is served first."""
    spec: Mapping[str, Any] = field(repr=False)
    """What was asked for, as `analysis.jobs.JobSpec` writes it."""
    origin: str
    """``page`` or ``command line``."""
    resumes: str | None
    """The job whose finished parts this one continues."""
    status: JobStatus
    words: str
    """Why it failed, was stopped or is waiting, as one sentence; empty where there is nothing to say."""
    submitted: datetime
    started: datetime | None
    """When it left the queue."""
    finished: datetime | None
    heartbeat: datetime | None
    """When its process last gave a sign of life."""
    stop_asked: datetime | None
    """When somebody asked it to stop."""
    host: str
    pid: int
    process_start: float
    """Seconds from the machine's start to the process': with it, a recycled pid is never taken for the job's."""
    what: str
    """What it is doing: waiting, loading model, the phase of the analysis."""
    done: float
    total: float
    """Units done of units in all; 0 of 0 while that is unknown."""
    seconds_left: float | None
    """Estimated at the last heartbeat; None while unknown."""
    key: str | None
    """Key of the run it works on, once known."""
    run: str | None
    """Id of the sealed run."""

    @property
    def is_live(self) -> bool:
        """Whether it is waiting or at work."""
        return self.status in LIVE

    @property
    def can_resume(self) -> bool:
        """Whether it ended without a result."""
        return self.status in ("failed", "cancelled", "interrupted")

    @property
    def kind(self) -> str:
        """``run`` (of an analysis) or ``inspect`` (a model opened for its facts)."""
        return "inspect" if self.slug is None else "run"

    @property
    def slug(self) -> str | None:
        """Slug of the analysis; None for an inspection."""
        return self.spec["slug"]

    @property
    def model(self) -> str:
        """The model, as asked for."""
        return self.spec["model"]

    @property
    def data(self) -> str | None:
        """The data, as asked for; None where none are read."""
        return self.spec["data"]

    @property
    def config(self) -> Mapping[str, Any]:
        """Every setting of the analysis."""
        return self.spec["config"]

    @property
    def share(self) -> float | None:
        """Done over total, 0 to 1; None while that is unknown."""
        if self.status == "done":
            return 1.0
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def seconds(self) -> float:
        """Seconds since it left the queue, up to now or to its end; 0 while it waits."""
        if self.started is None:
            return 0.0
        return ((self.finished or datetime.now(UTC)) - self.started).total_seconds()


class JobTable:
    """The table ``jobs`` of the catalogue, and the folder of the logs."""

    def __init__(self, catalogue: Catalogue, logs: Path) -> None:
        self._catalogue = catalogue
        self.logs = logs

    def add(
        self, job_id: str, spec: Mapping[str, Any], *, origin: str, host: str, pid: int, process_start: float, resumes: str | None = None
    ) -> Job:
        """Enter a job at the end of the queue, together with the process that will do it."""
        entry: dict[str, Any] = {"id": job_id, "spec": to_json(spec), "origin": origin, "resumes": resumes, "status": "queued", "words": ""}
        entry |= {"submitted": _text(datetime.now(UTC)), "host": host, "pid": pid, "process_start": process_start}
        entry |= {"what": "waiting", "done": 0.0, "total": 0.0}
        with self._catalogue.writing() as connection:
            connection.execute(f"INSERT INTO jobs ({', '.join(entry)}) VALUES ({', '.join(':' + column for column in entry)})", entry)
        return self.get(job_id)

    def all(self, statuses: Sequence[JobStatus] = STATUSES, *, limit: int | None = None) -> list[Job]:
        """Jobs in one of these states, the newest first."""
        marks = ", ".join("?" * len(statuses))
        with self._catalogue.reading() as connection:
            rows = connection.execute(
                f"SELECT * FROM jobs WHERE status IN ({marks}) ORDER BY place DESC LIMIT ?", [*statuses, -1 if limit is None else limit]
            ).fetchall()
        return [_job(row) for row in rows]

    def find(self, job_id: str) -> Job | None:
        """The job of exactly this id; None where there is none."""
        with self._catalogue.reading() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", [job_id]).fetchone()
        return _job(row) if row else None

    def get(self, ref: str) -> Job:
        """The job of that id, or of that unambiguous beginning of one. Raises `JobNotFound`."""
        with self._catalogue.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE substr(id, 1, length(?1)) = ?1 AND ?1 <> '' ORDER BY id = ?1 DESC LIMIT 2", [ref]
            ).fetchall()
        if not rows:
            raise JobNotFound(f"a job must be given by its id, got {ref!r}, which fits none; list the jobs.")
        if len(rows) > 1 and rows[0]["id"] != ref:
            raise JobNotFound(f"a job must be named without doubt, got {ref!r}, which fits several; give more of its id.")
        return _job(rows[0])

    def change(self, job_id: str, *, only: Sequence[JobStatus] = LIVE, **values: Any) -> bool:
        """Set columns of a job, provided that it is in one of these states; whether it was."""
        entry = {name: _text(value) if isinstance(value, datetime) else value for name, value in values.items()}
        sets = ", ".join(f"{name} = :{name}" for name in entry)
        states = {f"state{i}": state for i, state in enumerate(only)}
        marks = ", ".join(f":{name}" for name in states)
        with self._catalogue.writing() as connection:
            done = connection.execute(f"UPDATE jobs SET {sets} WHERE id = :id AND status IN ({marks})", entry | states | {"id": job_id})
            return done.rowcount == 1

    def remove(self, job_ids: Sequence[str]) -> None:
        """Forget jobs that have ended, and their logs."""
        with self._catalogue.writing() as connection:
            for job_id in job_ids:
                connection.execute("DELETE FROM jobs WHERE id = ? AND status NOT IN ('queued', 'running')", [job_id])
        for job_id in job_ids:
            if self.find(job_id) is None:
                self.log_path(job_id).unlink(missing_ok=True)

    def log_path(self, job_id: str) -> Path:
        """Where a job's process writes what it has to say."""
        return self.logs / f"{job_id}.log"

    def log(self, job_id: str, tail: int = 200) -> str:
        """The last lines of a job's log; empty where it has said nothing. Text of strangers: show it as text only."""
        path = self.log_path(job_id)
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-tail:]) if tail else ""


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - iterating a Row gives values
    for name in _TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    return Job(**values | {"spec": json.loads(row["spec"])})


def _text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()
