"""Residual branches scaled by 0.25, block by block, in the order that importance-aware sampling learns (IST).

1. Scores I = 0. Each round: three sets of half of the blocks, drawn with chances that go with p = sigmoid(I); with a set's branches
   scaled, reward R = exp(-loss) on a few examples; r = R - mean R; I_l += 10 r p_l (1 - p_l) for the blocks of the set.
2. Scaling down what matters little is rewarded: a *high* score means *less* important, so the highest go first.
Scores hang on the seed: take several. Nothing is saved: it says which blocks a cheaper model could do without. Source: METHODS A14.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.activations.base import Setting
from analysis.interventions.spec import one_draw
from analysis.interventions.structure.base import Ablation, Plan, Spot, StructureMethod, ablated, task_of
from analysis.interventions.structure.finding import block_around
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import nn

IST = Source("Layer-wise Importance Matters: Less Memory for Better Performance in Parameter-efficient Fine-tuning of LLMs",
             "Yao et al., Findings of EMNLP 2024; adapters there, residual branches here", "C")  # fmt: skip
SUPPRESS, SETS, SHARE, RATE, EXAMPLES, ROUNDS = 0.25, 3, 0.5, 10.0, 16, 10


@dataclass(frozen=True)
class BranchScaling(StructureMethod):
    """Blocks whose branches add a quarter of what they did."""

    name = "branch-scaling"
    words = "What blocks add scaled to a quarter, least important first"
    origin = (IST,)
    runs_on = "nothing"
    factor = SUPPRESS
    notes = ("A high score means less important, so the highest go first.", one_draw(5))

    def plan(self, model: nn.Module, example: Any) -> Plan:
        """Blocks with what adds to the stream in them."""
        from analysis.latents.places import places

        found = [place for place in places(model, example) if place.kind in ("attention_out", "mlp_out")]
        blocks = list(dict.fromkeys(block_around(model, place.module) for place in found))
        if not blocks:
            raise IncompatibleSubject(f"{self.name} must be given a model with residual branches, got none; choose another.")
        numbers = {block: i for i, block in enumerate(blocks)}
        sites = {place.site.name: place for place in found}
        spots = [Spot(numbers[where := block_around(model, p.module)], 1, where, p.site) for p in sites.values()]
        return Plan(tuple(spots), (), "blocks' branches")

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """The learned scores, the highest first."""
        task = task_of(setting, self.name)
        few = replace(task, data=task.data.only(np.arange(min(EXAMPLES, len(task.examples)))), examples=task.examples[:EXAMPLES])
        size, ablation = few.batch_size(1024), Ablation(plan, factor=SUPPRESS)

        def loss(chosen: np.ndarray) -> float:
            ablation.gone[:] = False
            ablation.gone[chosen] = True
            found = few.losses(setting.model, size)
            return float("inf") if found.n_endless.any() else float(found.total.sum() / found.n.sum())

        with ablated(setting.model, plan, ablation):
            return -learned(plan.n, loss, np.random.default_rng([plan.n, self.seed]))


def updated(scores: np.ndarray, sets: list[np.ndarray], rewards: np.ndarray) -> np.ndarray:
    """Scores [blocks] after the rewards [sets] of sets of blocks, centred here."""
    p = 1.0 / (1.0 + np.exp(-scores))
    made = scores.copy()
    for chosen, reward in zip(sets, rewards - rewards.mean(), strict=True):
        made[chosen] += RATE * reward * p[chosen] * (1.0 - p[chosen])
    return made


def learned(n: int, loss: Callable[[np.ndarray], float], rng: np.random.Generator, rounds: int = ROUNDS) -> np.ndarray:
    """Scores of n blocks after so many rounds. loss: with the branches of these blocks scaled."""
    scores = np.zeros(n)
    for _ in range(rounds):
        p = 1.0 / (1.0 + np.exp(-scores))
        sets = [rng.choice(n, max(1, int(SHARE * n)), replace=False, p=p / p.sum()) for _ in range(SETS)]
        scores = updated(scores, sets, np.exp([-loss(chosen) for chosen in sets]))
    return scores
