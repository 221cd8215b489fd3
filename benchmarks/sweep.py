"""What a global magnitude curve costs beside as many bare evaluations, and beside torch.nn.utils.prune.global_unstructured.

Arms take turns level by level in one process, so a busy machine slows all of them alike. What a sweep does once (saved copy, scores,
restoring, both hashes) is timed apart and added. "peer" prunes a dense copy of the model anew at each level, as the torch tutorial does,
evaluates it with the same task, and takes its masks off again.

    python -m benchmarks.sweep [--model smollm2] [--tokens 4096] [--window 128] [--levels 20] [--measure 20] [--skip-peer]
"""

from __future__ import annotations

import argparse
import copy
import statistics
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

TARGET = 1.05


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds, and what came back."""
    start = time.perf_counter()
    found = what()
    return time.perf_counter() - start, found


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--levels", type=int, default=20, help="of the curve that ratios are for")
    parser.add_argument("--measure", type=int, default=20, help="levels measured; the others are taken to cost as much")
    parser.add_argument("--kl", type=int, default=0, help="positions for KL")
    parser.add_argument("--skip-peer", action="store_true")
    options = parser.parse_args()
    subject = open_subject(options.model, "python-docs", n_tokens=options.tokens, window=options.window)
    task = choose_task(subject)
    batch = task.batch_size(1024)
    evaluation = Evaluation(subject.model, task, batch, kl_positions=options.kl)
    baseline = Baseline.of(evaluation.dense())
    peer = None if options.skip_peer else Peer(subject.model)
    levels = [round(x, 4) for x in np.linspace(0, 0.95, options.measure)]
    seconds: dict[str, list[float]] = {"bare": [], "sweep": [], "peer": []}
    manager = WeightPruning().on(subject)
    enter, held = timed(manager.__enter__)
    points = sweep(held, evaluation, baseline, Levels((0.05,), tuple(levels)))
    for level in levels:
        seconds["bare"].append(timed(lambda: task.losses(subject.model, batch))[0])
        seconds["sweep"].append(timed(lambda: next(points))[0])
        if peer is not None and level > 0:
            seconds["peer"].append(timed(lambda level=level: peer.level(level, lambda model: task.losses(model, batch)))[0])
    leave, _ = timed(lambda: manager.__exit__(None, None, None))
    report(options, seconds, enter, leave)


def report(options: argparse.Namespace, seconds: dict[str, list[float]], enter: float, leave: float) -> None:
    """Seconds of each arm, and ratios for a whole curve."""
    print(f"{options.model}: {options.tokens} tokens, {options.levels} levels, {torch.get_num_threads()} threads")
    print(f"  once: {enter:.2f} s on entry, {leave:.2f} s on exit")
    ratios = [s / b for s, b in zip(seconds["sweep"], seconds["bare"])]
    each = statistics.median(seconds["bare"])
    whole = statistics.median(ratios) + (enter + leave) / (options.levels * each)
    print(f"  bare  {each:6.2f} s a level")
    middle, spread = statistics.median(ratios), f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"  sweep {statistics.median(seconds['sweep']):6.2f} s a level, {middle:.3f} x ({spread})")
    print(f"  sweep of {options.levels} levels, entry and exit included: {whole:.3f} x bare (target {TARGET})")
    if seconds["peer"]:
        against = statistics.median(p / s for p, s in zip(seconds["peer"], seconds["sweep"][1:]))
        print(f"  peer  {statistics.median(seconds['peer']):6.2f} s a level, {against:.2f} x sweep")


if __name__ == "__main__":
    main()
