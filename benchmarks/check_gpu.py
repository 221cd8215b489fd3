"""The same questions on the processor and on a GPU: do the numbers agree within what is stated here, and how long does each take?

Float32 on both: a GPU sums in another order, so last bits differ; TF32 is off. A column's deviation is its largest difference in units of
its largest value; where a count hangs on a threshold, one token more or less is a step, which its tolerance allows. Which example ranks
first may change where two are nearly equal, so examples are not compared. Then bfloat16, `--device auto` and one huge batch are tried.

    python -m benchmarks.check_gpu [--model smollm2] [--tokens 16384] [--device cuda]      (make check-gpu)

Without a GPU it says so and is content. Record what it prints, with date and device, in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.results import Result, emit

if TYPE_CHECKING:
    import pandas as pd

WINDOW = 128


@dataclass(frozen=True)
class Check:
    """One question, the table that is compared, and how far each column may be off."""

    slug: str
    table: str
    settings: Mapping[str, Any]
    tolerance: Mapping[str, float]
    """Column to the deviation that is allowed."""


CHECKS = (
    Check("task_loss", "losses", {}, {"loss_sum": 1e-4, "accuracy": 2e-2}),
    Check(
        "neuron_activity", "neurons", {},
        {"mean": 1e-4, "second_moment": 1e-4, "max": 1e-3, "min": 1e-3, "density": 1e-3, "contribution": 2e-3, "out_norm": 1e-5},
    ),
    Check("head_sparsity", "heads", {}, {"entropy": 1e-3, "first_mass": 1e-3, "gini": 1e-3}),
    Check("essential_sparsity", "curve_points", {"levels": "0.3, 0.6", "kl_positions": 0}, {"value": 1e-3, "achieved": 0.0}),
    Check("matrix_sensitivity", "matrix_points", {"only": "layers.3.mlp", "proxies": "none", "refine": 0}, {"value": 1e-3}),
)  # fmt: skip


def deviation(one: pd.DataFrame, other: pd.DataFrame, column: str) -> float:
    """Largest difference in units of the column's largest value; infinite where rows or gaps are not the same. 0 for no rows."""
    a, b = (frame[column].to_numpy(dtype=float, na_value=np.nan) for frame in (one, other))
    if len(a) != len(b) or not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    known = ~np.isnan(a)
    if not known.any():
        return 0.0
    scale = float(np.abs(a[known]).max()) or 1.0
    return float(np.abs(a[known] - b[known]).max()) / scale


def compare(check: Check, one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """A line for each column; those that are too far off end in NOT WITHIN."""
    lines = []
    for column, allowed in check.tolerance.items():
        off = deviation(one, other, column)
        lines.append(f"    {column:14} off by {off:.1e} of its largest value, allowed {allowed:.0e}{_verdict(off, allowed)}")
    return lines


def _verdict(off: float, allowed: float) -> str:
    return "" if off <= allowed else "   NOT WITHIN"


def answered(check: Check, model: str, tokens: int, device: str, dtype: str = "", **settings: Any) -> tuple[Any, float]:
    """The table, and seconds of the run; opening and loading are not in it."""
    from analysis import find_analysis
    from analysis.models import open_subject
    from analysis.runner import run
    from analysis.spec import make_config
    from store import Store

    analysis = find_analysis(check.slug)
    subject = open_subject(model, "python-docs", device=device, dtype=dtype, n_tokens=tokens, window=WINDOW)
    subject.model(**next(iter(subject.data.batches(1, subject.device)))[0])  # type: ignore[union-attr]
    given = {"n_tokens": tokens, "window": WINDOW, **check.settings, **settings}
    with tempfile.TemporaryDirectory() as folder:
        store, began = Store(folder), time.perf_counter()
        info = run(analysis, {"model": subject}, make_config(analysis.config, given), store)
        taken = time.perf_counter() - began
        return store.read(info, check.table), taken


def main() -> int:
    """Print what agrees; 1 where something does not."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    if asked.device != "cpu" and not torch.cuda.is_available():
        print("Skipped: torch sees no CUDA device on this machine, so there is nothing to compare; run it where there is one.")
        return 0
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    named = torch.cuda.get_device_name() if asked.device != "cpu" else "the processor itself"
    print(f"{asked.model}, {asked.tokens:,} tokens, torch {torch.__version__}, {named}, {torch.get_num_threads()} threads beside it")
    lines = [line for check in CHECKS for line in _check(check, asked)] + further(asked)
    wrong = [line for line in lines if line.endswith("NOT WITHIN")]
    print(f"{len(wrong)} of {len(lines)} numbers are not within their tolerance." if wrong else "All numbers are within their tolerances.")
    return int(bool(wrong))


def _check(check: Check, asked: argparse.Namespace) -> list[str]:
    host, slow = answered(check, asked.model, asked.tokens, "cpu")
    there, fast = answered(check, asked.model, asked.tokens, asked.device)
    print(f"  {check.slug}: processor {slow:.1f} s, {asked.device} {fast:.1f} s ({slow / fast:.1f} x faster); {len(host)} rows", flush=True)
    lines = compare(check, host, there)
    print("\n".join(lines), flush=True)
    what = f"{check.slug} on a GPU: {asked.model}, {asked.tokens:,} tokens"
    ratio = (fast / slow,) * 3
    emit(Result(what, asked.device, "the processor", seconds=fast, beside_seconds=slow, wall=ratio))
    return lines


def further(asked: argparse.Namespace) -> list[str]:
    """bfloat16, shared out, and a batch larger than any memory: that they end in an answer, and their losses."""
    import torch

    check, found = CHECKS[0], []
    plain, _ = answered(check, asked.model, asked.tokens, asked.device)
    for words, device, dtype, settings in (
        ("bfloat16", asked.device, "bfloat16", {}),
        ("device auto", "auto", "", {}),
        ("all tokens at once", asked.device, "", {"batch_tokens": asked.tokens}),
    ):
        gpus = range(torch.cuda.device_count())
        for gpu in gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        table, seconds = answered(check, asked.model, asked.tokens, device, dtype, **settings)
        allowed = 0.02 if dtype else 1e-4
        off = deviation(plain, table, "loss_sum")
        peak = max((torch.cuda.max_memory_allocated(gpu) for gpu in gpus), default=0) / 1e9
        line = f"  {words}: {seconds:.1f} s, {peak:.1f} GB of one GPU at most, losses off by {off:.1e}, allowed {allowed:.0e}"
        line += _verdict(off, allowed)
        print(line, flush=True)
        found.append(line)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
