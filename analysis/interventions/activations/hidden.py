"""Hidden dimensions: what the matrices of a block read of the stream is reduced to a part of its dimensions (MoHD).

    k = d - floor(s d) of d dimensions are read: three quarters of them shared, those of largest mean |x_j| on the calibration split;
    the rest specialised, those of largest |x_tj| at the token among the others.

x is what the matrix reads, behind the norm. Only matrices that read the stream are meant (not those behind attention or an activation
function), and only their columns are spared. Nothing is trained, and there is no router: the token's own values choose.
Source: METHODS B8 (shared ratio .375 at .5 active: three quarters of the budget).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import Changed, Rule, Seen, Setting
from analysis.interventions.activations.observing import observe
from analysis.interventions.activations.teal import Teal
from analysis.interventions.activations.topk import largest, n_kept
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

ROUTERLESS = Source("Shared and specialised dimensions of a model without a router", "this project's operational definition", "O")
SOURCE = Source("Mixture of Hidden-Dimensions: Not All Hidden-States' Dimensions are Needed in Transformer", "Chen et al., ICML 2025", "3")
SHARED = 0.75


def read_dimensions(x: Tensor, mean: Tensor, k: int) -> Tensor:
    """bool [n, d]: k of the dimensions of each token; ``mean`` [d] of |x| says which are shared."""
    import torch

    shared = largest(mean[None], int(SHARED * k))[0]
    own = x.abs().float().masked_fill(shared, -torch.inf)
    return largest(own, k - int(shared.sum())) | shared


class Read(Rule):
    """Reads k dimensions."""

    def __init__(self, means: Mapping[str, Tensor], level: float) -> None:
        self._means, self._level = means, level

    def change(self, seen: Seen) -> Changed:
        """Zero the others; a matrix that the calibration never reached has no shared ones."""
        d = seen.values.shape[-1]
        mean = self._means.get(seen.site.name)
        k = n_kept(d, self._level)
        keep = largest(seen.values.abs(), k) if mean is None else read_dimensions(seen.values, mean, k)
        return Changed(seen.values.masked_fill(~keep, 0), keep)


@dataclass(frozen=True)
class HiddenDimensions(Teal):
    """A part of the stream's dimensions."""

    name = "hidden-dimensions"
    words = "Hidden dimensions that matrices read"
    origin = (ROUTERLESS, SOURCE)  # METHODS B8
    wanted = "repeated blocks whose matrices read a residual stream"
    denominator = "hidden dimensions that {n} matrices of the blocks read, real tokens, weighted by the rows they are multiplied with"

    def sites(self, model: nn.Module, example: Any) -> list[Site]:
        """Inputs of matrices in blocks that are as wide as the stream and come from it."""
        from analysis.latents.places import places

        of = {place.site.name: place for place in places(model, example)}
        wide = {place.layer: place.width for place in of.values() if place.kind == "residual"}
        behind = {name for name, place in of.items() if place.kind in ("attention_z", "ffn", "conv")}
        found = [s for s in super().sites(model, example) if s.name not in behind and s.kind == "matrix" and wide.get(s.layer) == s.width]
        if not found:
            raise IncompatibleSubject(f"{self.name} must be given a model with {self.wanted}, got none; choose another intervention.")
        return found

    def overhead(self, model: nn.Module, site: Site) -> float:
        """Selection among the dimensions that are not shared: about 3 comparisons an entry."""
        return 3 * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Mean |x_j| by matrix."""

        def made() -> dict[str, Tensor]:
            total: dict[str, Tensor] = {}

            def look(seen: Seen) -> None:
                sums = seen.values.abs().double().sum(0)
                total[seen.site.name] = total[seen.site.name] + sums if seen.site.name in total else sums

            observe(setting, look)
            return total

        means = setting.once(("mean magnitudes", tuple(site.name for site in setting.sites)), made)
        return lambda level: Read(means, level)
