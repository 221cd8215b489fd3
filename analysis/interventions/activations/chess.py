"""CHESS: the gate decides by channel, since what is lost at an entry is |act(g_j)| |u_j|, and |u_j| is about its mean.

    m_j = E_t |u_tj|;  I_tj = |act(g_tj)| m_j;  T = F^-1(s) of I over tokens and channels of a layer;  t_j = T / m_j
    zero where |act(g_j)| < t_j (a channel whose m_j is 0: always).

Two passes over the calibration split: the means (with CATS), then I. The published T is a mean
of quantiles by batch; here it is that of all.
Selective sparsification of attention inputs (CHESS+) is not part of it. Source: METHODS B5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, masked
from analysis.interventions.activations.observing import factor, gate_magnitudes, observe, units
from analysis.interventions.activations.sketch import Magnitudes
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Site

SOURCE = Source(
    "CHESS: Optimizing LLM Inference via Channel-Wise Thresholding and Selective Sparsification", "He et al. 2024, arXiv 2409.01366", "C"
)


def channel_means(setting: Setting) -> dict[str, Tensor]:
    """m_j = E_t |u_tj| [width] by site, float32."""

    gate_magnitudes(setting)  # refuses where gates do not show
    return {name: (one.up_total / one.n).float() for name, one in units(setting).items() if one.n}


class ChannelAbove(Rule):
    """Keeps |act(g_j)| >= T / m_j."""

    def __init__(self, means: Mapping[str, Tensor], thresholds: Mapping[str, float]) -> None:
        self._limits = {name: channel_limits(mean, thresholds[name]) for name, mean in means.items()}

    def change(self, seen: Seen) -> Changed:
        """Zero where the gate is small for its channel; at a site that the calibration never reached nothing."""
        import torch

        gate, limits = factor(seen.site, seen.gate), self._limits.get(seen.site.name)
        return masked(seen.values, torch.ones_like(gate, dtype=torch.bool) if limits is None else gate.float().abs() >= limits)


def channel_limits(means: Tensor, threshold: float) -> Tensor:
    """t_j = T / m_j [width]; infinite where m_j is 0."""
    import torch

    return torch.where(means > 0, threshold / means, torch.inf)


@dataclass(frozen=True)
class Chess(ActivationMethod):
    """A threshold on the gate, by channel."""

    name = "chess"
    words = "CHESS: FFN gates below a threshold of their channel"
    origin = (SOURCE,)  # METHODS B5
    skips = ("up", "down")
    factors = True
    wanted = "gated FFNs"

    def suits(self, site: Site) -> bool:
        """Gated units only."""
        return site.gated

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Channel means, then quantiles of the importance."""
        means = channel_means(setting)

        def made() -> dict[str, Magnitudes]:
            found = {name: Magnitudes() for name in means}

            def look(seen: Seen) -> None:
                name = seen.site.name
                found[name].add(factor(seen.site, seen.gate).float() * means[name])

            observe(setting, look, factors=True)
            return found

        seen = setting.once(("chess", tuple(means)), made)
        return lambda level: ChannelAbove(means, {name: one.threshold(level) for name, one in seen.items()})
