"""What a level of a pruning curve costs: setting the live model to it, against a forward pass and torch's own global pruning.

Everything runs in turns in one process and the fastest round counts, so ratios hold on a busy machine. "CPU" is the processor time of
all threads together, which does not count waiting for a processor. A torch level is what a sweep needs of it: prune, and take the masks
off again. Memory is what is resident at most while the model is held, above the model alone, in copies of the weights in scope.

    python benchmarks/pruning.py [--model smollm2] [--only REGEX] [--tokens 4096] [--rounds 3] [--threads 2] [--no-torch] [--comparisons]
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.results import Result, emit, in_turns, spread  # noqa: E402

LEVELS = (0.2, 0.5, 0.8)
WINDOW = 512


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds and processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak:
    """The largest number of bytes resident inside its block, above those before it."""

    def __enter__(self) -> Peak:
        gc.collect()
        self.before, self.bytes, self._stop = resident(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, resident() - self.before)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def ways() -> dict[str, object]:
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.structures import blocks, n_of_m
    from analysis.interventions.weights.random_scores import Random

    return {
        "magnitude, global": WeightPruning(),
        "magnitude, per matrix": WeightPruning(scope="per_matrix"),
        "magnitude, per row": WeightPruning(scope="per_row"),
        "magnitude, 2:4": WeightPruning(structure=n_of_m(2, 4)),
        "magnitude, 4x4 blocks": WeightPruning(structure=blocks(4)),
        "random, global": WeightPruning(Random()),
    }


def of_torch(modules: list[torch.nn.Module], level: float) -> None:
    """One level by torch.nn.utils.prune, and the model as it was."""
    from torch.nn.utils import prune

    dense = [module.weight.data.clone() for module in modules]
    prune.global_unstructured([(module, "weight") for module in modules], prune.L1Unstructured, amount=level)
    for module, values in zip(modules, dense):
        prune.remove(module, "weight")
        module.weight.data.copy_(values)


def measure(pruning: object, subject: object, rounds: int, weights: int) -> tuple[list[object], list[tuple[float, float]]]:
    """Preparation, level and exit in seconds of wall time and CPU, and copies of the scope in memory; and each level's seconds."""
    taken: list[tuple[float, float]] = []
    with Peak() as peak:
        held_by = pruning.on(subject)  # type: ignore[attr-defined]
        start = time.process_time()
        held = held_by.__enter__()
        prepare = time.process_time() - start
        for _ in range(rounds):
            for level in held.levels[1:] if held.levels else LEVELS:
                taken.append(timed(lambda level=level: held.at(level)))
        leave = timed(lambda: held_by.__exit__(None, None, None))[1]
    best, best_cpu = (min(values) for values in zip(*taken))
    return [prepare, best, best_cpu, leave, peak.bytes / weights], taken


def comparisons() -> None:
    """Why `ordering` goes through NumPy: the same on 60 matrices of 1536 x 576, CPU seconds per 100 M weights."""
    import numpy as np

    from analysis.interventions.ordering import above, between, count_zeros, stable_order

    weights = [torch.randn(1536, 576) for _ in range(60)]
    pairs = {
        "compare": (lambda w: above(w, 0.5), lambda w: w > 0.5),
        "pick from a range": (lambda w: between(w, 0.5, 0.503), lambda w: w[(w >= 0.5) & (w <= 0.503)]),
        "count zeros": (count_zeros, lambda w: w.count_nonzero()),
        "stable order of rows": (stable_order, lambda w: w.argsort(dim=-1, stable=True)),
    }
    print(f"\n{'operation':24} {'ours':>8} {'torch':>8}")
    for name, (ours, theirs) in pairs.items():
        some = weights[:6] if "order" in name else weights
        scale = 1e8 / sum(w.numel() for w in some)
        seconds = [min(timed(lambda call=call, some=some: [call(w) for w in some])[1] for _ in range(3)) for call in (ours, theirs)]
        print(f"{name:24} {seconds[0] * scale:8.3f} {seconds[1] * scale:8.3f}")
    print(f"numpy {np.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", default="")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--comparisons", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from dataclasses import replace

    from analysis.interventions.scope import weight_scope
    from analysis.models.opening import open_subject

    subject = open_subject(options.model)
    scope = weight_scope(subject.model, only=options.only)
    weights = sum(member.parameter.nbytes for member in scope.members)
    batch = torch.randint(0, 1000, (max(1, options.tokens // WINDOW), WINDOW))
    with torch.inference_mode():
        subject.model(batch[:1])
        forward = [timed(lambda: [subject.model(row[None]) for row in batch]) for _ in range(options.rounds)]
    wall, cpu = (min(values) for values in zip(*forward))
    print(f"{scope.denominator}, {weights / 2**20:.0f} MiB; {batch.numel()} tokens forward: {wall:.2f} s, CPU {cpu:.2f} s")
    print(f"{'way':24} {'prepare':>8} {'level':>8} {'CPU':>8} {'of forward':>11} {'exit':>7} {'copies':>7}")
    taken: dict[str, list[tuple[float, float]]] = {}
    for name, way in ways().items():
        found, taken[name] = measure(replace(way, only=options.only), subject, options.rounds, weights)  # type: ignore[type-var]
        prepare, level, level_cpu, leave, copies = found
        print(f"{name:24} {prepare:8.2f} {level:8.3f} {level_cpu:8.3f} {level_cpu / cpu:11.3f} {leave:7.2f} {copies:7.2f}", flush=True)
    if not options.no_torch:
        modules = [subject.model.get_submodule(member.module) for member in scope.members]
        with Peak() as peak:
            theirs = [timed(lambda: of_torch(modules, 0.5)) for _ in range(options.rounds)]
        seconds, seconds_cpu = (min(values) for values in zip(*theirs))
        name, copies = "torch global_unstructured", peak.bytes / weights
        print(f"{name:24} {'':>7} {seconds:8.3f} {seconds_cpu:8.3f} {seconds_cpu / cpu:11.3f} {'':>7} {copies:7.2f}")
        _beside_torch(options.model, taken["magnitude, global"], theirs)
    for name, each in taken.items():
        _beside_forward(f"a level by {name}: {options.model}", each, forward, batch.numel())
    if options.comparisons:
        comparisons()


def _beside_torch(model: str, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    """Our median level against each of torch's rounds: ours has several levels a round."""
    middle = tuple(spread([one[i] for one in ours])[0] for i in (0, 1))
    what = f"setting a global magnitude level: {model}"
    emit(in_turns(what, "held", "torch.nn.utils.prune, masks taken off again", [middle] * len(theirs), theirs, 1.0, peer=True))  # type: ignore[list-item]


def _beside_forward(what: str, ours: list[tuple[float, float]], forward: list[tuple[float, float]], tokens: int) -> None:
    """Each level against the median forward pass."""
    wall, busy = (spread([one[i] for one in forward])[0] for i in (0, 1))
    emit(
        Result(
            what, "held", f"forward pass of {tokens:,} tokens", rounds=len(ours), wall=spread([one[0] / wall for one in ours]),
            processor=spread([one[1] / busy for one in ours]), seconds=spread([one[0] for one in ours])[0], beside_seconds=wall,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
