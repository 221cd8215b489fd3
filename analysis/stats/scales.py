"""Which channels the scales of a norm would remove: METHODS A19. Scales are taken without their sign.

Only the scale of a batch norm is such a criterion (it multiplies one channel and nothing undoes it); for layer norms the numbers
describe and no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FIXED = 0.01
"""MaskSparsity's fixed threshold."""
SHARE = 1e-4
"""MaskSparsity's share of the sum of squares."""


def _sizes(scales: Any) -> NDArray[np.float64]:
    sizes = np.abs(np.asarray(scales, dtype=np.float64).reshape(-1))
    if not sizes.size or not np.isfinite(sizes).all():
        raise ValueError(f"scales must be finite numbers, at least one, got {sizes.size} of which {np.isfinite(sizes).sum()} finite.")
    return sizes


def slimming_threshold(scales: Any, share: float) -> float | None:
    """The floor(N share)-th smallest |scale|; channels above it are kept. None where that is none: nothing is pruned.

    ``scales``: of all batch norms together. Source: Liu et al., ICCV 2017 (their code counts from 1, so exactly that many go).
    """
    sizes = np.sort(_sizes(scales))
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, got {share!r}; give the share of channels to remove.")
    removed = int(np.floor(share * len(sizes)))
    return float(sizes[removed - 1]) if removed else None


def energy_threshold(scales: Any, share: float = SHARE) -> float:
    """MaskSparsity's threshold of one layer: between the scales where the sum of squares from below first exceeds ``share`` of all.

    1 (the whole layer) where no |scale| reaches 1e-3. Source: Jiang et al. 2022, `netslim/prune.py`; METHODS A19.
    """
    sizes = np.maximum(np.sort(_sizes(scales)), 1e-18)
    if sizes[-1] < 1e-3:
        return 1.0
    squares = np.cumsum(sizes**2)
    place = int(np.argmax(squares / squares[-1] > share))
    return float((sizes[place - 1] + sizes[place]) / 2) if place else float(sizes[0] / 2)


def n_kept(scales: Any, threshold: float | None) -> int:
    """Channels above a threshold, at least one."""
    sizes = _sizes(scales)
    return max(1, int((sizes > threshold).sum())) if threshold is not None else len(sizes)


def gap_ratio(scales: Any) -> float | None:
    """Largest ratio between neighbours in the order of |scale|, zeros left out: large where two groups stand apart; None below two.

    Range 1 to infinity. Ours.
    """
    sizes = np.sort(_sizes(scales))
    sizes = sizes[sizes > 0]
    return float((sizes[1:] / sizes[:-1]).max()) if len(sizes) > 1 else None
