"""The child process that opens what nobody vouches for. Started by `sandbox`, as a script, with ``python -I`` and no environment.

It first takes away from itself what it does not need (memory, time, file sizes, descriptors, network, further programs), and only
then touches the file. It writes ``model.safetensors`` and ``summary.json`` into the folder it is given, or says in one line why not.
This file imports nothing of the package, so that starting costs one import of torch.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFUSED = 3
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NO_NEW_PRIVS, _DEATH_SIGNAL, _SIGKILL = 38, 1, 9
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.spawn",
    "subprocess.Popen",
    "pty.spawn",
    "socket.",
    "ctypes.dlopen",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def close_in(limits: Mapping[str, int], alone: bool) -> list[str]:
    """Set the limits; where no other sandbox is around (``alone``), leave the network, too. Returns what is in force, in words."""
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    inside = ["limits on memory, time and files"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    if alone and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        inside.append("no network")
    return inside


def forbid(out: Path) -> None:
    """From now on: no programs, no network, no writing outside of ``out``. A hook of the interpreter cannot be taken out again."""
    allowed = os.path.join(os.path.realpath(out), "")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise PermissionError(f"{event} is forbidden here")
        if event == "open" and isinstance(arguments[0], str | bytes):
            writes = isinstance(arguments[2], int) and arguments[2] & _WRITING
            if writes and not os.path.realpath(os.fsdecode(arguments[0])).startswith(allowed):
                raise PermissionError("writing is forbidden here")
        if event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "shutil.rmtree"):
            raise PermissionError(f"{event} is forbidden here")

    sys.addaudithook(hook)


def main() -> int:
    """Do the task on standard input; 0, or `REFUSED` with one line of JSON on standard output."""
    task = json.loads(sys.stdin.read())
    os.environ.update(HF_HUB_OFFLINE="1", HF_HOME="/nonexistent", OMP_NUM_THREADS="1", MPLCONFIGDIR="/nonexistent", LC_ALL="C.UTF-8")
    out = Path(task["out"])
    inside = close_in(task["limits"], task["alone"])
    sys.path.append(task["beside"])
    work = importlib.import_module(task["module"])
    work.prepare()
    if task["strict"]:
        forbid(out)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # the libraries are loaded: nothing more needs to start
    try:
        summary = work.convert(Path(task["file"]), out, **task["how"])
    except work.REFUSALS as error:
        print(json.dumps({"refused": str(error)}))  # noqa: T201 - the answer
        return REFUSED
    summary["isolation"] = inside
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
