"""Workers on a Ray cluster: actors that hold the model, placed by Ray where there are cores, memory and GPUs for them.

Ray is an optional extra (requirements-ray.txt). Our code goes to the nodes with the job. Models do not: a path must exist on every node, a
bundled or hub name can be opened anywhere; nor do analyses of others (SPARSESCOPE_EXTRA_ANALYSES), which nodes must be able to import.
Values come back to this process, which alone commits and seals. Clusters are asked with token authentication, as Ray starts them; whoever
started one without sets RAY_AUTH_MODE himself. What a node that dies was computing is computed again elsewhere.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from analysis.executors.assignment import Assignment
from analysis.executors.choice import MISSING
from analysis.executors.local import ROOT
from analysis.executors.pool import Event, Pool
from analysis.executors.threads import Threads, most_threads
from analysis.spec import UserError

LOCAL, CLIENT = "local", "ray://"
"""Address of a cluster that is started for this run on this machine; beginning of those of Ray's client."""
_CODE = ("analysis", "store", "figures")
_PASSED = ("SPARSESCOPE_EXTRA_ANALYSES", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
_REACH_S = 5.0
_PLACE_S = 300.0
"""How long the first actor may take to be placed and to open the model."""
_LISTEN_S = 0.1
_SLOW, _TRIES = "Starting Ray client server failed", 3
"""What a busy head says that took longer than Ray waits to start a server for this client; asked again, it is there."""


class Holder:
    """What an actor is: opens the inputs, computes cells."""

    def __init__(self, given: bytes) -> None:
        self._given = given
        self._stack = ExitStack()
        self._compute: Any = None

    def open(self) -> tuple[str, Any]:
        """As the first word of a worker."""
        try:
            self._compute = self._stack.enter_context(pickle.loads(self._given).opened())
        except UserError as error:
            return "refused", error
        return "ready", None

    def compute(self, cell: str) -> tuple[str, Any]:
        """The value of a cell, or why there is none."""
        try:
            return "value", self._compute(cell, lambda share: None)
        except UserError as error:
            return "error", error


class RayExecutor(Pool):
    """So many actors on a cluster."""

    def __init__(self, workers: int = 0, address: str = "", threads: int | None = None, *, gpus: float = 0, memory: int = 0) -> None:
        """``workers``: 0 for one on each node, or on each GPU. ``threads``, ``gpus`` and bytes of ``memory`` are reserved for each."""
        super().__init__(workers)
        self._address, self._asked, self._gpus, self._memory = address or LOCAL, threads, gpus, memory
        self._threads = Threads(1)
        self._ray: Any = None
        self._is_ours = False
        self._given = b""
        self._actors: dict[int, Any] = {}
        self._refs: dict[Any, tuple[int, bool]] = {}
        self._until = 0.0

    def cancel(self) -> None:
        """End every actor at once, leave the cluster, and give this process its threads back."""
        super().cancel()
        if self._is_ours:
            self._is_ours = False
            self._ray.shutdown()
        self._threads.back()

    def _prepare(self, assignment: Assignment) -> None:
        self._given = assignment.packed()
        self._ray = _ray()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            connect(self._ray, self._address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        self._wanted = self._wanted or max(1, sum(int(node.get("GPU", 0) if self._gpus else 1) for node in nodes))
        self._threads = Threads(self._asked or _threads_each(nodes, self._wanted))
        self._check_room(nodes)
        self._threads.take()
        self._until = time.monotonic() + _PLACE_S

    def _check_room(self, nodes: Sequence[dict[str, float]]) -> None:
        """Refuse what would wait for ever."""
        n, gpus = self._threads.n, self._gpus
        room = sum(int(min(node["CPU"] // n, node.get("GPU", 0) // gpus if gpus else node["CPU"])) for node in nodes)
        if room < self._wanted:
            each = f"{n} cores" + (f" and {gpus:g} GPUs" if gpus else "")
            raise UserError(f"the cluster must have room for {self._wanted} workers of {each} each, got room for {room}; ask for fewer.")
        most = max((node.get("memory", 0.0) for node in nodes), default=0.0)
        if most < self._memory:
            raise UserError(
                f"a node must have about {self._memory / 1e9:.1f} GB for a worker, got {most / 1e9:.1f} GB on the largest; add a larger."
            )

    def _hire(self, worker: int) -> None:
        more = {"memory": self._memory} if self._memory else {}
        environment = self._threads.environment | {name: os.environ[name] for name in _PASSED if name in os.environ}
        made = self._ray.remote(Holder).options(
            num_cpus=self._threads.n, num_gpus=self._gpus, max_restarts=0, runtime_env={"env_vars": environment}, **more
        )
        self._actors[worker] = made.remote(self._given)
        self._refs[self._actors[worker].open.remote()] = (worker, True)

    def _tell(self, worker: int, cell: str) -> None:
        self._refs[self._actors[worker].compute.remote(cell)] = (worker, False)

    def _hear(self, seconds: float) -> Sequence[Event]:
        with self._lock:
            refs = list(self._refs)
            late = not self._ready and self._hired == self._wanted and time.monotonic() > self._until
        if late:
            words = (
                f"the cluster must place a worker within {_PLACE_S:.0f} s, got none ready; look at ray status, or ask for fewer workers."
            )
            return [Event(0, "refused", UserError(words))]
        if not refs:
            time.sleep(min(seconds, _LISTEN_S))
            return []
        ended, _ = self._ray.wait(refs, num_returns=1, timeout=min(seconds, _LISTEN_S))
        return [self._event(ref) for ref in ended]

    def _event(self, ref: Any) -> Event:
        """What became of a call."""
        errors = self._ray.exceptions
        with self._lock:
            worker, opening = self._refs.pop(ref)
        try:
            kind, value = self._ray.get(ref)
        except errors.RayTaskError as error:  # a fault of the program; whoever fails while opening is of no use
            cause = error.cause if isinstance(error.cause, Exception) else error
            cause.add_note(str(error))
            return Event(worker, "refused" if opening else "error", cause)
        except (errors.ActorDiedError, errors.ActorUnavailableError, errors.NodeDiedError, errors.ObjectLostError) as error:
            with self._lock:
                self._ray.kill(self._actors.pop(worker), no_restart=True)
            lines = str(error).strip().splitlines()
            return Event(worker, "gone", lines[-1 if "creation task" in lines[0] else 0].rstrip("."))
        return Event(worker, kind, value)

    def _fire(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)


def connect(ray: Any, address: str) -> None:
    """Join the cluster at an address, or start one here. Raises `UserError` where that cannot be."""
    _check_reachable(address)
    code = {"py_modules": [str(ROOT / name) for name in _CODE], "excludes": ["__pycache__"]}
    options: dict[str, Any] = {"address": address, "runtime_env": code}
    if not address.startswith(CLIENT):
        options |= {"configure_logging": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False}
    for number in range(1, _TRIES + 1):
        try:
            ray.init(**options)
            return
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            if _SLOW in str(error) and number < _TRIES:
                continue
            lines = [line for line in str(error).splitlines() if line.strip()]
            words = (lines[-1] if lines[0].endswith(":") else lines[0]).strip().rstrip(".")
            raise UserError(
                f"the address must be of a running Ray cluster whose token this process has, got {address} ({words}); set RAY_AUTH_TOKEN, "
                "or copy the token file of the machine it was started on."
            ) from error


def _ray() -> Any:
    """The library, with its settings in place before it is loaded."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError(MISSING) from error


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not colon:
        if address not in (LOCAL, "auto"):
            raise UserError(
                f"the address must be auto, host:port or ray://host:port, got {address!r}; leave it out for this machine alone."
            )
        return
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"the address must be of a running Ray cluster, got {address} ({error}); start one with ray start --head."
        ) from error


def _threads_each(nodes: Sequence[dict[str, float]], workers: int) -> int:
    """As many as so many workers can have, all alike, with a node's cores shared by those on it; OMP_NUM_THREADS at most."""
    most = max((int(node["CPU"]) for node in nodes), default=1)
    found = next((n for n in range(most, 1, -1) if sum(int(node["CPU"]) // n for node in nodes) >= workers), 1)
    return min(found, most_threads()) if "OMP_NUM_THREADS" in os.environ else found
