"""Delta: an input of a matrix is passed on only where it has moved away from what was passed on last.

    transmitted where |x_t - ref| > Theta_j, and then ref = x_t; else the matrix reads ref again.  Theta_j = c std_j

The reference changes only on transmission, so that slow drift is not lost, and the error of x stays within Theta at every token. What is
not transmitted saves its column: y_t = y_(t-1) + W (ref_t - ref_(t-1)). The first token of a sequence is passed on whole and not counted.
c of a level is that quantile of |x_t - x_(t-1)| / std_j by matrix: what is removed then is measured, and is not that share exactly.
Tokens are taken in the order of the sequence; the scale by dimension is METHODS' (ours). Source: METHODS B9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import Changed, Rule, Seen, Setting
from analysis.interventions.activations.observing import observe
from analysis.interventions.activations.sketch import Magnitudes
from analysis.interventions.activations.teal import Teal
from analysis.spec import Source

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("Delta Networks for Optimized Recurrent Network Computation", "Neil et al., ICML 2017", "K")


def passed_on(x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """x [sequences, tokens, width], theta [width]: what the matrix reads, and bool where it was transmitted (all of token 0)."""
    import torch

    read, sent = torch.empty_like(x), torch.ones_like(x, dtype=torch.bool)
    reference = x[:, 0]
    read[:, 0] = reference
    for t in range(1, x.shape[1]):
        sent[:, t] = (x[:, t] - reference).abs() > theta
        reference = torch.where(sent[:, t], x[:, t], reference)
        read[:, t] = reference
    return read, sent


class Transmitted(Rule):
    """Reads what was passed on last."""

    def __init__(self, std: Mapping[str, Tensor], factors: Mapping[str, float]) -> None:
        self._std, self._factors = std, factors

    def change(self, seen: Seen) -> Changed:
        """Lay the rows out by sequence, and go through the tokens."""
        from analysis.interventions.activations.sequences import Sequences

        name = seen.site.name
        order = Sequences.of(seen)
        grid = seen.values.new_zeros(int(order.number.max()) + 1, int(order.n_in.max()), seen.values.shape[-1])
        grid[order.number, order.rank] = seen.values[order.order]
        # A matrix that the calibration never reached passes everything on.
        theta = self._std[name] * self._factors[name] if name in self._std else grid.new_full((grid.shape[-1],), -1.0)
        read, sent = passed_on(grid, theta.nan_to_num(math.inf, posinf=math.inf))
        kept, later = sent[order.number, order.rank], order.rank > 0
        return Changed(order.back(read[order.number, order.rank]), kept[later])


@dataclass(frozen=True)
class Delta(Teal):
    """Inputs that moved."""

    name = "delta"
    words = "Delta: inputs of matrices that stayed as they were"
    origin = (SOURCE,)  # METHODS B9
    needs_causal = True
    wanted = "repeated blocks that run token by token"
    denominator = "inputs of {n} matrices of the blocks at tokens that follow another, weighted by the rows they are multiplied with"

    @property
    def nested(self) -> bool:
        """A higher threshold may transmit what a lower one had no need to."""
        return False

    def suits(self, site: Site) -> bool:
        """Tokens in an order."""
        return super().suits(site) and site.stream != "rows"

    def overhead(self, model: nn.Module, site: Site) -> float:
        """A difference, a comparison, an addition to the sum kept: 2 an entry and 1 a row of the matrix."""
        return 2.0 * (site.width or 0) + self.worth(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Deviations by dimension, then steps in their unit."""
        std = deviations(setting)

        def made() -> dict[str, Magnitudes]:
            found = {name: Magnitudes() for name in std}
            observe(setting, lambda seen: found[seen.site.name].add(steps(seen, std[seen.site.name])))
            return found

        sketches = setting.once(("steps", tuple(std)), made)
        return lambda level: Transmitted(std, {name: one.threshold(level) for name, one in sketches.items()})


def steps(seen: Seen, std: Tensor) -> Tensor:
    """(x_t - x_(t-1)) / std_j of every token that follows another [n, dimensions that vary]."""
    from analysis.interventions.activations.sequences import Sequences

    order = Sequences.of(seen)
    x = seen.values[order.order].float()
    return ((x[1:] - x[:-1]) / std)[order.rank[1:] > 0][:, std > 0]


def deviations(setting: Setting) -> dict[str, torch.Tensor]:
    """std_j over tokens [width] by site, float32."""

    def made() -> dict[str, Tensor]:
        sums: dict[str, list[Tensor]] = {}
        n: dict[str, int] = {}

        def look(seen: Seen) -> None:
            name, x = seen.site.name, seen.values.double()
            before = sums.get(name, [0.0, 0.0])
            sums[name] = [before[0] + x.sum(0), before[1] + (x * x).sum(0)]
            n[name] = n.get(name, 0) + len(x)

        observe(setting, look)
        return {name: (square / n[name] - (total / n[name]) ** 2).clamp(min=0).sqrt().float() for name, (total, square) in sums.items()}

    return setting.once(("deviations", tuple(site.name for site in setting.sites)), made)
