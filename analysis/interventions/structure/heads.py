"""Attention heads, removed in the order of what the loss would lose: I_h = mean over examples of |sum_t z_h(t) . dL/dz_h(t)|.

The gradient to a gate of 1 on the head, by the chain rule; divided by its layer's L2 norm. `importance` gives the code's form, too,
which takes absolute values before it sums over tokens. Source: METHODS C21 (Michel et al.), A18 (zero or mean in its place).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.activations.base import Seen, Setting
from analysis.interventions.activations.observing import observe
from analysis.interventions.structure.base import Plan, StructureMethod, task_of
from analysis.interventions.structure.finding import head_plan
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

MICHEL = Source("Are Sixteen Heads Really Better than One?", "Michel, Levy and Neubig, NeurIPS 2019, arXiv 1905.10650", "C")
_EPS = 1e-20


@dataclass(frozen=True)
class Heads(StructureMethod):
    """Heads, zero where they are gone."""

    name = "heads"
    words = "Attention heads of least importance to the loss"
    origin = (MICHEL,)

    def plan(self, model: nn.Module, example: Any) -> Plan:
        """All heads of attention that a stored matrix reads."""
        plan = head_plan(model, example)
        if not plan.n:
            raise IncompatibleSubject(f"{self.name} must be given a model whose attention heads a matrix reads, got none; choose another.")
        return plan

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Michel importance."""
        return setting.once("head importance", lambda: _importances(setting, plan, task_of(setting, self.name)))


@dataclass(frozen=True)
class HeadMeans(Heads):
    """Heads, the mean of what they give where they are gone: shows how much of the loss is only being off the beaten path."""

    name = "heads-mean"
    words = "Attention heads of least importance, by their means"

    def fills(self, setting: Setting) -> Mapping[str, Tensor]:
        """Means over all real tokens of the calibration split."""
        sums: dict[str, tuple[int, Any]] = {}

        def look(seen: Seen) -> None:
            n, total = sums.get(seen.site.name, (0, 0.0))
            sums[seen.site.name] = (n + len(seen.values), total + seen.values.double().sum(0))

        def made() -> dict[str, Tensor]:
            observe(setting, look)
            return {name: total / n for name, (n, total) in sums.items()}

        return setting.once("head means", made)


@dataclass(frozen=True)
class HeadPrefixes(Heads):
    """The first heads of every layer stay, those that share keys and values together: what can be cut out of any layer alike."""

    name = "heads-prefix"
    words = "All but the first heads of every layer"
    calibrated = False

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Place of the heads' keys and values within the layer, the last ones lowest."""
        del setting
        found = np.zeros(plan.n)
        for part in plan.parts:
            if part.together:
                spot = next(spot for spot in plan.spots if spot.first <= part.first < spot.first + spot.n)
                found[part.first : part.first + part.n] = (spot.first - part.first) / spot.n
        return found


def importance(contributions: Tensor) -> tuple[Tensor, Tensor]:
    """Of one example from z . dL/dz [tokens, heads]: the paper's |sum over tokens| [heads], and the code's mean of absolute values."""
    return contributions.sum(0).abs(), contributions.abs().mean(0)


def normalised(scores: np.ndarray) -> np.ndarray:
    """One layer's importances [units] over their L2 norm."""
    return scores / np.sqrt((scores**2).sum() + _EPS)


class _Gates:
    """Multiplies each head of each token by a gate of 1, whose gradient is z . dL/dz."""

    def __init__(self, plan: Plan) -> None:
        self._heads = {spot.site.name: spot.n for spot in plan.spots if spot.site is not None}
        self.made: dict[str, list[Tensor]] = {}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Tensor:
        """The same values, so that gradients flow to the gates."""
        import torch

        del rows
        heads = self._heads[site.name]
        gate = torch.ones(len(values), heads, device=values.device, dtype=values.dtype, requires_grad=True)
        self.made.setdefault(site.name, []).append(gate)
        return (values.unflatten(-1, (heads, -1)) * gate[..., None]).flatten(-2)


def _importances(setting: Setting, plan: Plan, task: Any) -> np.ndarray:
    """Mean over examples of the paper's form, normalised by layer [units]."""
    import torch

    from analysis.capture.calling import observing_calls

    totals = {spot.site.name: np.zeros(spot.n) for spot in plan.spots if spot.site is not None}
    gates, n = _Gates(plan), 0
    with observing_calls(setting.model, setting.sites, gates):
        for slopes in slopes_by_example(setting, task, gates.made):
            n += 1
            for name, parts in slopes.items():
                totals[name] += importance(torch.cat(parts))[0].double().cpu().numpy()
    return np.concatenate([normalised(totals[spot.site.name] / n) for spot in plan.spots if spot.site is not None])


def slopes_by_example(setting: Setting, task: Any, gates: dict[str, list[Tensor]]) -> Iterator[Mapping[str, list[Tensor]]]:
    """Of every example with answers: gradients of its mean loss to the ``gates`` that hooks made in its pass, by name.

    Raises `IncompatibleSubject` where no example has answers.
    """
    import torch

    from analysis.capture.running import run
    from analysis.interventions.gradients import differentiable
    from analysis.tasks.objectives import answer_of

    n = 0
    with differentiable(setting.model, []):
        for batch in task.batches(1):
            gates.clear()
            loss, _, counts = task.objective.score(answer_of(run(setting.model, batch.inputs)), batch)
            if not counts.any():
                continue
            n += 1
            flat = [(name, gate) for name, made in gates.items() for gate in made]
            found = torch.autograd.grad(torch.where(counts, loss, 0.0).sum() / counts.sum(), [gate for _, gate in flat], allow_unused=True)
            slopes = {name: [g for (other, _), g in zip(flat, found) if other == name and g is not None] for name in gates}
            yield {name: parts for name, parts in slopes.items() if parts}
    if not n:
        raise IncompatibleSubject("importance to the loss must be given examples with answers, got none; give more documents.")
