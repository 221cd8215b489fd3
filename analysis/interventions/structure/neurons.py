"""FFN neurons, removed in the order of what they contribute: mean |a_j| over tokens times the norm of the neuron's output weights.

|a_j| ||w_j|| is the length of what neuron j adds to the stream; over the L2 norm of its layer's, since streams grow with depth, and whole
early layers would go first. Source: METHODS A18; prefixes: MatFormer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.activations.base import Seen, Setting, last_matrix
from analysis.interventions.activations.observing import observe
from analysis.interventions.structure.base import Orderless, Plan, StructureMethod
from analysis.interventions.structure.finding import neuron_plan
from analysis.interventions.structure.heads import normalised
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import nn

ABLATION = Source("Structured ablation: neurons by the mean length of what they add", "this project's operational definition", "O")
MATFORMER = Source("MatFormer: Nested Transformer for Elastic Inference", "Devvrit et al., NeurIPS 2024, arXiv 2310.07707", "K")


@dataclass(frozen=True)
class Neurons(StructureMethod):
    """Neurons, zero where they are gone."""

    name = "ffn-neurons"
    words = "FFN neurons that contribute least"
    origin = (ABLATION,)

    def plan(self, model: nn.Module, example: Any) -> Plan:
        """All neurons of FFNs, those of experts too."""
        plan = neuron_plan(model, example)
        if not plan.n:
            raise IncompatibleSubject(f"{self.name} must be given a model with FFN neurons to be found, got none; choose another.")
        return plan

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Mean |a| times the norm of the output weights, over its layer's norm; 0 where no token came (an expert)."""

        def made() -> np.ndarray:
            sums: dict[str, tuple[int, Any]] = {}

            def look(seen: Seen) -> None:
                n, total = sums.get(seen.site.name, (0, 0.0))
                sums[seen.site.name] = (n + len(seen.values), total + seen.values.abs().double().sum(0))

            observe(setting, look)
            found = []
            for spot in plan.spots:
                assert spot.site is not None
                n, total = sums.get(spot.site.name, (0, None))
                mean = np.zeros(spot.n) if total is None else (total / n).cpu().numpy()
                norms = last_matrix(setting.model, spot.site).double().norm(dim=0)
                found.append(normalised(mean * norms.cpu().numpy()))
            return np.concatenate(found)

        return setting.once("neuron contributions", made)


@dataclass(frozen=True)
class Prefixes(Orderless, Neurons):
    """The first neurons of every FFN stay: what a model that was trained nested would do; of others it is a random choice."""

    name = "ffn-prefix"
    words = "All but the first neurons of every FFN"
    origin = (MATFORMER,)
    calibrated = False
