"""What a latent's decoder direction does to the logits, wherever its dictionary reads. Source: METHODS D7.

1. To the residual stream: of a residual or sublayer-output SAE the decoder row itself; of one of attention outputs through W_O, of one of
   MLP activations through W_out: the matrix that reads the place.
2. Through the final norm's gain and the unembedding, where a neuron's contribution reaches these by addition alone (tried, not assumed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.latents.example_tables import PROMOTED, SUPPRESSED
from analysis.neurons.directions import Directions, end_of, lens_of
from analysis.neurons.look import look_at
from analysis.neurons.observing import output_weights
from analysis.spec import IncompatibleSubject
from analysis.stats.decoder import LensTokens, lens_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place

Rows = dict[str, Any]
BINS = 50
"""Of the histogram of a latent's effects on all logits."""
WRITING = ("residual", "mlp_out", "attention_out")
"""Places that are in the residual stream, or added to it."""


@dataclass(frozen=True)
class LatentLens:
    """What came of it: tokens of every latent, or why there are none."""

    tokens: LensTokens | None
    words: str


def residual_directions(model: Any, place: Place, decoder: Tensor) -> Tensor | str:
    """What each latent adds to the residual stream [F, d], from decoder rows [F, width] at a place; or why that cannot be had."""
    if place.kind in WRITING:
        return decoder
    weight = output_weights(model, place.site)
    if place.kind in ("attention_z", "ffn") and weight is not None and weight.ndim == 2:
        return decoder.float() @ weight.float().to(decoder.device)
    return f"what is read at {place.hook_name} is not written into the residual stream, so there are no promoted or suppressed tokens."


def latent_lens(subject: Any, place: Place, dictionary: Dictionary, k: int) -> LatentLens:
    """The lens of a dictionary that writes at a place; k tokens on each side."""
    written = residual_directions(subject.model, place, dictionary.W_dec)
    if isinstance(written, str):
        return LatentLens(None, written)
    end = end_of(subject.model, "output")
    try:
        look = look_at(subject, [end[0]] if end else [])
    except IncompatibleSubject:
        return LatentLens(None, "the model has no neurons to try the unembedding with, so there are no promoted or suppressed tokens.")
    lens = lens_of(subject.model, look, Directions(subject.model, look))
    if isinstance(lens, str):
        return LatentLens(None, lens)
    if written.shape[1] != lens.weight.shape[1]:
        return LatentLens(None, f"the unembedding reads {lens.weight.shape[1]:,} values, got directions of {written.shape[1]:,}.")
    device = lens.weight.device
    folded = lens.folded(written.to(device).float())
    return LatentLens(lens_tokens(folded, lens.weight, k, centred=False, bins=BINS), f"read by {lens.path}")


def lens_columns(lens: LatentLens, n: int) -> Rows:
    """The columns that `latents` has of the lens."""
    names = ("logit_std", "logit_skewness", "logit_kurtosis", "logit_low", "logit_high", "logit_counts")
    if lens.tokens is None:
        return {name: pa.nulls(n) for name in names}
    t = lens.tokens
    varied = t.std > 0
    values = (t.std, t.skewness, t.excess_kurtosis, t.suppressed[0][:, 0], t.promoted[0][:, 0])
    found = {name: pa.array(value, mask=~varied if name != names[0] else None) for name, value in zip(names[:-1], values, strict=True)}
    counts = [row if any_ else None for row, any_ in zip(t.counts.tolist(), varied.tolist(), strict=True)]
    return found | {names[-1]: pa.array(counts, pa.list_(pa.int64()))}


def token_rows(lens: LatentLens, pieces: list[str] | None) -> list[Rows]:
    """Rows of `latent_tokens`; latents without any effect have none."""
    if lens.tokens is None:
        return []
    sides = {PROMOTED: lens.tokens.promoted, SUPPRESSED: lens.tokens.suppressed}
    names = None if pieces is None else pa.array(pieces, pa.string())
    return [_side_rows(side, *best, lens.tokens.std > 0, names) for side, best in sides.items()]


def _side_rows(side: str, score: np.ndarray, token: np.ndarray, has: np.ndarray, pieces: Any) -> Rows:
    alive, k = np.flatnonzero(has), score.shape[1]
    ids = token[alive].ravel()
    return {
        "latent": np.repeat(alive, k),
        "side": pa.repeat(side, len(ids)),
        "rank": np.tile(np.arange(k), len(alive)),
        "token_id": ids,
        "token": pa.nulls(len(ids)) if pieces is None else pieces.take(pa.array(ids)),
        "score": score[alive].ravel(),
    }
