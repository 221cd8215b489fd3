"""One example of one attention call, as the methods look at it: logits, what the mask allows, and how many keys a level leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**29
"""Numbers of one example's pattern, all heads."""


@dataclass
class Pattern:
    """A square pattern: queries and keys are the same n tokens, none of them padding. Nothing of it may be changed."""

    call: AttentionCall
    """Of this example alone: batch 1."""
    place: AttentionPlace
    level: float
    logits: Tensor
    """[heads, n, n] float32, `EXCLUDED` where the mask says so."""
    groups: int = 1
    """Heads of keys that differ."""
    prepared: Any = None
    """What the method got ready for this place at this level."""
    memory: dict[Any, Any] = field(default_factory=dict)
    """Of the method, over calls: noise that is drawn once."""

    @property
    def n(self) -> int:
        """Tokens."""
        return self.logits.shape[-1]

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.logits.shape[0]

    @property
    def causal(self) -> bool:
        """No query sees a later key."""
        return self.place.causal

    @cached_property
    def allowed(self) -> Tensor:
        """bool [heads, n, n]: what the model's own mask lets be seen."""
        return self.logits > EXCLUDED / 2

    @cached_property
    def shared(self) -> Tensor:
        """bool [n, n]: what any head may see."""
        return self.allowed.any(0)

    @cached_property
    def whole(self) -> bool:
        """Every query sees all keys, or all up to its own: no window of the model's is narrower than the text."""
        import torch

        may = torch.arange(1, self.n + 1, device=self.logits.device) if self.causal else self.n
        return bool((self.allowed.sum(-1) == may).all())

    @cached_property
    def weights(self) -> Tensor:
        """[heads, n, n]: the dense attention; rows of queries that may see nothing are 0. Learned sinks are left out."""
        return self.logits.softmax(-1).masked_fill(~self.allowed, 0.0)

    @cached_property
    def counts(self) -> Tensor:
        """int64 [n]: keys that each query may see."""
        return self.shared.sum(-1)

    @cached_property
    def keys(self) -> int:
        """K: keys per query that leave the level's share of the pairs."""
        return keys_at(self.level, self.counts)


def keys_at(level: float, counts: Tensor) -> int:
    """K, at least 1: the fewest keys per query with which at least 1 - level of the pairs stay, where query r keeps min(K, counts_r).

    counts int64 [queries] -> 1 to the largest count. Level 0: the largest count; level 1: one key. Four causal queries (10 pairs): level
    .3 leaves K = 2 (7 pairs), .6 K = 1 (4 pairs).
    """
    largest = max(1, int(counts.max()) if len(counts) else 1)
    at_least = counts.bincount(minlength=largest + 1).flip(0).cumsum(0).flip(0)[1:]  # how many have k keys or more, k from 1
    stay = at_least.cumsum(0)
    enough = stay >= (1 - level) * counts.sum() - 1e-9 * max(1, int(counts.sum()))
    return int(enough.long().argmax()) + 1


def pattern_of(call: AttentionCall, place: AttentionPlace, example: int, real: Tensor | None, level: float) -> Pattern:
    """One example's pattern among its real tokens. Raises `UserError` where it is too large to be held."""
    _, heads, n, _ = call.shape
    if heads * n * n > LARGEST:
        longest = int(math.sqrt(LARGEST / heads))
        raise UserError(f"windows must hold at most {longest:,} tokens, as patterns are held whole, got {n:,}; give shorter windows.")
    one = among_real(example_of(call, example), real)
    return Pattern(one, place, level, next(iter(one.blocks(1 << 62)))[1])


def example_of(call: AttentionCall, example: int) -> AttentionCall:
    """One example of a call, as a call of batch 1."""

    def part(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or tensor.shape[0] == 1 else tensor[example : example + 1]

    parts = {name: part(getattr(call, name)) for name in ("query", "key", "value", "output", "mask", "logits", "sink")}
    return replace(call, **parts)


def among_real(call: AttentionCall, real: Tensor | None) -> AttentionCall:
    """A call without the positions that are padding: ``real`` bool [n]; None where there are none."""
    if real is None:
        return call

    def rows(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or tensor.shape[-2] == 1 else tensor[..., real, :]

    parts = {name: rows(getattr(call, name)) for name in ("query", "key", "value", "output", "mask", "logits", "sink")}
    mask, logits = parts["mask"], parts["logits"]
    parts["mask"] = None if mask is None else mask[..., real]
    parts["logits"] = None if logits is None else logits[..., real]
    return replace(call, **parts)
