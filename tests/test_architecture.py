"""Arrows point one way: which package may import what."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app.py", "pages", "ui", "analysis", "figures", "store")

# library -> the only places that may import it
LIBRARIES = {
    "streamlit": ("app.py", "pages/", "ui/"),
    "duckdb": ("store/",),
    "transformers": ("analysis/models/",),
    "transformer_lens": ("analysis/models/",),
    "gguf": ("analysis/models/",),
    "sae_lens": ("analysis/latents/",),
    "torch": ("analysis/",),
    "plotly": ("figures/", "ui/", "pages/"),
    "matplotlib": ("figures/",),
}
# folder -> packages of ours it may import
OURS = {
    "figures/": ("figures",),
    "store/": ("store",),
    "analysis/stats/": ("analysis.stats",),
    "analysis/models/": ("analysis.models", "analysis.spec", "analysis.stats"),
    "analysis/capture/": ("analysis.capture", "analysis.models", "analysis.stats", "analysis.spec"),
    "analysis/": ("analysis", "figures", "store", "ui.serve"),
    "ui/": ("ui", "analysis", "figures", "store"),
    "pages/": ("ui", "analysis", "figures", "store"),
    "app.py": ("ui", "pages", "analysis"),
}


def _files():
    for name in PACKAGES:
        path = ROOT / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


@pytest.mark.parametrize("path", list(_files()), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    place = str(path.relative_to(ROOT))
    wrong = []
    for line, module in _imports(path):
        library = module.split(".")[0]
        if library in LIBRARIES and not place.startswith(LIBRARIES[library]):
            wrong.append(f"{place}:{line} imports {module}; its place is {', '.join(LIBRARIES[library])}")
        if library in ("app", "pages", "ui", "analysis", "figures", "store"):
            allowed = next(v for k, v in OURS.items() if place.startswith(k))
            if not any(module == a or module.startswith(a + ".") for a in allowed):
                wrong.append(f"{place}:{line} imports {module}; it may import {', '.join(allowed)}")
    assert not wrong, "\n".join(wrong)


def test_only_the_questions_and_the_registry_know_the_analyses():
    """stats, models and capture must not reach into the questions."""
    for path in (ROOT / "analysis").rglob("*.py"):
        place = str(path.relative_to(ROOT))
        if place.startswith(("analysis/stats/", "analysis/models/", "analysis/capture/")):
            for line, module in _imports(path):
                assert not module.startswith(("analysis.neurons", "analysis.weights", "analysis.runner")), f"{place}:{line}"


def test_the_dashboard_never_loads_torch():
    import subprocess
    import sys

    code = "import sys, analysis, analysis.drawing, analysis.glossary, figures.screen, store, ui.serve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", list(_files()), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_pages_stay_small_enough_to_see(path):
    place = str(path.relative_to(ROOT))
    limit = 80 if place.startswith("pages/") else 300
    assert len(path.read_text().splitlines()) <= limit


def test_every_pin_is_a_version_of_the_registry():
    """A path on the machine that wrote it down would fail on every other one."""
    for name in ("constraints.txt", "requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"(#.*|-[rc] [\w.-]+|[\w.-]+==[\w.+]+|)", line), f"{name}: {line}"
