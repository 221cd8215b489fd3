"""How much of each head's attention rules that keep few keys would keep, on a few windows; causal heads only.

1. Up to `WINDOWS` windows, evenly over the data; their whole patterns, one place and one window at a time.
2. The mean kept mass of each rule over the later half of the rows, where keys are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.observing import key_of
from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.attention_session import capture_attention
from analysis.capture.site import Frame
from analysis.stats.attention_policies import alisa_mask, channel_scores, h2o_mask, kept_mass, top_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

WINDOWS, LONGEST = 2, 512
"""Windows whose patterns are looked at, and the longest that are."""
BUDGET, QUARTER = 0.2, 0.25
"""Share of the window that H2O and ALISA keep; share of keys and of channels of the other two."""
KEPT = ("h2o_mass", "alisa_mass", "quarter_mass", "channel_mass")


def kept_masses(subject: Any, places: Sequence[AttentionPlace]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """[heads, rules] of each causal place; NaN where queries and keys were not seen. Empty where windows are longer than `LONGEST`."""
    n = subject.data.n_windows
    windows = np.unique(np.linspace(0, n - 1, min(WINDOWS, n)).astype(np.int64))
    observer = _Kept(places)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        for batch, _ in subject.data.only(windows).batches(1, subject.device):
            session.run(batch, Frame.of(batch))
    return {key: np.mean(values, axis=0) for key, values in observer.found.items()}


class _Kept:
    """Applies the rules to every window of every call."""

    def __init__(self, places: Sequence[AttentionPlace]) -> None:
        self.found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
        self._wanted = {key_of(p) for p in places if p.causal}

    def attention(self, call: AttentionCall) -> None:
        """One call; windows with padding are passed over."""
        batch, heads, n, _ = call.shape
        if (call.site.name, call.turn) not in self._wanted or not 8 <= n <= LONGEST:
            return
        real = call.real_queries()
        for w in range(batch):
            if real is None or bool(real[w].all()):
                self.found.setdefault((call.site.name, call.turn), []).append(_rules(call, w, heads, n))


def _rules(call: AttentionCall, w: int, heads: int, n: int) -> NDArray[np.float64]:
    """[heads, rules] of one window."""
    weights = _pattern(call, n).unflatten(0, (-1, heads))[w]
    rows = slice(n // 2, None)
    tenth = max(1, int(n * BUDGET / 2))
    masks = [h2o_mask(weights, tenth, tenth), alisa_mask(weights, BUDGET), top_mask(weights, QUARTER)]
    if call.query is not None and call.key is not None:
        key = call.key[w].float().repeat_interleave(heads // call.key.shape[1], 0)
        masks.append(top_mask(channel_scores(call.query[w].float(), key, QUARTER), QUARTER))
    found = np.full((heads, len(KEPT)), np.nan)
    for i, mask in enumerate(masks):
        found[:, i] = kept_mass(weights, mask, rows).double().cpu().numpy()
    return found


def _pattern(call: AttentionCall, n: int) -> Tensor:
    """[batch * heads, n, n]: the weights, 0 where masked."""
    import torch

    whole = torch.zeros(call.shape[0] * call.shape[1], n, n, device=(call.query if call.query is not None else call.logits).device)  # type: ignore[union-attr]
    for start, logits in call.blocks():
        part = logits.softmax(-1).masked_fill_(logits <= EXCLUDED / 2, 0.0)
        whole[:, start : start + part.shape[1], : part.shape[2]] = part
    return whole
