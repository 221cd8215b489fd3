"""Statistical top-k: keep what lies above mean + deviation times a normal quantile of what goes into the activation function.

    theta = mean(x) + std(x) PhiInv(1 - k/d) over the d pre-activations x of a token, k/d = 1 - s;  std of the population
    hard: x where x > theta, else 0          soft: max(x - theta, 0)

No sort: O(d). Where x is not normal, another share than 1 - s is kept: that is measured. std = 0: everything is zero.
The source trains with the soft form; a model that was not needs the hard one, since the soft one moves what is kept (at low levels far up).
Source: METHODS B7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Rule, Setting
from analysis.interventions.activations.relu import Counting
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("Spark Transformer: Reactivating Sparsity in FFN and Attention", "You et al. 2025, arXiv 2506.06644", "3")


def statistical_top_k(x: Tensor, level: float, soft: bool = True) -> Tensor:
    """x [..., d] with about a share 1 - level of each row left, 0 < level <= 1."""
    import torch

    if level >= 1.0:
        return torch.zeros_like(x)
    wide = x.float()
    std = wide.std(-1, keepdim=True, unbiased=False)
    theta = wide.mean(-1, keepdim=True) + std * NormalDist().inv_cdf(level)
    left = (wide - theta).clamp(min=0) if soft else wide * (wide > theta)
    return left.to(x.dtype)


@dataclass(frozen=True)
class StatisticalTopK(ActivationMethod):
    """Pre-activations above a normal quantile."""

    soft: bool = False

    name = "statistical-top-k"
    words = "Statistical top-k of the pre-activations"
    origin = (SOURCE,)  # METHODS B7
    skips = ("up", "down")
    calibrated = False

    @property
    def slug(self) -> str:
        """With its variant."""
        return f"{self.name}-soft" if self.soft else self.name

    @property
    def title(self) -> str:
        """With its variant."""
        return f"{self.words}, subtracting the threshold" if self.soft else self.words

    def overhead(self, model: nn.Module, site: Site) -> float:
        """Mean, deviation, comparison: 4 an entry."""
        return 4 * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Find the functions."""
        from analysis.interventions.activations.functions import ffn_functions, replacing

        functions = ffn_functions(setting.model, setting.example)

        def rule(level: float) -> Rule:
            def change(x: Tensor, function: Callable[[Tensor], Any]) -> Any:
                return function(statistical_top_k(x, level, self.soft))

            return Counting(lambda: replacing(setting.model, functions, change))

        return rule
