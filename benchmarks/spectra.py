"""What `weight_spectrum` costs beside WeightWatcher, for what both measure: all singular values of each matrix, stable rank, largest value.

Run by an interpreter that has WeightWatcher (`python benchmarks/weights.py --weightwatcher PYTHON` does so), on one model, in turns, the
fastest round counts. Our side also makes its curves, ranks and outliers; WeightWatcher's also fits a power law to each spectrum, which is
timed apart. Only matrices that WeightWatcher takes are measured, so embeddings are left out where it leaves them out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from benchmarks.results import emit, in_turns  # noqa: E402

Times = dict[str, tuple[float, float]]
"""Wall and processor time of each way, in seconds."""


def model_of(name: str) -> Any:
    """`gpt2`: GPT-2's shapes with random weights, made here; else what `open_subject` knows by that name."""
    if name != "gpt2":
        from analysis.models import open_subject

        return open_subject(name).model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config())


class Theirs:
    """WeightWatcher's `analyze`, and how much of it are fits of power laws."""

    def __init__(self, model: Any) -> None:
        import weightwatcher  # type: ignore[import-not-found]

        self.version = weightwatcher.__version__
        self._watcher, self.fits = weightwatcher.WeightWatcher(model=model), [0.0, 0.0]
        fit = self._watcher.apply_powerlaw

        def timed(*given: Any, **named: Any) -> Any:
            began, used = time.perf_counter(), time.process_time()
            try:
                return fit(*given, **named)
            finally:
                self.fits = [self.fits[0] + time.perf_counter() - began, self.fits[1] + time.process_time() - used]

        self._watcher.apply_powerlaw = timed

    def __call__(self) -> dict[str, float]:
        """Stable rank by name of the module."""
        self.fits = [0.0, 0.0]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            details = self._watcher.analyze()
        return dict(zip(details["longname"], details["stable_rank"]))


def ours(tensors: list[Any]) -> dict[str, float]:
    """Stable rank by name of the module."""
    from analysis.weights.weight_spectrum import WeightSpectrumConfig, measured_in_order

    rows = measured_in_order(tensors, WeightSpectrumConfig(factorise=0))
    return {row["tensor"].removesuffix(".weight"): row["stable_rank"] for row, *_ in rows}


def timed(way: Callable[[], Any]) -> tuple[float, float, Any]:
    began, used = time.perf_counter(), time.process_time()
    made = way()
    return time.perf_counter() - began, time.process_time() - used, made


def compare(name: str, rounds: int) -> None:
    from analysis.models.tensors import tensors_of_module

    model = model_of(name)
    theirs = Theirs(model)
    known = theirs()
    tensors = [t for t in tensors_of_module(model) if t.name.removesuffix(".weight") in known]
    best: Times = {}
    taken: dict[str, list[tuple[float, float]]] = {}
    off = 0.0
    for _ in range(rounds):
        wall, cpu, mine = timed(lambda: ours(tensors))
        whole, whole_cpu, yours = timed(theirs)
        shared = (whole - theirs.fits[0], whole_cpu - theirs.fits[1])
        for way, one in (("ours", (wall, cpu)), ("WeightWatcher", (whole, whole_cpu)), ("without its fits", shared)):
            taken.setdefault(way, []).append(one)
            best[way] = (min(one[0], best.get(way, one)[0]), min(one[1], best.get(way, one)[1]))
        off = max(abs(yours[key] / mine[key] - 1) for key in mine)
    n = sum(t.numel for t in tensors)
    print(f"\n{name}: {len(tensors)} of {len(known)} matrices that WeightWatcher {theirs.version} takes, {n:,} weights")
    print(f"  stable ranks differ by at most {off:.1e}")
    for way, (wall, cpu) in best.items():
        print(f"  {way:17s} {wall:7.2f} s ({wall / best['ours'][0]:5.2f} x)   CPU {cpu:7.2f} s ({cpu / best['ours'][1]:5.2f} x)")
    for way, named in (("WeightWatcher", "WeightWatcher"), ("without its fits", "WeightWatcher without its fits")):
        what = f"all singular values: {name}, {len(tensors)} matrices, {n:,} weights"
        note = f"stable ranks differ by at most {off:.0e}"
        emit(in_turns(what, "weight_spectrum", f"{named} ({theirs.version})", taken["ours"], taken[way], 1.0, peer=True, note=note))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    for one in asked.models:
        compare(one, asked.rounds)
