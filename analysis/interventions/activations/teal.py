"""TEAL: the small entries of what every matrix of the blocks reads, one threshold a matrix, the same share in each (or: `greedy`).

    t = F^-1(s), F the distribution function of |x|; kept are |x| > t, and the columns they are multiplied by.

The source takes F^-1(.5 + s/2) of x itself, which is the same where x is symmetric around 0; the quantile of |x| needs no symmetry.
Matrices outside the blocks (unembedding) are left alone. Attention sinks count as any other token; the source sparsifies only the second
half of a prompt, here it is all of it. Source: METHODS B6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Rule, Setting
from analysis.interventions.activations.observing import magnitudes
from analysis.interventions.activations.threshold import Above
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import nn

    from analysis.capture import Site

SOURCE = Source("Training-Free Activation Sparsity in Large Language Models", "Liu et al., ICLR 2025, arXiv 2408.14690", "C")


@dataclass(frozen=True)
class Teal(ActivationMethod):
    """A threshold on every matrix' input."""

    greedy: bool = False
    """Shares by matrix found block by block (`greedy`), in place of one share for all."""

    name = "teal"
    words = "TEAL: small inputs of every matrix"
    origin = (SOURCE,)  # METHODS B6
    kinds = ("ffn", "matrix")
    wanted = "repeated blocks that hold matrices"
    denominator = "inputs of {n} matrices of the blocks, real tokens, weighted by the rows they are multiplied with"

    @property
    def slug(self) -> str:
        """With its allocation."""
        return f"{self.name}-greedy" if self.greedy else self.name

    @property
    def title(self) -> str:
        """With its allocation."""
        return f"{self.words}, shares found block by block" if self.greedy else self.words

    def sites(self, model: nn.Module, example: Any) -> list[Site]:
        """Inputs of matrices in blocks."""
        from analysis.capture.naming import block_of
        from analysis.spec import IncompatibleSubject

        found = [site for site in super().sites(model, example) if block_of(model, site.module)[0]]
        if not found:
            raise IncompatibleSubject(f"{self.name} must be given a model with {self.wanted}, got none; choose another intervention.")
        return found

    def suits(self, site: Site) -> bool:
        """Products with a stored matrix that read a row for each they give."""
        return site.product and site.weight is not None

    def worth(self, model: nn.Module, site: Site) -> float:
        """Rows of the matrix, which each entry is multiplied with."""
        shape = model.get_parameter(site.weight or "").shape
        return float(shape[-1] if site.transposed else shape[-2])

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Quantiles by matrix."""
        seen = magnitudes(setting)
        if not self.greedy:
            return lambda level: Above({name: one.threshold(level) for name, one in seen.items()})
        from analysis.interventions.activations.greedy import greedy_paths

        paths = setting.once(("greedy", tuple(seen)), lambda: greedy_paths(setting, seen))
        return lambda level: Above({name: seen[name].threshold(share) for path in paths for name, share in path.at(level).items()})
