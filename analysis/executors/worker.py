"""The process of one local worker: ``python -m analysis.executors.worker DESCRIPTOR``, started by `local`.

It opens the inputs, says that it is ready, and computes one cell after the other. It ends with the process that started it, whatever
either is doing: a thread of its own waits at their connection, which the system closes when that process is gone.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from analysis.spec import UserError

_SAY_S = 0.2
"""At least so long between two reports of how far a cell is."""


def main(descriptor: int) -> None:
    """Serve until the connection is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the whole group: whoever started this decides, and kills it
    connection = Connection(descriptor)
    sys.path[:] = connection.recv()
    inbox: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    try:
        with pickle.loads(inbox.get()).opened() as compute:
            connection.send(("ready", None))
            while True:
                _compute(compute, inbox.get(), connection)
    except UserError as error:
        connection.send(("refused", error))
    except Exception as error:
        connection.send(("refused", portable(error)))
        raise


def _compute(compute: Any, cell: str, connection: Connection) -> None:
    said = 0.0

    def report(share: float) -> None:
        nonlocal said
        if time.monotonic() - said > _SAY_S:
            said = time.monotonic()
            connection.send(("share", share))

    try:
        value = compute(cell, report)
    except UserError as error:
        connection.send(("error", error))
    except Exception as error:
        connection.send(("error", portable(error)))
        raise
    else:
        connection.send(("value", value))


def portable(error: Exception) -> Exception:
    """The error as another process can read it, or one of the same words."""
    try:
        pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, AttributeError, TypeError):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _listen(connection: Connection, inbox: queue.Queue[Any]) -> None:
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
