"""What the grid of every matrix at every level costs, restarted and stacked, beside naive full passes at identical points.

Both arms take turns matrix by matrix in one process, so a busy machine slows both alike; processor time does not count waiting. Naive: the
matrix is pruned in the live model, all batches are run from the beginning, and the weights are put back. What restarting does once (its
dense pass, the inputs of each block, trying itself on the first batch) is in its time. "coarse": three levels upwards, where the naive
grid has nine, no further once the loss has collapsed, and one halving at the tolerance, as `matrix_sensitivity` does it.

    python -m benchmarks.matrix_grid [--model smollm2] [--tokens 1024] [--window 128] [--every 15 | --blocks 2] [--stack 3]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from analysis.interventions.measuring import LOSS, Measured
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.restarting import Restarting
from analysis.interventions.scope import weight_scope
from analysis.interventions.skipping import block_of, blocks_around
from analysis.interventions.stacking import swapped
from analysis.interventions.sweep import Baseline
from analysis.models import open_subject
from analysis.sensitivity.candidates import candidates
from analysis.sensitivity.grid import Grid
from analysis.sensitivity.matrix_sensitivity import MatrixSensitivityConfig
from analysis.tasks import choose_task
from analysis.tasks.losses import largest_gap
from benchmarks.results import Result, emit
from benchmarks.sweep import timed

LEVELS = tuple(round(0.1 * i, 1) for i in range(1, 10))
SAME, COARSE = 1.6, 3.0
"""Targets."""


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--every", type=int, default=15, help="matrices: every so many-th of the scope, spread over the blocks")
    parser.add_argument("--stack", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--blocks", type=int, default=0, help="matrices: all of so many blocks, spread evenly, instead of every so many-th")
    options = parser.parse_args()
    subject = open_subject(options.model, "python-docs", n_tokens=options.tokens, window=options.window)
    task = choose_task(subject)
    scope = weight_scope(subject.model)
    members = chosen(scope, options)
    size = task.batch_size(options.batch_tokens)
    blocks = blocks_around(subject.model, scope.members)
    fast = Restarting(subject.model, task, size, blocks, stack=options.stack)
    once, dense = timed(fast.dense)
    naive = Restarting(subject.model, task, size, (), stack=1, restart=False)
    naive.dense()
    seconds, worst, rounds = {"same": once.copy(), "naive": np.zeros(2)}, 0.0, []
    with WeightPruning(scope="per_matrix").on(subject) as held:
        for member in members:
            changes = [{member.name: held.weights(member.name, level)} for level in LEVELS]
            spent, full = timed(lambda changes=changes: [_naive(subject.model, naive, change) for change in changes])
            seconds["naive"] += spent
            rounds.append(spent)
            spent, found = timed(lambda changes=changes, member=member: fast.measure(changes, block_of(member)))
            seconds["same"] += spent
            rounds[-1] = (spent + once / len(members)) / rounds[-1]
            worst = max(worst, *(largest_gap(one, two) for one, two in zip(found, full)))
        seconds["coarse"] = _coarse(options, subject, task, scope, held, dense, {member.name for member in members})
    report(options, len(members), len(scope.members), seconds, worst, fast)
    _emit(options, len(members), seconds, np.array(rounds))


def chosen(scope: Any, options: argparse.Namespace) -> list[Any]:
    """The matrices measured: whole blocks share what a restart costs once, as in a run of all."""
    if not options.blocks:
        return list(scope.members[:: options.every])
    paths = list(dict.fromkeys(block_of(member) for member in scope.members))
    some = {paths[i] for i in np.linspace(0, len(paths) - 1, options.blocks + 2).round().astype(int)[1:-1]}
    return [member for member in scope.members if block_of(member) in some]


def _naive(model: torch.nn.Module, arm: Restarting, change: Any) -> Any:
    """One point as everybody measures it."""
    with swapped(model, change):
        return arm.measure([{}])[0]


def _coarse(options: Any, subject: Any, task: Any, scope: Any, held: Any, dense: Any, names: set[str]) -> np.ndarray:
    """Seconds of the same matrices by coarse levels, early stop and one halving."""
    config = MatrixSensitivityConfig(stack=options.stack, batch_tokens=options.batch_tokens)
    restarting = Restarting(subject.model, task, task.batch_size(options.batch_tokens), blocks_around(subject.model, scope.members))
    grid = Grid(config, subject, task, scope, held.pruning, (0.3, 0.5, 0.7), (1.0,), restarting)
    spent, _ = timed(restarting.dense)
    baseline = Baseline.of(Measured({LOSS: dense}))
    for candidate in candidates(["matrices"], held, subject.model, None, 1):
        if candidate.tensor in names:
            spent += timed(lambda one=candidate: grid.measure(one, baseline, 0.05, lambda share: None))[0]
    return spent


def _emit(options: Any, n: int, seconds: dict[str, np.ndarray], rounds: np.ndarray) -> None:
    """The ratio of the whole; its spread is over the matrices, what restarting does once shared out among them."""
    what = f"grid of matrices and levels: {options.model}, {options.tokens:,} tokens, {n} matrices, {len(LEVELS)} levels"
    naive = seconds["naive"]
    for arm, key, less in (("restarted, same points", "same", SAME), ("coarse levels and early stop", "coarse", COARSE)):
        whole = seconds[key] / naive
        ends = [(rounds[:, i].min(), rounds[:, i].max()) if key == "same" else (whole[i], whole[i]) for i in (0, 1)]
        wall, processor = ((float(whole[i]), float(ends[i][0]), float(ends[i][1])) for i in (0, 1))
        emit(
            Result(
                what, arm, "naive full passes", rounds=n if key == "same" else 1, wall=wall, processor=processor,
                seconds=float(seconds[key][0]), beside_seconds=float(naive[0]),
                target=f"at least {less:g} times less, {1 / less:.2f} x, by processor time", met=bool(processor[0] <= 1 / less),
                note="rounds are matrices" if key == "same" else "",
            )
        )  # fmt: skip


def report(options: Any, n: int, of: int, seconds: dict[str, np.ndarray], worst: float, fast: Restarting) -> None:
    """Seconds and ratios."""
    print(f"{options.model}: {options.tokens} tokens, {n} of {of} matrices, {len(LEVELS)} levels, {torch.get_num_threads()} threads")
    naive, same, coarse = (seconds[arm] for arm in ("naive", "same", "coarse"))
    print(f"  naive full passes      {naive[0]:8.1f} s, processor {naive[1]:8.1f} s")
    for name, found, target in (("restarted, same points", same, SAME), ("coarse and early stop ", coarse, COARSE)):
        less = naive / found
        print(f"  {name} {found[0]:8.1f} s, {less[0]:.2f} x less (target {target}); processor {found[1]:.1f} s, {less[1]:.2f} x less")
    print(f"  largest difference of a loss {worst:.1e}")
    print(f"  fallbacks: {'; '.join(fast.facts['fallbacks']) or 'none'}")


if __name__ == "__main__":
    main()
