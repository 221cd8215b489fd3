"""What goes over the socket: JSON with its length in front (four bytes, big-endian), one answer per request. Never pickle."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from analysis.spec import UserError

_HEAD = struct.Struct(">I")
MOST_BYTES = 8 * 2**20
"""Of one message. A text of 200,000 characters takes at most 2.4 MB."""
_PIECE = 2**16

Address = Mapping[str, Any]
"""``{"unix": path}``, or ``{"port": number}`` on 127.0.0.1 where a path would be too long for a socket."""


class WireError(UserError):
    """What came over the socket is no message; the text says why."""


def connect(address: Address, timeout: float) -> socket.socket:
    """A connection to the worker. Raises OSError where nobody listens."""
    if "unix" in address:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place: Any = address["unix"]
    else:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        place = ("127.0.0.1", int(address["port"]))
    one.settimeout(timeout)
    try:
        one.connect(place)
    except OSError:
        one.close()
        raise
    return one


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes. Only ASCII, so that half a surrogate pair survives; NaN is refused, as it is no JSON."""
    body = json.dumps(message, allow_nan=False).encode("ascii")
    if len(body) > MOST_BYTES:
        raise WireError(f"a message must be at most {MOST_BYTES:,} bytes, got {len(body):,}; ask for less at once.")
    return _HEAD.pack(len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    """The message in ``body``."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a request must be JSON, got {body[:40]!r} ({type(error).__name__}); send an object with 'do'.") from error
    if not isinstance(message, dict):
        raise WireError(f"a request must be a JSON object, got {type(message).__name__}; send an object with 'do'.")
    return message


class Inbox:
    """Puts the pieces that arrive on a socket together to messages."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._got = bytearray()

    def poll(self, patience: float) -> dict[str, Any] | None:
        """The next message, or None where it is not complete after ``patience`` seconds. Raises ConnectionError at the end."""
        until = time.monotonic() + patience
        while (message := self._taken()) is None:
            if not _readable(self._connection, max(0.0, until - time.monotonic())):
                return None
            piece = self._connection.recv(_PIECE)
            if not piece:
                raise ConnectionResetError("the other side has closed the connection")
            self._got += piece
        return message

    @property
    def begun(self) -> bool:
        """Whether the beginning of a message has arrived."""
        return bool(self._got)

    def _taken(self) -> dict[str, Any] | None:
        if len(self._got) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._got)
        if length > MOST_BYTES:
            raise WireError(f"a message must be at most {MOST_BYTES:,} bytes, got {length:,}; put its length in front, big-endian.")
        if len(self._got) < _HEAD.size + length:
            return None
        body = bytes(self._got[_HEAD.size : _HEAD.size + length])
        del self._got[: _HEAD.size + length]
        return unpack(body)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has gone; what it may have sent is left where it is."""
    if not _readable(connection, 0):
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _readable(connection: socket.socket, seconds: float) -> bool:
    """Whether something (data, an end, an error) is there to be read. With poll: a server may have more than 1,024 files open."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
