"""How much of each head's attention rules that keep few keys would keep, on a few windows; causal heads only.

1. Up to `WINDOWS` windows, evenly over the data; their whole patterns, one place and one window at a time.
2. The mean kept mass of each rule over the later half of the rows, where keys are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.measures import SEEN
from analysis.attention.observing import key_of
from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.attention_session import capture_attention
from analysis.capture.site import Frame
from analysis.stats.attention_policies import (
    agreement,
    alisa_mask,
    channel_scores,
    gumbel,
    h2o_mask,
    kept_mass,
    keyformer_mask,
    subsampled,
    top_mask,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

WINDOWS, LONGEST = 2, 512
"""Windows whose patterns are looked at, and the longest that are."""
BUDGET, QUARTER = 0.2, 0.25
"""Share of the window that H2O, Keyformer and ALISA keep; share of keys and of channels of the other two."""
RECENT = 0.3
"""Share of Keyformer's keys that are the latest (its default)."""
NOISES, DRAWS = 5, 8
"""Draws of Keyformer's noise, and of the keys that are seen (METHODS C10, C18)."""
KEPT = ("h2o_mass", "alisa_mass", "quarter_mass", "channel_mass", "keyformer_mass", "keyformer_spread", "subsampled_agreement")
"""Columns of `heads`; the last for the first of `SEEN`, the further ones stand behind it."""
COLUMNS = len(KEPT) + len(SEEN) - 1


def kept_masses(subject: Any, places: Sequence[AttentionPlace], seed: int) -> dict[tuple[str, int], NDArray[np.float64]]:
    """[heads, COLUMNS] of each causal place; NaN where what a rule needs was not seen. Empty where windows are longer than `LONGEST`."""
    n = subject.data.n_windows
    windows = np.unique(np.linspace(0, n - 1, min(WINDOWS, n)).astype(np.int64))
    observer = _Kept(places, seed)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        for batch, _ in subject.data.only(windows).batches(1, subject.device):
            session.run(batch, Frame.of(batch))
    return {key: np.mean(values, axis=0) for key, values in observer.found.items()}


class _Kept:
    """Applies the rules to every window of every call."""

    def __init__(self, places: Sequence[AttentionPlace], seed: int) -> None:
        self.found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
        self._seed, self._noise = seed, gumbel((0,), seed)
        self._wanted = {key_of(p) for p in places if p.causal}

    def attention(self, call: AttentionCall) -> None:
        """One call; windows with padding are passed over."""
        batch, heads, n, _ = call.shape
        if (call.site.name, call.turn) not in self._wanted or not 8 <= n <= LONGEST:
            return
        if self._noise.shape[-1] != n:
            self._noise = gumbel((NOISES, 1, n, n), self._seed)
        real = call.real_queries()
        for w in range(batch):
            if real is None or bool(real[w].all()):
                weights = _pattern(call, n).unflatten(0, (-1, heads))[w]
                found = np.full((heads, COLUMNS), np.nan)
                self._rules(call, w, weights, found)
                self._draws(call, w, weights, found)
                self.found.setdefault((call.site.name, call.turn), []).append(found)

    def _rules(self, call: AttentionCall, w: int, weights: Tensor, found: NDArray[np.float64]) -> None:
        """What each rule keeps, over the later half of the rows."""
        heads, n, _ = weights.shape
        rows = slice(n // 2, None)
        tenth = max(1, int(n * BUDGET / 2))
        masks = [h2o_mask(weights, tenth, tenth), alisa_mask(weights, BUDGET), top_mask(weights, QUARTER)]
        if call.query is not None and call.key is not None:
            key = call.key[w].float().repeat_interleave(heads // call.key.shape[1], 0)
            masks.append(top_mask(channel_scores(call.query[w].float(), key, QUARTER), QUARTER))
        for i, mask in enumerate(masks):
            found[:, i] = _numbers(kept_mass(weights, mask, rows))
        recent = max(1, int(n * BUDGET * RECENT))
        masks = keyformer_mask(weights, max(1, int(n * BUDGET) - recent), recent, self._noise.to(weights.device))
        drawn = np.stack([_numbers(kept_mass(weights, mask, rows)) for mask in masks])
        found[:, KEPT.index("keyformer_mass")], found[:, KEPT.index("keyformer_spread")] = drawn.mean(0), drawn.std(0, ddof=1)

    def _draws(self, call: AttentionCall, w: int, weights: Tensor, found: NDArray[np.float64]) -> None:
        """How far outputs agree where only some keys are seen."""
        if call.value is None or len(weights) % call.value.shape[1]:
            return
        value = call.value[w].float().repeat_interleave(len(weights) // call.value.shape[1], 0)
        rows = slice(weights.shape[-1] // 2, None)
        for i, share in enumerate(SEEN):
            drawn = subsampled(weights, value, share, DRAWS, self._seed)
            found[:, KEPT.index("subsampled_agreement") + i] = _numbers(agreement(drawn, weights @ value, rows))


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def _pattern(call: AttentionCall, n: int) -> Tensor:
    """[batch * heads, n, n]: the weights, 0 where masked."""
    import torch

    whole = torch.zeros(call.shape[0] * call.shape[1], n, n, device=(call.query if call.query is not None else call.logits).device)  # type: ignore[union-attr]
    for start, logits in call.blocks():
        part = logits.softmax(-1).masked_fill_(logits <= EXCLUDED / 2, 0.0)
        whole[:, start : start + part.shape[1], : part.shape[2]] = part
    return whole
