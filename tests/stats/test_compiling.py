"""The cache of a compiled function notices that a function it calls, in another file, has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INNER = "from analysis.stats.kernel import compiled\n\n@compiled\ndef inner(x):\n    return x + {}\n"
OUTER = """from analysis.stats.compiling import compiled_over
from analysis.stats.kernel import compiled
import inner_part
from inner_part import inner

@{}
def outer(x):
    return inner(x)

print(int(outer(1)))
"""


def answer(folder):
    path = os.pathsep.join([str(folder), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-m", "outer_part"], capture_output=True, text=True, check=True, env=env, cwd=folder)
    return int(done.stdout)


@pytest.mark.parametrize(("decorator", "after"), [("compiled_over(inner_part)", 101), ("compiled", 2)])
def test_a_change_in_the_called_file_is_noticed(tmp_path, decorator, after):
    """The second case is why: without the digest the old answer stays."""
    (tmp_path / "outer_part.py").write_text(OUTER.format(decorator))
    (tmp_path / "inner_part.py").write_text(INNER.format(1))
    assert answer(tmp_path) == 2
    (tmp_path / "inner_part.py").write_text(INNER.format(100))
    assert answer(tmp_path) == after
