"""What a global magnitude curve costs beside as many bare evaluations, and beside torch.nn.utils.prune.global_unstructured.

Arms take turns level by level in one process, so a busy machine slows all of them alike; processor time does not count waiting. What a
sweep does once (saved copy, scores, restoring, both hashes) is timed apart and added. "peer" prunes a dense copy of the model anew at each
level, as the torch tutorial does, evaluates it with the same task, and takes its masks off again. Peak memory is that of two processes of
their own, one that evaluates and one that sweeps, and the second is held against the first and one copy of the weights in scope.

    python -m benchmarks.sweep [--model smollm2] [--tokens 4096] [--window 128] [--levels 20] [--measure 20] [--skip-peer] [--skip-memory]
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.utils import prune

from analysis.interventions.levels import Levels
from analysis.interventions.measuring import Evaluation
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.scope import weight_scope
from analysis.interventions.sweep import Baseline, sweep
from analysis.models import open_subject
from analysis.tasks import choose_task
from benchmarks.results import Result, emit, in_turns, own_peak_mb, spread

TARGET = 1.05


def timed(what: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Wall and processor seconds, and what came back."""
    wall, processor = time.perf_counter(), time.process_time()
    found = what()
    return np.array([time.perf_counter() - wall, time.process_time() - processor]), found


class Peer:
    """The curve as the torch tutorial makes it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.modules = [self.model.get_submodule(member.module) for member in weight_scope(self.model).members]

    def level(self, level: float, evaluate: Callable[[torch.nn.Module], Any]) -> None:
        """Prune, evaluate, and back."""
        dense = [module.weight.detach().clone() for module in self.modules]
        prune.global_unstructured([(module, "weight") for module in self.modules], prune.L1Unstructured, amount=level)
        evaluate(self.model)
        with torch.no_grad():
            for module, weight in zip(self.modules, dense):
                prune.remove(module, "weight")
                module.weight.copy_(weight)


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--levels", type=int, default=20, help="of the curve that ratios are for")
    parser.add_argument("--measure", type=int, default=20, help="levels measured; the others are taken to cost as much")
    parser.add_argument("--kl", type=int, default=0, help="positions for KL")
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--skip-memory", action="store_true", help="measure time alone")
    parser.add_argument("--peak", choices=("bare", "sweep"))
    options = parser.parse_args()
    subject = open_subject(options.model, "python-docs", n_tokens=options.tokens, window=options.window)
    task = choose_task(subject)
    batch = task.batch_size(1024)
    evaluation = Evaluation(subject.model, task, batch, kl_positions=options.kl)
    baseline = Baseline.of(evaluation.dense())
    if options.peak:
        if options.peak == "sweep":
            with WeightPruning().on(subject) as held:
                list(sweep(held, evaluation, baseline, Levels((0.05,), (0.0, 0.3, 0.6, 0.9))))
        else:
            for _ in range(4):
                evaluation.measure()
        print(own_peak_mb())
        return
    peer = None if options.skip_peer else Peer(subject.model)
    bare, theirs = (_evaluating(model, task, batch) for model in (subject.model, peer.model if peer else subject.model))
    levels = [round(x, 4) for x in np.linspace(0, 0.95, options.measure)]
    seconds: dict[str, list[np.ndarray]] = {"bare": [], "sweep": [], "peer": []}
    manager = WeightPruning().on(subject)
    enter, held = timed(manager.__enter__)
    points = sweep(held, evaluation, baseline, Levels((0.05,), tuple(levels)))
    for level in levels:
        seconds["bare"].append(timed(bare)[0])
        seconds["sweep"].append(timed(lambda: next(points))[0])
        if peer is not None and level > 0:
            seconds["peer"].append(timed(lambda level=level: peer.level(level, lambda _: theirs()))[0])
    leave, _ = timed(lambda: manager.__exit__(None, None, None))
    report(options, seconds, enter, leave)
    if not options.skip_memory:
        memory(options, sum(m.parameter.numel() * m.parameter.element_size() for m in weight_scope(subject.model).members) / 2**20)


def memory(options: argparse.Namespace, copied: float) -> None:
    """Peak of a process that sweeps, beside that of one that evaluates and a copy of the weights in scope (``copied``, in MB)."""
    bare, swept = (_peak(options, arm) for arm in ("bare", "sweep"))
    print(f"  memory: peak {swept:.0f} MB, {swept / (bare + copied):.3f} x evaluating ({bare:.0f}) and a copy of the scope ({copied:.0f})")
    what = f"global magnitude curve: {options.model}, {options.tokens:,} tokens, memory"
    beside = "evaluating, and one copy of the weights in scope"
    emit(Result(what, "entry and exit included", beside, peak_mb=swept, beside_peak_mb=bare + copied))


def _peak(options: argparse.Namespace, arm: str) -> float:
    """Peak memory in MB of a process that runs one arm."""
    command = [sys.executable, "-m", "benchmarks.sweep", "--peak", arm, "--model", options.model, "--tokens", str(options.tokens)]
    command += ["--window", str(options.window), "--kl", str(options.kl)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _evaluating(model: torch.nn.Module, task: Any, batch: int) -> Callable[[], Any]:
    """One evaluation of a model in whatever state it is in; a divergence is from its own outputs now, which are kept."""
    if not task.is_divergence:
        return lambda: task.losses(model, batch)
    evaluation = Evaluation(model, task, batch)
    evaluation.dense()
    return evaluation.measure


def report(options: argparse.Namespace, seconds: dict[str, list[np.ndarray]], enter: np.ndarray, leave: np.ndarray) -> None:
    """Seconds of each arm, and ratios for a whole curve."""
    print(f"{options.model}: {options.tokens} tokens, {options.levels} levels, {torch.get_num_threads()} threads")
    bare, sweeps = np.array(seconds["bare"]), np.array(seconds["sweep"])
    for i, clock in enumerate(("wall", "processor")):
        ratios, each = sweeps[:, i] / bare[:, i], float(np.median(bare[:, i]))
        whole = np.median(ratios) + (enter[i] + leave[i]) / (options.levels * each)
        print(f"  {clock} seconds")
        print(f"    once: {enter[i]:.2f} on entry, {leave[i]:.2f} on exit")
        print(f"    bare  {each:6.2f} a level")
        print(f"    sweep {np.median(sweeps[:, i]):6.2f} a level, {np.median(ratios):.3f} x ({ratios.min():.3f} to {ratios.max():.3f})")
        print(f"    sweep of {options.levels} levels, entry and exit included: {whole:.3f} x bare (target {TARGET})")
        if seconds["peer"]:
            peers = np.array(seconds["peer"])[:, i]
            print(f"    peer  {np.median(peers):6.2f} a level, {np.median(peers / sweeps[1:, i]):.2f} x sweep")
    _emit(options, bare, sweeps, np.array(seconds["peer"]), enter + leave)


def _emit(options: argparse.Namespace, bare: np.ndarray, sweeps: np.ndarray, peers: np.ndarray, once: np.ndarray) -> None:
    """A whole curve, entry and exit included, beside as many bare evaluations; a level beside torch's own pruning."""
    what = f"global magnitude curve: {options.model}, {options.tokens:,} tokens"
    wall, processor = (
        spread([float(r + once[i] / (options.levels * np.median(bare[:, i]))) for r in sweeps[:, i] / bare[:, i]]) for i in (0, 1)
    )
    emit(
        Result(
            f"{what}, {options.levels} levels", "entry and exit included", "as many bare evaluations", rounds=len(bare),
            seconds=float(np.median(sweeps[:, 0])), beside_seconds=float(np.median(bare[:, 0])), wall=wall, processor=processor,
            target=f"at most {TARGET:g} x by the clock", met=wall[0] <= TARGET, note="seconds are of a level",
        )
    )  # fmt: skip
    if len(peers):
        note = "a level with its evaluation"
        emit(in_turns(what, "sweep", "torch.nn.utils.prune", _pairs(sweeps[1:]), _pairs(peers), 1.0, peer=True, note=note))


def _pairs(found: np.ndarray) -> list[tuple[float, float]]:
    """[n, 2] as pairs."""
    return [(float(wall), float(busy)) for wall, busy in found]


if __name__ == "__main__":
    main()
