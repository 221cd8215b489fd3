"""The live model as pages and notebooks see it. Loads no torch: the model lives in a process of its own.

>>> live = LiveModel("results", "minilm")                              # doctest: +SKIP
>>> live.start(); live.wait()                                          # doctest: +SKIP
>>> live.forward("Cats sleep.", ["blocks.3.mlp.hook_post"], [17])      # doctest: +SKIP

A `LiveModel` holds nothing but names, so it may be made anew on every page view, in any process: whoever names the same
store and model finds the same worker, also after the server was started again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from analysis.jobs import processes
from analysis.live import wire
from analysis.live.places import USUAL_DATA, Places, Record, places_of
from analysis.live.played import Played
from analysis.live.playing import Play
from analysis.live.question import Answer, Question
from analysis.live.status import LiveCancelled, LiveError, LiveGone, LiveStatus

_PING_S = 1.0
_LEAVE_S = 10.0
_POLL_S = 0.05
_AGAIN = "start it again"
Found = TypeVar("Found")


class LiveModel:
    """The live model of one store and model. ``fingerprints``: weights and tokenizer that it must have (those of a run); ``data``: what a
    model that reads no text is opened with."""

    def __init__(
        self,
        store: str | os.PathLike[str],
        model: str,
        *,
        fingerprints: Mapping[str, str] | None = None,
        device: str = "cpu",
        data: str = USUAL_DATA,
        idle_s: float | None = None,
        request_s: float | None = None,
    ) -> None:
        self.store, self.model, self.data, self._device = str(Path(store).resolve()), model, data, device
        self._fingerprints = {k: v for k, v in (fingerprints or {}).items() if k in ("weights", "tokenizer")}
        self._idle_s, self._request_s = idle_s, request_s

    @property
    def _places(self) -> Places:
        return places_of(self.store, self.model, self.data)

    def status(self) -> LiveStatus:
        """Where it stands now; takes a second at most."""
        processes.reap()
        record = self._places.read()
        if record is None:
            return LiveStatus("absent", "The live model is not running.")
        if not record.lives:
            return self._ended(record)
        reply = tell_worker(record, {"do": "ping"}) if record.address else {"state": "starting", "what": "starting a process"}
        if reply is None:
            if not record.lives:
                return self._ended(self._places.read() or record)
            if not record.ready:  # importing a large library can keep its other threads waiting for a second
                return LiveStatus("starting", "The live model is starting (loading).", pid=record.pid)
            return LiveStatus("busy", "The live model is at work and does not answer just now.", pid=record.pid)
        return self._alive(record, reply)

    def _ended(self, record: Record) -> LiveStatus:
        if record.ended:
            return LiveStatus("failed" if record.failed else "ended", record.ended)
        return LiveStatus(
            "failed",
            f"The live model's process {record.pid} ended without a word (it may have been killed, or the machine was started anew); "
            f"{_AGAIN}. What it said last is in {self._places.log}.",
        )

    def _alive(self, record: Record, reply: Mapping[str, Any]) -> LiveStatus:
        if reply.get("state") == "starting":
            total = reply.get("total") or 0
            share = min(1.0, reply["done"] / total) if total else None
            return LiveStatus("starting", f"The live model is starting ({reply['what']}).", share, pid=record.pid)
        found = reply.get("fingerprints", {})
        changed = [what for what, fingerprint in self._fingerprints.items() if found.get(what) != fingerprint]
        if changed:
            words = f"The live model that is running has other {' and '.join(changed)} than this run."
            return LiveStatus("other", words, pid=record.pid, memory=reply.get("memory"))
        if reply.get("state") == "busy":
            asks = int(reply.get("asks", 1))
            words = "The live model is answering a question." if asks < 2 else f"The live model has {asks} questions to answer."
            return LiveStatus("busy", words, pid=record.pid, memory=reply.get("memory"))
        minutes = float(reply.get("idle_limit_s", 0)) / 60
        words = f"The live model is ready. It leaves by itself after {minutes:.3g} minutes without a question."
        return LiveStatus("ready", words, pid=record.pid, memory=reply.get("memory"))

    def start(self) -> LiveStatus:
        """Start the worker unless it runs, and return at once; `status` says how far it is. Several may ask at the same time."""
        places = self._places
        if self.status().state == "other":
            self.stop()
        with places.starting():
            record = places.read()
            if record is None or not record.lives:
                who = processes.start(self._arguments(), self._fresh_log(places), _environment())
                places.write(Record(self.model, self.store, who.pid, who.start, who.host))
        return self.status()

    def _arguments(self) -> list[str]:
        given = ["live", "--store", self.store, "--model", self.model, "--device", self._device]
        given += [] if self.data == USUAL_DATA else ["--data", self.data]
        for flag, value in (("--idle", self._idle_s), ("--request", self._request_s), *self._wanted()):
            given += [flag, str(value)] if value is not None else []
        return given

    def _wanted(self) -> list[tuple[str, str]]:
        return [(f"--{what}", fingerprint) for what, fingerprint in self._fingerprints.items()]

    @staticmethod
    def _fresh_log(places: Places) -> Path:
        os.close(os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        return places.log

    def wait(self, patience: float = 120.0) -> LiveStatus:
        """The status once it is not starting any more, or after so many seconds. For scripts; pages look again and again."""
        until = time.monotonic() + patience
        while (now := self.status()).state == "starting" and time.monotonic() < until:
            time.sleep(_POLL_S)
        return now

    def describe(self) -> dict[str, Any]:
        """Label, sites with their numbers of neurons, fingerprints and limits."""
        reply = tell_worker(self._living(), {"do": "describe"})
        if reply is None:
            raise LiveGone(self.status().words)
        return _checked(reply)

    def begin(
        self,
        text: str,
        sites: Sequence[str],
        neurons: Sequence[int],
        *,
        active: float = 0.01,
        magnitude: float = 0.0625,
        sae: str = "",
        interventions: Sequence[Any] = (),
    ) -> Pending[Answer]:
        """Ask, without waiting for the answer. With ``sae``, ``neurons`` are latents of that SAE."""
        question = Question(text, tuple(sites), tuple(neurons), active, magnitude, self._fingerprints, sae, tuple(interventions))
        return Pending(self, self._living(), question.as_json(), Answer.from_json)

    def begin_play(self, play: Play) -> Pending[Played]:
        """Ask a question of the playground, without waiting for the answer."""
        asked = replace(play, fingerprints=self._fingerprints)
        return Pending(self, self._living(), {"play": asked.as_json()}, Played.from_json)

    def forward(self, text: str, sites: Sequence[str], neurons: Sequence[int], **settings: Any) -> Answer:
        """Ask and wait for the answer. Raises `LiveError` with one sentence where there is none."""
        with self.begin(text, sites, neurons, **settings) as pending:
            return pending.wait()

    def play(self, play: Play) -> Played:
        """Ask a question of the playground and wait for the answer."""
        with self.begin_play(play) as pending:
            return pending.wait()

    def stop(self) -> None:
        """Ask it to leave, and wait until it has; what does not listen is terminated."""
        record = self._places.read()
        if record is None or not record.lives:
            return
        asked = tell_worker(record, {"do": "shutdown"}) if record.address else None
        until = time.monotonic() + _LEAVE_S
        while asked is not None and record.lives and time.monotonic() < until:
            time.sleep(_POLL_S)
        processes.stop(processes.Identity(record.host, record.pid, record.start))

    def _living(self) -> Record:
        record = self._places.read()
        if record is None or not record.lives:
            raise LiveGone(self.status().words)
        if not record.address:
            raise LiveError("The live model is still starting; ask again in a moment.")
        return record


class Pending(Generic[Found]):
    """A question on its way. Leaving it (`close`, or the end of its process) cancels it at the worker."""

    def __init__(self, live: LiveModel, record: Record, asked: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Found]) -> None:
        self._live, self._record, self._read = live, record, read
        self._id = secrets.token_hex(8)
        message = {"do": "forward", "id": self._id, "token": record.token, **asked}
        try:
            self._connection = wire.connect(record.address, _PING_S)
        except OSError as error:
            raise LiveGone(self._gone()) from error
        self._inbox = wire.Inbox(self._connection)
        try:
            self._connection.sendall(wire.pack(message))
        except OSError as error:
            self._connection.close()
            raise LiveGone(self._gone()) from error

    def __enter__(self) -> Pending[Found]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, patience: float = 0.0) -> Found | None:
        """The answer, or None where it has not come after ``patience`` seconds. Raises `LiveError` where none will come."""
        try:
            reply = self._inbox.poll(patience)
        except OSError as error:
            self.close()
            raise LiveGone(self._gone()) from error
        if reply is None:
            return None
        self.close()
        return self._read(_checked(reply))

    def wait(self) -> Found:
        """The answer, once it has come."""
        while (found := self.poll(1.0)) is None:
            pass
        return found

    def cancel(self) -> None:
        """Give the question up; `poll` then raises `LiveCancelled`, unless the answer was faster."""
        tell_worker(self._record, {"do": "cancel", "id": self._id})

    def close(self) -> None:
        """Wait for no answer any more."""
        self._connection.close()

    def _gone(self) -> str:
        """Why the worker has hung up: it is given a moment to write its last words."""
        until = time.monotonic() + 2 * _PING_S
        while self._record.lives and time.monotonic() < until:
            time.sleep(_POLL_S)
        words = self._live.status().words
        return f"The live model went away while it was at work on this text. {words} Ask again to start it again."


def tell_worker(record: Record, message: Mapping[str, Any], patience: float = _PING_S) -> dict[str, Any] | None:
    """One short request and its reply; None where nobody answers in time."""
    try:
        with wire.connect(record.address, patience) as connection:
            connection.sendall(wire.pack({"token": record.token, **message}))
            return wire.Inbox(connection).poll(patience)
    except (OSError, KeyError, wire.WireError):
        return None


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if reply.pop("ok", False):
        return reply
    kinds = {"cancelled": LiveCancelled, "leaving": LiveGone}
    words = str(reply.get("words", "the live model gave no reason."))
    raise kinds.get(str(reply.get("kind")), LiveError)(words[:1].upper() + words[1:])


def threads() -> int:
    """How many threads a worker computes with: it shares the machine with pages and jobs."""
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def _environment() -> dict[str, str]:
    n = str(threads())
    return {"OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n, "TOKENIZERS_PARALLELISM": "false"}
