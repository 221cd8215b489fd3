"""Which heads copy: what their OV circuit moves from a token, read through the unembedding.

1. The unembedding and the norm before it, where what layers write reaches it by addition alone.
2. On up to two windows v W_O of every key, head by head; its logit of the key's own token among those of other tokens.

Source: METHODS C19's neighbour, the copying score of Elhage et al. 2021, on tokens instead of eigenvalues (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.observing import key_of
from analysis.attention.policies import WINDOWS
from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace, projection_of
from analysis.capture.attention_session import capture_attention
from analysis.capture.running import unwrapped
from analysis.capture.site import Frame
from analysis.stats.attention_copying import copying

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.neurons.directions import Lens

TOKENS, OTHERS = 128, 512
"""Keys of a window that are looked at, at most, and tokens that each one's own is held against."""


def copying_scores(subject: Any, places: Sequence[AttentionPlace], seed: int) -> tuple[dict[tuple[str, int], NDArray[np.float64]], str]:
    """[heads] of every place whose values are of tokens and whose output the unembedding reads; and why there is none, or nothing."""
    lens = _lens(subject)
    if isinstance(lens, str):
        return {}, lens
    n = subject.data.n_windows
    windows = np.unique(np.linspace(0, n - 1, min(WINDOWS, n)).astype(np.int64))
    observer = _Copying(subject, places, lens, seed)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        for w in windows:
            batch, _ = next(iter(subject.data.only(np.array([w])).batches(1, subject.device)))
            observer.window = int(w)
            session.run(batch, Frame.of(batch))
    return {key: np.mean(values, axis=0) for key, values in observer.found.items()}, ""


def _lens(subject: Any) -> Lens | str:
    from analysis.neurons.directions import Directions, end_of, lens_of
    from analysis.neurons.look import look_at

    if subject.data.token_ids is None:
        return "the inputs are not tokens of a text, so no head can be said to copy any."
    model = unwrapped(subject.model)
    end = end_of(model, "output")
    if end is None:
        return f"{type(model).__name__} has no unembedding, so no head can be said to copy tokens."
    look = look_at(subject, [end[0]])
    return lens_of(model, look, Directions(model, look))


class _Copying:
    """Holds what every head moves against the unembedding."""

    def __init__(self, subject: Any, places: Sequence[AttentionPlace], lens: Lens, seed: int) -> None:
        self.found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
        self.window = 0
        self._places = {key_of(p): p for p in places if not p.crosses and p.site.stream == lens.stream}
        self._data, self._model, self._lens = subject.data, unwrapped(subject.model), lens
        rows = len(lens.weight)
        chosen = np.random.default_rng(seed).choice(rows, min(OTHERS, rows), replace=False)
        self._others = lens.weight[chosen.tolist()]

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        import torch

        place, value = self._places.get((call.site.name, call.turn)), call.value
        ids, special = self._data.token_ids[self.window], self._data.special[self.window]
        if place is None or value is None or value.shape[2] != len(ids) or special[:TOKENS].all():
            return
        weight = projection_of(self._model, place, value.shape[-1])
        if weight is None or weight.shape[2] != self._lens.weight.shape[1] or place.heads % value.shape[1]:
            return
        kept = value[0, :, :TOKENS].float().repeat_interleave(place.heads // value.shape[1], 0)
        moved = kept @ weight
        seen = self._lens.folded(moved.flatten(0, 1)).unflatten(0, moved.shape[:2])
        scores = copying(seen, self._lens.weight[ids[:TOKENS].tolist()], self._others, torch.from_numpy(~special[:TOKENS]))
        self.found.setdefault(key_of(place), []).append(scores.cpu().numpy())
