"""What a second worker brings: a grid of `matrix_sensitivity` by two workers of one thread each, beside one worker of one thread.

Both arms take turns, each a whole run into a store of its own, the same rows in both (checked). The time of a run is from the question to
the sealed file: starting workers and their opening of the model is in it. "At work" is from the first committed matrix to the last, which
is what a longer run tends to. Needs two free cores: on a busy machine the ratio says how busy it was.

    python -m benchmarks.executors [--rounds 3] [--model smollm2] [--tokens 2048] [--only down_proj] [--executor local | ray] [--address A]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from analysis.executors import LocalExecutor
from analysis.models import open_subject
from analysis.runner import Progress, run
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, UNIT, MatrixSensitivityConfig
from benchmarks.results import emit, in_turns
from store import Store

TARGET = 1.6
WORKERS = 2


def opened(model: str, tokens: int, window: int) -> dict[str, Any]:
    """The inputs, here and in workers."""
    return {"model": open_subject(model, "python-docs", n_tokens=tokens, window=window)}


class Clock:
    """Seconds of a run: all of it, and between the first and the last committed unit."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.commits: dict[float, float] = {}

    def see(self, progress: Progress) -> None:
        if progress.what == UNIT and progress.done == int(progress.done) and progress.done:
            self.commits.setdefault(progress.done, time.perf_counter())

    def times(self) -> tuple[float, float, float]:
        """The whole run; its steady part; seconds per unit in that."""
        at = sorted(self.commits.values())
        steady = at[-1] - at[0]
        return time.perf_counter() - self.began, steady, steady / (len(at) - 1)


def executor_of(options: argparse.Namespace, workers: int) -> Any:
    if options.executor == "local":
        return LocalExecutor(workers, threads=1)
    from analysis.executors.cluster import RayExecutor

    return RayExecutor(workers, options.address, threads=1)


def main() -> None:
    """Print seconds, medians of ratios and their spread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--only", default="down_proj", help="parameters whose name holds this")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--address", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    from benchmarks.executors import opened  # by a name that workers can import: this module is run as the main program

    opening = partial(opened, options.model, options.tokens, options.window)
    inputs = opening()
    config = MatrixSensitivityConfig(n_tokens=options.tokens, window=options.window, only=options.only, proxies="none", refine=0)
    ratios: dict[str, list[float]] = {"whole run": [], "at work": []}
    taken: dict[str, dict[int, list[tuple[float, float]]]] = {name: {1: [], WORKERS: []} for name in ratios}
    for number in range(options.rounds):
        found = {}
        for workers in (1, WORKERS) if number % 2 == 0 else (WORKERS, 1):
            with tempfile.TemporaryDirectory() as folder:
                clock, store = Clock(), Store(Path(folder))
                executor = executor_of(options, workers)
                info = run(MATRIX_SENSITIVITY, inputs, config, store, progress=clock.see, executor=executor, opening=opening)
                found[workers] = (clock.times(), store.read(info, "matrix_points"))
                store.close()
            whole, steady, each = found[workers][0]
            for name, value in (("whole run", whole), ("at work", steady)):
                taken[name][workers].append((value, 0.0))
            print(f"{workers} of one thread: {whole:.1f} s, of which {steady:.1f} s at work, {each:.2f} s per matrix", flush=True)
        assert found[1][1].equals(found[WORKERS][1]), "the rows are not the same"
        for i, name in enumerate(ratios):
            ratios[name].append(found[1][0][i] / found[WORKERS][0][i])
    what = f"grid of matrices: {options.model}, {options.tokens:,} tokens, {options.only}"
    for name, seconds in taken.items():
        arm, beside = f"{WORKERS} {options.executor} workers of one thread, {name}", "one worker of one thread"
        emit(in_turns(what, arm, beside, seconds[WORKERS], seconds[1], limit=1 / TARGET))
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.2f} x ({min(values):.2f} to {max(values):.2f}); target {TARGET} x")
    used = [resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"peak memory: {used[0]:.2f} GB this process, {used[1]:.2f} GB the larger worker")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
