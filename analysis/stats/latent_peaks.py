"""Where latents peak: of each its highest windows, and a fair sample of all windows in which it is active. Exact over any split.

One candidate per window and latent: its highest rankable token there, where it is above 0. Most latents are silent in most windows, so a
sample of windows alone (as for neurons) would hold next to none of them: here every latent has its own.

1. Highest: `examples.Best`; of peaks on the same token after the same four, one.
2. Sample: the windows whose hash is largest among those in which the latent is active; `examples.Best` on the hashes. Its keys carry
   window and peak, so they are all different.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.examples import Best, offer_windows
from analysis.stats.rows import context_keys, mixed

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
_LISTS = ("top", "sample")
_FIELDS = ("value", "index", "key", "filled")
_VALUE_BITS = np.uint64(32)


@dataclass
class LatentPeaks:
    """The accumulator of F latents; memory O(F (top + sampled)). Made by `empty`."""

    top: Best
    sample: Best
    """``value`` is the window's hash; the peak lies in the key (`_peaks_of`)."""
    seed: int

    @classmethod
    def empty(cls, n_latents: int, top: int, sampled: int, seed: int) -> LatentPeaks:
        """No window yet; room for so many of the highest and so many of the sample."""
        return cls(Best.empty(n_latents, top), Best.empty(n_latents, sampled), seed)

    def update(self, peak: Floats32, position: Ints, window: Ints, token_ids: Ints, threads: int | None = 1) -> None:
        """Take in whole windows: peak [W, F] and its position [W, F], window numbers [W], token_ids [W, L]. Where peak <= 0: none.

        ``threads``: as many run the compiled twin; None runs the reference.
        """
        n_windows, n_latents = peak.shape
        length = token_ids.shape[1]
        index = window[:, None] * length + position
        every = np.arange(n_windows)
        rows = np.where(peak > 0, every[:, None] * length + position, -1).astype(np.int32)
        of_row = (window[:, None] * length + np.arange(length)).ravel()
        offer_windows([(self.top, 1, peak, rows)], every, of_row, context_keys(token_ids).ravel(), threads)
        entry = np.where(peak > 0, np.arange(n_windows * n_latents).reshape(peak.shape), -1).astype(np.int32)
        score = (mixed(window, self.seed) >> np.uint64(40)).astype(np.float32)
        scores = np.repeat(score[:, None], n_latents, axis=1)
        bits = np.ascontiguousarray(peak, np.float32).view(np.uint32).astype(np.uint64)
        keys = (window.astype(np.uint64)[:, None] << _VALUE_BITS) | bits
        offer_windows([(self.sample, 1, scores, entry)], every, index.ravel(), keys.ravel(), threads)

    def merge(self, other: LatentPeaks) -> None:
        """Take in what another one saw of other windows."""
        for name in _LISTS:
            getattr(self, name).merge(getattr(other, name))

    def result(self) -> Arrays:
        """``top_`` and ``sample_`` ``value``, ``token_index`` (window * length + position) [F, k]; ``top_filled`` [F]; ``sample_defined``
        [F, k]: the entries that count. ``bottom_`` lists are empty, as no latent is below 0."""
        found: Arrays = {f"top_{name}": value for name, value in self.top.result().items()}
        n, k = self.sample.value.shape
        defined = np.arange(k) < self.sample.filled[:, None]
        found |= {
            "bottom_value": np.zeros((n, 0)),
            "bottom_token_index": np.zeros((n, 0), np.int64),
            "bottom_filled": np.zeros(n, np.int64),
        }
        peaks = np.where(defined, _peaks_of(self.sample.key), np.float32(0))
        return found | {"sample_value": peaks, "sample_token_index": np.where(defined, self.sample.index, 0), "sample_defined": defined}

    def arrays(self) -> Arrays:
        """The state by name."""
        lists = {f"{one}_{name}": getattr(getattr(self, one), name) for one in _LISTS for name in _FIELDS}
        return lists | {"seed": np.array(self.seed)}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> LatentPeaks:
        """Back from `arrays`."""
        top, sample = (Best(*(arrays[f"{one}_{name}"].copy() for name in _FIELDS)) for one in _LISTS)
        return cls(top, sample, int(arrays["seed"]))


def _peaks_of(keys: NDArray[np.uint64]) -> Floats32:
    """The peak that a key of the sample carries in its lower half."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
