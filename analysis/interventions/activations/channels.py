"""Channels of convolutions by image: keep the largest, as long as their heat-map mass is at most r (FTWT).

    c_j = max over places |map_j|;  p_j = c_j / sum c;  sorted downwards, channels with cumsum(p) - r > 1e-5 are removed.

The longest prefix of mass at most r is kept; it can be empty. An image whose map is zero keeps all; channels that are zero
count as removed. r of a level is the one that removes
this share of the calibration images' channels, mean over layers. Chosen from the map itself, as the labels are that FTWT's predictor
learns: what is spared is the convolution that reads the map, not the one that makes it. Source: METHODS B11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting
from analysis.interventions.activations.observing import observe
from analysis.spec import Source

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from analysis.capture import Site

SOURCE = Source("Fire Together Wire Together: A Dynamic Pruning Approach", "Elkerdawy et al., CVPR 2022, arXiv 2110.08232", "C")
SLACK = 1e-5


def masses(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Of maps [images, places, channels]: channels sorted by p downwards, and the cumulative mass [images, channels]; 0 for zero maps."""
    peaks = maps.float().abs().amax(1)
    total = peaks.sum(-1, keepdim=True)
    p, order = (peaks / total.clamp(min=1e-30)).sort(dim=-1, descending=True, stable=True)
    return order, p.cumsum(-1) * (total > 0)


def kept_channels(maps: Tensor, r: float) -> Tensor:
    """bool [images, channels]; all of them where r is negative, as the source has it."""
    import torch

    order, mass = masses(maps)
    if r < 0:
        return torch.ones_like(mass, dtype=torch.bool)
    return torch.zeros_like(mass, dtype=torch.bool).scatter_(-1, order, mass - r <= SLACK)


def by_image(seen: Seen) -> Tensor:
    """[images, places, channels]."""
    return seen.values.reshape(seen.examples, -1, seen.values.shape[-1])


class HeatMapMass(Rule):
    """Keeps mass r."""

    native_unit = "heat-map mass"

    def __init__(self, r: float) -> None:
        self._r, self.native_value = r, r

    def change(self, seen: Seen) -> Changed:
        """Zero the other channels everywhere in the image."""
        maps = by_image(seen)
        channels = kept_channels(maps, self._r)
        spread = lambda one: one[:, None, :].expand(maps.shape).reshape(seen.values.shape)  # noqa: E731
        return Changed(seen.values.masked_fill(~spread(channels), 0), spread(channels & (maps != 0).any(1)))


@dataclass(frozen=True)
class ConvChannels(ActivationMethod):
    """Channels of heat-map mass r."""

    name = "conv-channels"
    words = "Convolution channels by heat-map mass"
    origin = (SOURCE,)  # METHODS B11
    kinds = ("conv",)
    wanted = "convolutions that read activated maps"
    denominator = "channels of {n} maps, by image"

    def suits(self, site: Site) -> bool:
        """Maps of images."""
        return site.stream == "rows"

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Cumulative masses of the calibration images, by site."""
        import torch

        parts: dict[str, list[Tensor]] = {}
        observe(setting, lambda seen: parts.setdefault(seen.site.name, []).append(masses(by_image(seen))[1].cpu()))
        seen = [torch.cat(found).flatten().sort().values.numpy() for found in parts.values()]
        return lambda level: HeatMapMass(mass_for(seen, level))


def mass_for(masses_seen: list[np.ndarray], level: float) -> float:
    """The r that keeps a share 1 - level of these, sorted upwards, mean over layers."""
    import numpy as np

    if level >= 1.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        r = (low + high) / 2
        kept = np.mean([np.searchsorted(one, r + SLACK, side="right") / len(one) for one in masses_seen])
        low, high = (r, high) if kept < 1 - level else (low, r)
    return high
