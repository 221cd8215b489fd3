"""Griffin (CSparse of Sirius): neurons chosen once by the prompt, for all that follows it.

    s_j = | (a_tj / |a_t|_2)_t |_2 over the tokens t of the prompt;  the top k = f - floor(s f) of each sequence are kept behind it.

The prompt is the first half of each sequence's real tokens and runs in full; its tokens are not counted in the share removed. FLOPs of a
pass over everything fall by half of that share, bytes of a decoded token by all of it. Later tokens are never looked at. METHODS B10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, masked
from analysis.interventions.activations.topk import largest, n_kept
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("Sirius: Contextual Sparsity with Correction for Efficient LLMs (Griffin)", "Zhou et al., NeurIPS 2024, 2409.03856", "C")


def prompt_scores(values: Tensor, number: Tensor, n_sequences: int) -> Tensor:
    """s [sequences, width] of rows [n, width] that belong to the sequences ``number`` [n]; a row of zeros counts nothing."""
    import torch

    wide = values.float()
    shares = (wide / wide.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)) ** 2
    return torch.zeros(n_sequences, wide.shape[-1], device=wide.device).index_add_(0, number, shares).sqrt()


class OfThePrompt(Rule):
    """Keeps what the prompt used."""

    def __init__(self, level: float, prompt: float) -> None:
        self._level, self._prompt = level, prompt

    def change(self, seen: Seen) -> Changed:
        """Behind the prompt, zero the other neurons."""
        from analysis.interventions.activations.sequences import Sequences

        order = Sequences.of(seen)
        values = seen.values[order.order]
        behind = order.rank >= (order.n_in * self._prompt).ceil()
        n = int(order.number.max()) + 1
        kept = largest(prompt_scores(values[~behind], order.number[~behind], n), n_kept(values.shape[-1], self._level))
        keep = order.back(kept[order.number] | ~behind[:, None])
        return Changed(masked(seen.values, keep).values, keep[order.back(behind)])


@dataclass(frozen=True)
class Griffin(ActivationMethod):
    """Neurons by prompt."""

    prompt: float = 0.5
    """Share of each sequence that is the prompt."""

    name = "griffin"
    words = "Griffin: FFN neurons the prompt used"
    origin = (SOURCE,)  # METHODS B10
    skips = ("gate", "up", "down")
    needs_causal = True
    calibrated = False
    denominator = "inner activations of {n} FFNs, real tokens behind the first half of their sequence"
    wanted = "FFNs that run token by token"

    def suits(self, site: Site) -> bool:
        """Tokens in an order."""
        return site.stream != "rows"

    def overhead(self, model: nn.Module, site: Site) -> float:
        """Square, norm and sum of every entry of the prompt: 4 each."""
        return 4 * self.prompt * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Nothing to calibrate."""
        del setting
        return lambda level: OfThePrompt(level, self.prompt)
