"""A line of the catalogue: an intervention under a name, with what it acts on, what can execute it, and where it comes from.

    METHODS = (Entry("ffn-topk", "Keep the largest activations of each token.", "activations", "gathers", make, (SOURCE,)),)

Light to import: ``make`` imports what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from analysis.interventions.spec import Intervention, Target
from analysis.spec import Source

RunsOn = Literal["nothing", "2 of 4", "blocks", "gathers", "smaller dense model"]
"""What can turn the sparsity into speed: nothing yet (single weights), sparse tensor cores, block kernels, kernels that gather rows or
keys, or any dense kernel since the model left over is a smaller dense one. Fronts are drawn for each alone."""

RUNS_ON: tuple[RunsOn, ...] = get_args(RunsOn)
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True)
class Entry:
    """One intervention of the catalogue."""

    slug: str
    """Name on the command line and in the store: lower case, no commas, none twice."""
    line: str
    """What it does in one sentence."""
    target: Target
    runs_on: RunsOn
    make: Callable[[int], Intervention]
    """From a seed to a value; nothing is measured or changed by it."""
    sources: tuple[Source, ...]
    needs_causal: bool | None = None
    """True: only for models whose tokens see no later ones; False: only for those that see all; None: for both."""
    default: bool = True
    """Whether it is among those measured where none is named (as far as it suits the model)."""

    def unsuited(self, causal: bool) -> str | None:
        """None, or the sentence why it does not suit; ``causal``: whether the model's tokens see no later ones.

        What only shows on the model itself (no heads, no gate) `Intervention.on` refuses with a `UserError`.
        """
        if self.needs_causal is None or self.needs_causal == causal:
            return None
        wanted, got = ("no later token is seen", "see all") if self.needs_causal else ("all tokens are seen", "see none later")
        return f"{self.slug} must be given a model in which {wanted}, got one whose tokens {got}."
