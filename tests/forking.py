"""Command lines in real processes of their own, forked by one that has imported everything: none pays seconds of imports again.

``python -m tests.forking`` reads a JSON object per line and answers with one line: a command line to start (its pid), or a process
to wait for (its exit status). It computes nothing itself, so that no thread has run before a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADED = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformer_lens.factories.architecture_adapter_factory",
    "transformer_lens.model_bridge.sources.transformers",
    "duckdb",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "safetensors.torch",
    "analysis.__main__",
    "analysis.jobs.session",
    "analysis.jobs.work",
    "analysis.capture.fitting",
    "analysis.models.hooks",
    "analysis.models.inputs.images",
    "analysis.neurons.observing",
    "analysis.neurons.results",
)
"""What runs import on their way."""
PATIENCE_S = 180


class Forks:
    """The process that forks, and what it is asked."""

    def __init__(self, **environment: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | environment
        command = [sys.executable, "-m", "tests.forking"]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)

    def start(self, arguments, out=os.devnull, err=None, **more) -> int:
        """Begin ``python -m analysis ...`` with this process' environment; its pid. ``err``: by default where ``out`` goes.

        more: ``session`` (a process group of its own), ``file_size`` (its limit), ``attributes`` (of modules, to be set).
        """
        order = {"arguments": [str(a) for a in arguments], "out": str(out), "err": str(err or out), "environment": dict(os.environ)}
        return self._ask(order | more)

    def wait(self, pid: int) -> int:
        """How it ended: its exit status, or minus the signal, which is SIGKILL after `PATIENCE_S`."""
        return self._ask({"wait": pid})

    def close(self) -> None:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def _ask(self, order: dict) -> int:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def _begin(order: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    if order.get("session"):
        os.setsid()
    for stream, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), stream)
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(order["environment"])
        for name, value in order.get("attributes", {}).items():
            module, attribute = name.rsplit(".", 1)
            setattr(importlib.import_module(module), attribute, value)
        if "file_size" in order:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], resource.RLIM_INFINITY))
        from analysis.__main__ import main

        sys.argv[1:] = order["arguments"]
        status = main(order["arguments"])
    except SystemExit as end:  # of argparse
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - printed as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end(pid: int) -> int:
    """Its exit status, or minus the signal; what takes longer than `PATIENCE_S` is killed, so that no test waits for ever."""
    last = time.monotonic() + PATIENCE_S
    while True:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > last:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _serve() -> None:
    for name in LOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(_end(order["wait"]), flush=True)
        else:
            print(_begin(order), flush=True)


if __name__ == "__main__":
    _serve()
