"""The cache of a compiled function notices that a function it calls, in another file, has changed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INNER = "from analysis.stats.compiling import compiled\n\n@compiled\ndef inner(x):\n    return x + {}\n"
OUTER = """from analysis.stats.compiling import compiled, compiled_over
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


@pytest.mark.parametrize(
    ("decorator", "after"), [("compiled_over(inner_part)", 101), ("compiled_over(inner_part, exact=True)", 101), ("compiled", 2)]
)
def test_a_change_in_the_called_file_is_noticed(tmp_path, decorator, after):
    """The last case is why: without the digest the old answer stays."""
    (tmp_path / "outer_part.py").write_text(OUTER.format(decorator))
    (tmp_path / "inner_part.py").write_text(INNER.format(1))
    assert answer(tmp_path) == 2
    (tmp_path / "inner_part.py").write_text(INNER.format(100))
    assert answer(tmp_path) == after


KEPT = [path for path in sorted((ROOT / "analysis").rglob("*.py")) if "cache=True" in (text := path.read_text()) or "compiled" in text]
OWN_STAMP = {"attention_rows.py"}
"""Kept on disk as one function whose key holds a digest of its own making."""


def given_and_taken(path):
    """Modules whose sources the cache of a file's functions looks at, and those of ours that names are taken from."""
    given, taken = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "compiled_over":
            given |= {argument.id for argument in node.args if isinstance(argument, ast.Name)}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("analysis.stats."):
            taken |= {str(node.module).rpartition(".")[2]}
    return given, taken - {"compiling"}


def compiles_and_keeps(path):
    body = ast.parse(path.read_text()).body
    taken = {
        name.name for node in body if isinstance(node, ast.ImportFrom) and node.module == "analysis.stats.compiling" for name in node.names
    }
    return bool(taken - {"inlined"}) or any("cache=True" in ast.unparse(node) for node in body)


@pytest.mark.parametrize("path", [path for path in KEPT if compiles_and_keeps(path)], ids=lambda path: path.stem)
def test_every_file_of_kept_loops_names_the_files_it_takes_from(path):
    """Else a change there would leave old code in the cache, as the test above shows."""
    given, taken = given_and_taken(path)
    assert taken <= given or path.name in OWN_STAMP


NUMBERS = """import numpy as np, torch
from analysis.stats import kernel
from analysis.stats.attention import SUMMED, HeadTally, Queries
from analysis.stats.block import RowContext
from analysis.stats.fused import fused_site
from analysis.stats.matrix_pass import MatrixPass

g, rows, n = np.random.default_rng(0), 60, 96
values, ones = g.standard_normal((rows, n)).astype(np.float32), np.ones(rows)
context = RowContext(np.array([0, 30, rows]), ones > 0, np.ones(n, np.float32), ones.astype(np.float32) / 2, ones)
block, paths = fused_site(values, context, np.zeros((n, kernel.N_BINS), np.int32), {"gate": values}, 1)
moments, spread = block.moments, paths["gate"].moments
found = [moments.mean, moments.m2, moments.m3, moments.m4, block.row_sums, spread.mean, spread.m2]

tally, nothing = HeadTally(2), np.zeros(1, np.int64)
logits = np.where(np.tri(rows) > 0, g.standard_normal((2, rows, rows)), -1e10).astype(np.float32)
tally.update(Queries(np.ones((1, rows), bool), nothing, nothing, nothing, rows, True), [(0, torch.from_numpy(logits))])
found += [getattr(tally, name) for name in SUMMED]

matrix = MatrixPass(values.shape)
matrix.update(values)
numbers = matrix.end()
found += [np.array([*numbers.moments, numbers.l1, numbers.root_sum])]
print([array.tobytes().hex() for array in found])
"""


def test_a_process_that_compiles_and_one_that_reads_from_disk_give_the_same_bits(tmp_path):
    """Else two workers differ in the last digit, according to which was first."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", NUMBERS]
    compiled, read = (subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=ROOT).stdout for _ in range(2))
    assert read == compiled
