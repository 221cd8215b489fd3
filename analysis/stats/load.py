"""How evenly work is spread over experts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def imbalance(counts: ArrayLike) -> float | None:
    """Coefficient of variation of the experts' token counts [E]: standard deviation (over all E) / mean.

    Range: 0 (all equal) to sqrt(E - 1) (one expert has everything). None where no expert has a token. Counts 3, 1: std 1,
    mean 2, hence 0.5. Source: the importance loss of Shazeer et al., ICLR 2017, arXiv 1701.06538, is its square.
    """
    n = np.asarray(counts, np.float64)
    return float(n.std() / n.mean()) if n.sum() > 0 else None


def evenness(counts: ArrayLike) -> float | None:
    """Normalised entropy of the experts' shares p [E]: -sum p ln p / ln E, with 0 ln 0 = 0.

    Range: 0 (one expert has everything) to 1 (all equal). None for a single expert, or where no expert has a token. Counts 3, 1:
    0.8113. Pielou, J. Theor. Biol. 1966.
    """
    n = np.asarray(counts, np.float64)
    if n.sum() <= 0 or len(n) < 2:
        return None
    p = n[n > 0] / n.sum()
    return float(np.clip(-(p * np.log(p)).sum() / np.log(len(n)), 0.0, 1.0))
