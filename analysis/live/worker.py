"""The worker: a process that holds one model and leaves by itself. Started by `client` as ``python -m analysis live``.

1. It takes the lock of its model and store, makes room where too many live models run, listens, and writes its record.
2. It opens the model, saying how far it is to whoever asks; questions are then answered one at a time.
3. It leaves after some minutes without a question, when it is asked to, or on SIGTERM; the record then says why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.jobs import processes
from analysis.live import wire
from analysis.live.client import tell_worker
from analysis.live.desk import Ask, Desk, no
from analysis.live.places import LONGEST_SOCKET, USUAL_DATA, Places, Record, places_of
from analysis.live.playing import Play
from analysis.live.reader import Cancelled, Reader, open_reader
from analysis.spec import UserError
from store.errors import size_words

MOST_WORKERS = 2
"""Live models on this machine at once (of this user)."""
IDLE_S, REQUEST_S = 600.0, 60.0
_ROOM_S = 10.0
"""How long a worker that was asked to leave may take."""
_TICK_S = 0.5

log = logging.getLogger("sparsescope.live")


@dataclass(frozen=True)
class Settings:
    """What a worker is started with."""

    store: str
    model: str
    device: str = "cpu"
    idle_s: float = IDLE_S
    request_s: float = REQUEST_S
    threads: int = 1
    fingerprints: dict[str, str] = field(default_factory=dict)
    data: str = USUAL_DATA


class _TooSlow(Cancelled):
    """The time for a question is over."""


def work(settings: Settings) -> int:
    """Be the worker until it is time to leave; 0 where it did its work, or another one does it already."""
    processes.be_nice()
    places = places_of(settings.store, settings.model, settings.data)
    held = places.hold()
    if held is None:
        log.info("another process holds the live model of %s already", settings.model)
        return 0
    with _Life(places, settings) as life:
        life.run()
    return 2 if life.failed else 0


class _Life:
    """From listening to the ending that is written down, whatever it was."""

    def __init__(self, places: Places, settings: Settings) -> None:
        self._places, self._settings = places, settings
        who = processes.identity()
        self._record = Record(settings.model, os.path.abspath(settings.store), who.pid, who.start, who.host, secrets.token_hex(16))
        self._desk: Desk | None = None
        self._ending = ""
        self.failed = False

    def __enter__(self) -> _Life:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stopped)
        with self._places.starting():
            self._places.write(self._record)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, UserError):
            self.failed, self._ending = True, str(error)[:1].upper() + str(error)[1:]
        elif kind is not None and not self._ending:
            self.failed = True
            self._ending = f"The live model stopped because of a fault ({kind.__name__}); {self._places.log} says more."
        if self._desk is not None:
            self._desk.close(self._ending)
        self._places.write(replace(self._record, token="", address={}, ended=self._ending, failed=self.failed))
        self._places.socket.unlink(missing_ok=True)
        log.info("%s", self._ending)
        return isinstance(error, UserError | SystemExit)

    def _stopped(self, *_: Any) -> None:
        self._ending = "The live model was stopped by the system or by somebody at this machine."
        if self._desk is not None:
            self._desk.leaving.set()
        raise SystemExit(0)

    def run(self) -> None:
        """Listen, make room, load, answer."""
        listening, address = listen(self._places)
        self._desk = desk = Desk(listening, self._record.token)
        self._record = replace(self._record, address=address)
        with self._places.starting():
            self._places.write(self._record)
            desk.show("making room", 0, 0)
            make_room(self._places)
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        asked = self._settings
        reader = open_reader(asked.model, asked.device, asked.fingerprints, desk.show, asked.store, asked.data)
        self._limit_threads()
        self._answer_one(reader, desk)

    def _limit_threads(self) -> None:
        import torch

        torch.set_num_threads(self._settings.threads)

    def _answer_one(self, reader: Reader, desk: Desk) -> None:
        """One question after the other, until it is time to leave."""
        import psutil

        limits = {"idle_limit_s": self._settings.idle_s, "request_limit_s": self._settings.request_s}
        desk.open(reader.describe() | limits | {"memory": psutil.Process().memory_info().rss})
        self._record = replace(self._record, ready=True)
        self._places.write(self._record)
        log.info("ready: %s, %s of memory", reader.subject.label, size_words(psutil.Process().memory_info().rss))
        while not desk.leaving.is_set():
            left = self._settings.idle_s - desk.idle_s
            if left <= 0:
                self._ending = f"The live model left after {_time_words(self._settings.idle_s)} without a question, to free its memory."
                return
            ask = desk.next(min(left, _TICK_S))
            if ask is not None:
                desk.finish(ask, answer(reader, ask, self._settings.request_s))
        self._ending = "The live model was asked to leave, to free its memory."


def answer(reader: Reader, ask: Ask, request_s: float) -> dict[str, Any]:
    """The reply to one question; whatever is wrong with it is a sentence, and the worker goes on."""
    until = time.monotonic() + request_s

    def check() -> None:
        if ask.cancelled.is_set():
            raise Cancelled
        if time.monotonic() > until:
            raise _TooSlow

    try:
        asked = ask.question
        return {"ok": True, **(reader.player.answer(asked, check) if isinstance(asked, Play) else reader.forward(asked, check))}
    except _TooSlow:
        return no("slow", f"an answer must take at most {_time_words(request_s)}, and this one did not come in time; shorten the text.")
    except Cancelled:
        return no("cancelled", "the question was cancelled.")
    except UserError as error:
        return no("refused", str(error))
    except (RuntimeError, MemoryError) as error:  # what torch raises: shapes that do not fit, no memory left
        log.exception("a question failed")
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        return no("fault", f"the model could not read this text ({first}); try a shorter or plainer one.")


def listen(places: Places) -> tuple[socket.socket, wire.Address]:
    """A listening socket that only this user can reach: a file (0600 in a 0700 folder), or a port where its path is too long."""
    if hasattr(socket, "AF_UNIX") and len(os.fsencode(places.socket)) <= LONGEST_SOCKET:
        places.socket.unlink(missing_ok=True)  # of a worker that was killed: we hold the lock
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _private():
            listening.bind(str(places.socket))
        places.socket.chmod(0o600)
        address: wire.Address = {"unix": str(places.socket)}
    else:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        address = {"port": listening.getsockname()[1]}
    listening.listen(16)
    return listening, address


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """New files are this user's alone."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def make_room(places: Places, most: int = MOST_WORKERS) -> None:
    """Ask the live model that has been idle for longest to leave, until one more may run. Raises where all are at work."""
    until = time.monotonic() + _ROOM_S
    asked: set[str] = set()
    while len(others := places.others()) >= most:
        idle = {}
        for place, record in others:
            state = tell_worker(record, {"do": "ping"}) or {}
            if state.get("state") == "ready" and place.key not in asked:
                idle[place.key] = (float(state.get("idle_s", 0)), record)
        gone = len(asked & {place.key for place, _ in others})
        if len(others) - gone >= most:
            if not idle:
                names = " and ".join(record.model for _, record in others)
                raise UserError(f"at most {most} live models can run at once, got {len(others)} at work ({names}); wait, or stop one.")
            key, (_, record) = max(idle.items(), key=lambda one: one[1][0])
            tell_worker(record, {"do": "shutdown", "only_idle": True})
            asked.add(key)
        if time.monotonic() > until:
            raise UserError(f"at most {most} live models can run at once, got {len(others)}, which do not leave; stop one of them.")
        time.sleep(0.05)


def _time_words(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:g} minutes"
    return "1 second" if seconds == 1 else f"{seconds:g} seconds"
