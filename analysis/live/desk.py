"""The worker's counter: takes connections, answers at once what needs no model, queues what does. Loads no torch.

One question is worked on at a time; a few may wait. Every request carries the token of the worker's record, which only this user
can read. Requests: ``ping``, ``describe``, ``forward`` (a `Question`, or with ``play`` one of the playground), ``cancel``, ``shutdown``.
Answers: ``{"ok": true, ...}`` or
``{"ok": false, "kind": ..., "words": one sentence}``; kinds are refused, busy, starting, cancelled, slow, fault and leaving.
"""

from __future__ import annotations

import hmac
import logging
import queue
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.live import wire
from analysis.live.playing import Play
from analysis.live.question import Question
from analysis.spec import UserError

MOST_WAITING = 4
MOST_CONNECTIONS = 32
_HALF_S = 10.0
"""How long a message may take from its first byte to its last."""
_LOOK_S = 0.05
"""How often a waiting connection is looked at for whether its client is still there."""

log = logging.getLogger("sparsescope.live")


@dataclass
class Ask:
    """A question on its way through the worker."""

    id: str
    question: Question | Play
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    reply: dict[str, Any] = field(default_factory=dict)

    def answer(self, reply: dict[str, Any]) -> None:
        """Hand the reply over to the connection that waits for it."""
        self.reply = reply
        self.done.set()


def no(kind: str, words: str) -> dict[str, Any]:
    """A refusal."""
    return {"ok": False, "kind": kind, "words": words}


class Desk:
    """Listens from construction to `close`. The main thread takes the questions with `next`."""

    def __init__(self, listening: socket.socket, token: str) -> None:
        self._listening, self._token = listening, token
        self._lock = threading.Lock()
        self._asks: dict[str, Ask] = {}
        self._waiting: queue.Queue[Ask] = queue.Queue(MOST_WAITING)
        self._connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._progress: dict[str, Any] = {"what": "starting", "done": 0, "total": 0}
        self._about: dict[str, Any] | None = None
        self._last = time.monotonic()
        self.leaving = threading.Event()
        threading.Thread(target=self._accept, name="counter", daemon=True).start()

    # -----------------------------------------------------------------------------------------------------------------
    # The main thread's side

    def show(self, what: str, done: float, total: float) -> None:
        """How far starting has come."""
        self._progress = {"what": what, "done": done, "total": total}

    def open(self, about: Mapping[str, Any]) -> None:
        """The model is ready: questions are taken from now on."""
        self._about = dict(about)
        self._last = time.monotonic()

    def next(self, patience: float) -> Ask | None:
        """The next question that is still wanted; None where none came in time."""
        try:
            ask = self._waiting.get(timeout=patience)
        except queue.Empty:
            return None
        if ask.cancelled.is_set():
            self.finish(ask, no("cancelled", "the question was cancelled before it was looked at."))
            return None
        return ask

    def finish(self, ask: Ask, reply: dict[str, Any]) -> None:
        """A question is answered; the clock of idleness starts anew."""
        with self._lock:
            self._asks.pop(ask.id, None)
        self._last = time.monotonic()
        ask.answer(reply)

    @property
    def idle_s(self) -> float:
        """Seconds since the last question was answered; 0 while there is one. Looking in (ping, describe) does not count."""
        return 0.0 if self._asks else time.monotonic() - self._last

    def close(self, words: str) -> None:
        """Let nobody in any more, and tell those who wait why."""
        self.leaving.set()
        self._listening.close()
        with self._lock:
            left = list(self._asks.values())
            self._asks.clear()
        for ask in left:
            ask.answer(no("leaving", words))

    # -----------------------------------------------------------------------------------------------------------------
    # The connections' side

    def _accept(self) -> None:
        while not self.leaving.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            if not self._connections.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_HALF_S)
                self._talk(connection, wire.Inbox(connection))
        except OSError:
            log.debug("a client has left")
        finally:
            self._connections.release()

    def _talk(self, connection: socket.socket, inbox: wire.Inbox) -> None:
        begun: float | None = None
        while not self.leaving.is_set():
            try:
                message = inbox.poll(_LOOK_S * 4)
            except wire.WireError as error:
                connection.sendall(wire.pack(no("refused", str(error))))
                return
            if message is None:
                begun = (begun or time.monotonic()) if inbox.begun else None
                if begun is not None and time.monotonic() - begun > _HALF_S:
                    return
                continue
            begun = None
            reply = self._reply(message, connection)
            if reply is None:
                return
            connection.sendall(wire.pack(reply))

    def _reply(self, message: Mapping[str, Any], connection: socket.socket) -> dict[str, Any] | None:
        """The answer to a message; None where the client has gone meanwhile."""
        if not hmac.compare_digest(str(message.get("token", "")).encode("utf-8", "replace"), self._token.encode()):
            return no("refused", "the token must be the one in the worker's record, got another; ask through analysis.live.")
        do = message.get("do")
        if do == "ping":
            return {"ok": True} | self._state()
        if do == "describe":
            return no("starting", "the live model is still starting; ask again.") if self._about is None else {"ok": True, **self._about}
        if do == "cancel":
            return {"ok": True, "found": self._cancel(str(message.get("id", "")))}
        if do == "shutdown":
            return self._shut_down(only_idle=bool(message.get("only_idle", False)))
        if do == "forward":
            return self._forward(message, connection)
        return no("refused", f"'do' must be ping, describe, forward, cancel or shutdown, got {str(do)[:40]!r}; send one of these.")

    def _state(self) -> dict[str, Any]:
        if self._about is None:
            return {"state": "starting", **self._progress}
        state = {"state": "busy" if self._asks else "ready", "asks": len(self._asks), "idle_s": round(self.idle_s, 1)}
        return state | {name: self._about[name] for name in ("label", "fingerprints", "idle_limit_s", "memory")}

    def _cancel(self, name: str) -> bool:
        with self._lock:
            ask = self._asks.get(name)
        if ask is not None:
            ask.cancelled.set()
        return ask is not None

    def _shut_down(self, *, only_idle: bool) -> dict[str, Any]:
        with self._lock:
            if only_idle and (self._asks or self._about is None):
                return no("busy", "the live model is at work; it stays.")
            self.leaving.set()
            for ask in self._asks.values():
                ask.cancelled.set()
        return {"ok": True}

    def _forward(self, message: Mapping[str, Any], connection: socket.socket) -> dict[str, Any] | None:
        if self._about is None:
            return no("starting", "the live model is still starting; ask again in a moment.")
        try:
            asked = Play.from_json(message["play"]) if "play" in message else Question.from_json(message)
            ask = Ask(str(message.get("id", ""))[:64], asked)
        except UserError as error:
            return no("refused", str(error))
        with self._lock:
            if self.leaving.is_set():
                return no("leaving", "the live model is just leaving; start it again.")
            if ask.id in self._asks:
                return no("refused", f"the id must be new, got {ask.id!r}, which is being answered; choose another.")
            if self._waiting.full():
                return no("busy", f"at most {MOST_WAITING} questions can wait, got one more; ask again in a moment.")
            self._asks[ask.id] = ask
            self._waiting.put_nowait(ask)
        while not ask.done.wait(_LOOK_S):
            if wire.is_closed(connection):
                ask.cancelled.set()
                return None
        return ask.reply
