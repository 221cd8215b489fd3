"""The programs ours are held against: which are here, and those that need an environment of their own installed into `.bench/`.

WeightWatcher and SAEDashboard ask for other versions of libraries than this project does. Each gets a virtual environment without
dependencies of its own making, where a `.pth` file names the libraries of this one: both sides of a comparison then run on the same torch.
What cannot be installed, or does not start, is no error: its reason is kept as a sentence, and benchmarks go on without it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path

INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Peer:
    """A program to compare with."""

    name: str
    package: str
    """Its distribution, whose version is told."""
    imports: str
    """What must be importable for it to be of use."""
    wants: tuple[str, ...] = ()
    """Distributions installed with it, without their dependencies; empty where it lives among our own libraries."""


@dataclass(frozen=True)
class Found:
    """A peer as it was found: its version and interpreter, or why there is none."""

    name: str
    version: str
    python: str
    reason: str = ""


PEERS = (
    Peer("TransformerLens", "transformer-lens", "transformer_lens"),
    Peer("sae-lens", "sae-lens", "sae_lens"),
    Peer("torch (torch.nn.utils.prune, eager attention)", "torch", "torch.nn.utils.prune"),
    Peer("WeightWatcher", "weightwatcher", "weightwatcher", ("weightwatcher", "powerlaw", "matplotlib-inline", "traitlets")),
    Peer(
        "SAEDashboard", "sae-dashboard", "sae_dashboard.sae_vis_runner",
        ("sae-dashboard", "decode-clt", "eindex-callum", "dataclasses-json", "marshmallow<4", "typing-inspect", "mypy-extensions"),
    ),
)  # fmt: skip


def found(peer: Peer, folder: Path) -> Found:
    """The peer, installed where it needs to be. What worked once is remembered beside its environment; what failed is tried again."""
    if not peer.wants:
        if importlib.util.find_spec(peer.imports.split(".")[0]) is None:
            return Found(peer.name, "", "", f"{peer.package} is not installed: pip install -r requirements.txt.")
        return Found(peer.name, importlib.metadata.version(peer.package), sys.executable)
    kept = folder / peer.package / "found.json"
    if kept.is_file():
        return Found(**json.loads(kept.read_text()))
    try:
        made = _installed(peer, folder / peer.package)
    except subprocess.CalledProcessError as error:
        return Found(peer.name, "", "", f"could not be installed or started: {_last_line(error.stderr)}")
    except subprocess.TimeoutExpired:
        return Found(peer.name, "", "", f"could not be installed within {INSTALL_SECONDS} seconds.")
    kept.write_text(json.dumps(asdict(made)))
    return made


def _installed(peer: Peer, place: Path) -> Found:
    """An environment that has the peer, our own libraries behind it."""
    python = place / "bin" / "python"
    _call([sys.executable, "-m", "venv", "--clear", str(place)])
    ours = Path(sysconfig.get_paths()["purelib"])
    theirs = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (theirs / "ours.pth").write_text(f"{ours}\n")
    _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *peer.wants])
    asked = f"import importlib.metadata as m, {peer.imports}; print(m.version({peer.package!r}))"
    return Found(peer.name, _call([str(python), "-c", asked]).split()[-1], str(python))


def _call(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS).stdout


def _last_line(text: str) -> str:
    """What an error message comes down to."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
