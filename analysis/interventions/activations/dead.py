"""Dead neurons: remove those that gave 0 on every token of the calibration split, or whose column of the last matrix is 0.

A point: there are as many as there are. It must be free on data on which they stay silent; then not even the rows are written anew.
With N tokens a neuron that fires with probability q is taken for dead with probability (1 - q)^N: N is in the facts. Units that have no
exact zeros (GELU, SiLU) are never dead. Static: what is left is a smaller dense model. Source: METHODS B2 (empirically dead, static dead).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, last_matrix
from analysis.interventions.activations.observing import observe
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source(
    "AP: Selective Activation for De-sparsifying Pruned Networks", "Liu et al., TMLR 2023, arXiv 2212.06145; empirically: ours", "K"
)


def dead_neurons(setting: Setting) -> dict[str, Tensor]:
    """bool [width] by site."""
    import torch

    fired = {site.name: torch.zeros(site.width or 0, dtype=torch.bool) for site in setting.sites}
    rows = dict.fromkeys(fired, 0)

    def look(seen: Seen) -> None:
        fired[seen.site.name] |= (seen.values != 0).any(0).cpu()
        rows[seen.site.name] += len(seen.values)

    observe(setting, look)
    setting.facts["n_tokens"] = max(rows.values(), default=0)
    found = {}
    for site in setting.sites:
        matrix = last_matrix(setting.model, site)
        # An expert that no token was sent to tells nothing about its neurons.
        silent = ~fired[site.name] if rows[site.name] else torch.zeros_like(fired[site.name])
        found[site.name] = silent.to(matrix.device) | (matrix == 0).all(0)
    setting.facts["dead"] = {name: int(one.sum()) for name, one in found.items()}
    return found


class Without(Rule):
    """Removes neurons."""

    def __init__(self, dead: Mapping[str, Tensor]) -> None:
        self._dead = dead
        self.native_value, self.native_unit = float(sum(int(one.sum()) for one in dead.values())), "neurons"
        self.planned = self.native_value / max(1, sum(len(one) for one in dead.values()))

    def change(self, seen: Seen) -> Changed:
        """Zero what is not zero already."""
        dead = self._dead[seen.site.name]
        kept = (~dead).expand(seen.values.shape)
        return Changed(seen.values.masked_fill(dead, 0) if seen.values[:, dead].any() else seen.values, kept)


@dataclass(frozen=True)
class DeadNeurons(ActivationMethod):
    """Neurons that never fire."""

    name = "dead-neurons"
    words = "FFN neurons that never fire"
    origin = (SOURCE,)  # METHODS B2
    skips = ("gate", "up", "down")
    point = True
    static = True
    runs_on = "smaller dense model"
    denominator = "neurons of {n} FFNs"

    def overhead(self, model: nn.Module, site: Site) -> float:
        """None: chosen before."""
        del model, site
        return 0.0

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Look who fires."""
        dead = dead_neurons(setting)
        return lambda level: Without(dead)
