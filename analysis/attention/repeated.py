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
from analysis.stats.attention_stripes import SCORES, detection_patterns, detector_scores, detector_sums, stripe_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERIOD, FEWEST, PROMPTS = 50, 8, 4
"""Tokens in R, at most and at least, and prompts."""
SCORE_COLUMNS = tuple(f"{name}_{kind}" for kind in ("score", "mul", "abs") for name in SCORES)
"""Columns of `heads` that are read from these prompts."""


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
    named = (getattr(subject.tokenizer, name, None) for name in ("bos_token_id", "cls_token_id"))
    first = next((one for one in named if one is not None), None)
    start = drawn[:, -1:] if first is None else np.full((PROMPTS, 1), first)
    return np.concatenate([start, drawn[:, :-1], drawn[:, :-1]], axis=1)


def scores(subject: Any, places: Sequence[AttentionPlace], ids: NDArray[np.int64]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """[heads, SCORE_COLUMNS] for each place that looks within one sequence of the inputs' tokens."""
    import torch

    tokens = torch.from_numpy(ids).to(subject.device)
    named = {name: torch.ones_like(tokens) if "mask" in name else tokens for name in subject.data.inputs}
    observer = _Stripes(places, ids)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        session.run(named or (tokens,))
    return observer.found


class _Stripes:
    """Adds up the diagonals, and what falls on a detector's pattern, of every call."""

    def __init__(self, places: Sequence[AttentionPlace], ids: NDArray[np.int64]) -> None:
        import torch

        self.found: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._wanted = {key_of(p) for p in places if not p.crosses}
        self._period = (ids.shape[1] - 1) // 2
        self._patterns = [torch.from_numpy(detection_patterns(row)) for row in ids]

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        batch, heads, n, keys = call.shape
        if (call.site.name, call.turn) not in self._wanted or n != 2 * self._period + 1 or keys != n or batch != len(self._patterns):
            return
        stripes, sums = np.zeros((batch * heads, len(SCORES))), np.zeros((batch, heads, len(SCORES), 2))
        for start, logits in call.blocks():
            weights = logits.softmax(-1)
            stripes += stripe_sums(weights, start, self._period)
            for w, patterns in enumerate(self._patterns):
                sums[w] += detector_sums(weights[w * heads : (w + 1) * heads], start, patterns.to(weights.device))
        detected = detector_scores(sums, n).mean(0).transpose(0, 2, 1).reshape(heads, -1)
        self.found[call.site.name, call.turn] = np.hstack([stripes.reshape(batch, heads, -1).mean(0) / self._period, detected])
