"""Which heads look at the token before, at an earlier copy, or at what came after it: measured on repeated random tokens.

1. Prompts [BOS] + R + R, R drawn without repeats from the tokens of the data; the first token is the tokenizer's, where it has one.
2. One forward pass; the attention on three diagonals, over the rows of the second R.

Source: METHODS C19 (TransformerLens' demos).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.observing import key_of
from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.attention_session import capture_attention
from analysis.stats.attention_stripes import SCORES, stripe_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERIOD, FEWEST, PROMPTS = 50, 8, 4
"""Tokens in R, at most and at least, and prompts."""


def prompts_of(subject: Any, seed: int) -> NDArray[np.int64] | None:
    """Token ids [PROMPTS, 2 m + 1]; None where the inputs are not tokens, or too few kinds of them, or the model's positions too few."""
    data = subject.data
    if data.token_ids is None:
        return None
    kinds = np.setdiff1d(data.token_ids[~data.special], data.token_ids[data.special])
    limit = subject.facts.get("context_length") or data.token_ids.shape[1]
    m = min(PERIOD, len(kinds) - 1, (limit - 1) // 2)
    if m < FEWEST:
        return None
    random = np.random.default_rng(seed)
    drawn = np.stack([random.choice(kinds, m + 1, replace=False) for _ in range(PROMPTS)])
    first = None if subject.tokenizer is None else subject.tokenizer.bos_token_id or subject.tokenizer.cls_token_id
    start = drawn[:, -1:] if first is None else np.full((PROMPTS, 1), first)
    return np.concatenate([start, drawn[:, :-1], drawn[:, :-1]], axis=1)


def scores(subject: Any, places: Sequence[AttentionPlace], ids: NDArray[np.int64]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """[heads, 3] for each place that looks within one sequence of the inputs' tokens."""
    import torch

    tokens = torch.from_numpy(ids).to(subject.device)
    named = {name: torch.ones_like(tokens) if "mask" in name else tokens for name in subject.data.inputs}
    observer = _Stripes(places, (ids.shape[1] - 1) // 2)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        session.run(named or (tokens,))
    return observer.found


class _Stripes:
    """Adds up the diagonals of every call."""

    def __init__(self, places: Sequence[AttentionPlace], period: int) -> None:
        self.found: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._wanted = {key_of(p) for p in places if not p.crosses}
        self._period = period

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        batch, heads, queries, keys = call.shape
        if (call.site.name, call.turn) not in self._wanted or queries != 2 * self._period + 1 or keys != queries:
            return
        total = np.zeros((batch * heads, len(SCORES)))
        for start, logits in call.blocks():
            total += stripe_sums(logits.softmax(-1), start, self._period)
        self.found[call.site.name, call.turn] = total.reshape(batch, heads, -1).mean(0) / self._period
