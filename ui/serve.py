"""How the dashboard is started: one command for the command line, tests and deployments. Imports no Streamlit.

Every option that makes it safe is on the command line, so that neither a user's own Streamlit settings nor the folder it
is started from can undo it.
"""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.spec import UserError

ROOT = Path(__file__).resolve().parent.parent
ENTRY = ROOT / "ui" / "server.py"
STORE_VARIABLE = "SPARSESCOPE_STORE"
"""Environment variable that tells the pages which store to show."""
FOLDERS_VARIABLE = "SPARSESCOPE_FOLDERS"
"""Environment variable with the folders whose models the pages may open by a path, separated as in PATH."""
EMBED_VARIABLE = "SPARSESCOPE_EMBED_IN"
"""Environment variable with the other sites whose pages may show the dashboard within them, separated by spaces."""
DEFAULT_STORE = "results"
DEFAULT_PORT = 8501
LOCAL_HOSTS = ("localhost", "127.0.0.1")
HEALTH = "/healthz"


def serve_command(
    store: str | Path,
    port: int = DEFAULT_PORT,
    address: str = "127.0.0.1",
    *,
    open_browser: bool = False,
    hosts: Sequence[str] = (),
    folders: Sequence[str | Path] = (),
    entry: Path = ENTRY,
    embed_in: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that serve the dashboard on ``store``.

    ``hosts`` are further names the dashboard may be asked for by (the name of a machine it is shared from); requests for
    any other name are refused, which stops a foreign web page from reading the dashboard through a renamed address.
    ``folders`` are those whose models may be opened by typing a path; see `allowed_folders`. ``embed_in`` are the origins of
    other sites that may show its pages within theirs.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"port must be between 1 and 65535, got {port}; choose another with --port.")
    names = list(dict.fromkeys([*LOCAL_HOSTS, *([address] if address not in ("0.0.0.0", "::") else []), *hosts]))
    options: Mapping[str, str] = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": "false" if open_browser else "true",
        "server.showEmailPrompt": "false",  # a newcomer's first start would wait for an answer on the terminal
        "logger.hideWelcomeMessage": "true",  # with it, Streamlit would advertise tools of its own on the pages; `serve` says the address
        "server.fileWatcherType": "none",
        "server.enableStaticServing": "false",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": "localhost" if address in LOCAL_HOSTS or not hosts else hosts[0],
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "global.developmentMode": "false",
    }
    argv = [sys.executable, "-m", "streamlit", "run", str(entry)]
    argv += [f"--{name}={value}" for name, value in options.items()]
    argv += [f"--server.allowedHosts={name}" for name in names]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    allowed = os.pathsep.join(str(one) for one in allowed_folders(folders, address))
    told = {STORE_VARIABLE: str(Path(store).resolve()), FOLDERS_VARIABLE: allowed, "PYTHONPATH": path}
    return argv, dict(os.environ) | told | {EMBED_VARIABLE: " ".join(embedding_origins(embed_in))}


def embedding_origins(given: Sequence[str] = ()) -> tuple[str, ...]:
    """The origins that may show pages of the dashboard within theirs: those given, else those of the environment."""
    origins = tuple(one.rstrip("/") for one in [*given] or os.environ.get(EMBED_VARIABLE, "").split())
    for one in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", one):
            raise UserError(f"--embed-in must be origins such as https://wiki.example.org or http://localhost:8888, got {one!r}; give one.")
    return origins


def allowed_folders(folders: Sequence[str | Path] = (), address: str = "") -> tuple[Path, ...]:
    """The folders whose models a page may open by a path: those given, else those of the environment, else the usual ones.

    The usual ones are the folder that the dashboard was started in and, where only this machine can reach it (``address``), the
    home folder of whoever started it. Symbolic links are followed before anything is compared.
    """
    given = [*folders] or [one for one in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if one]
    usual = [Path.cwd(), *([Path.home()] if address in LOCAL_HOSTS else [])]
    return tuple(dict.fromkeys(Path(one).expanduser().resolve() for one in given or usual))


def is_up(url: str) -> bool:
    """Whether the dashboard at ``url`` answers."""
    try:
        with urllib.request.urlopen(url + HEALTH, timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
