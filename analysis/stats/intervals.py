"""What can be said from n tokens in D documents: bounds, classes, intervals, and how many dead units will wake.

The unit of every guaranteed statement is the document; token rates are estimates, because tokens of a document are not
independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
CLASSES = ("dead", "rare", "undecided", "normal", "dense")


def document_bound(n_documents: int) -> float:
    """Fired in none of D documents: with 95 % confidence it fires in less than this share of such documents.

    1 - 0.05^(1/D), a share of documents, 0 to 1; exact for documents drawn independently. Source: the Clopper-Pearson upper
    limit for no success ("rule of three").
    """
    if n_documents < 1:
        raise ValueError(f"n_documents must be at least 1, got {n_documents}; a bound needs a document.")
    return -math.expm1(math.log1p(-CONFIDENCE) / n_documents)


def tokens_to_decide(rare: float) -> int:
    """The fewest independent tokens without a firing that rule out a rate of `rare` at 95 %: ln 0.05 / ln(1 - rare), rounded up."""
    if not 0 < rare < 1:
        raise ValueError(f"rare must be between 0 and 1, got {rare!r}; the usual cut-off is 1e-4.")
    return math.ceil(math.log1p(-CONFIDENCE) / math.log1p(-rare))


def clopper_pearson(k: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided limits for a rate, from k of n independent trials; shares, 0 to 1. For token rates an estimate only.

    Source: Clopper and Pearson 1934.
    """
    hits, trials = _counts(k, n)
    tail = (1 - confidence) / 2
    return _lower_limit(hits, trials, tail), 1 - _lower_limit(trials - hits, trials, tail)


def _counts(k: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    if (trials < 1).any() or (hits < 0).any() or (hits > trials).any():
        raise ValueError("k must be between 0 and n, and n at least 1, for every unit; check the counts.")
    return hits, trials


def _lower_limit(hits: NDArray[np.float64], trials: NDArray[np.float64], tail: float) -> NDArray[np.float64]:
    from scipy.special import betaincinv

    some = hits > 0
    return np.where(some, betaincinv(np.where(some, hits, 1.0), trials - hits + 1, tail), 0.0)


def activity_class(n_active: ArrayLike, n: ArrayLike, rare: float = 1e-4, dense: float = 0.5) -> NDArray[np.str_]:
    """ "dead", "rare", "undecided", "normal" or "dense" for each unit; n_active of n tokens. In this order:

    - active on none: dead where n >= `tokens_to_decide(rare)`, else undecided;
    - density n_active / n below rare: rare where n is that large, else undecided;
    - n too small, and the one-sided 95 % lower Clopper-Pearson limit still below rare: undecided;
    - density above dense: dense; else normal.

    Source: ours.
    """
    hits, trials = _counts(n_active, n)
    if not 0 < rare < dense <= 1:
        raise ValueError(f"rare and dense must satisfy 0 < rare < dense <= 1, got {rare!r} and {dense!r}.")
    enough = trials >= tokens_to_decide(rare)
    density = hits / trials
    unsure = ~enough & (_lower_limit(hits, trials, 1 - CONFIDENCE) < rare)
    conditions = [(hits == 0) & enough, (hits > 0) & (density < rare) & enough, unsure, density > dense]
    return np.select(conditions, ["dead", "rare", "undecided", "dense"], "normal")


@dataclass(frozen=True)
class Wakes:
    """How many units that fired in no document are expected to fire if the documents were doubled."""

    expected: float
    """Between 0 and `n_dead`."""
    n_dead: int
    n_documents: int
    smoothing: int
    """k0: trials of the binomial that fades the terms out."""

    @property
    def words(self) -> str:
        """The statement with its smoothing, for captions."""
        return (
            f"of {self.n_dead} units that fired in none of {self.n_documents} documents, about {self.expected:.0f} are expected to "
            f"fire in as many further documents (Good-Toulmin, binomial smoothing over {self.smoothing} terms)"
        )


def expected_wakes(documents_fired: ArrayLike, n_documents: int) -> Wakes:
    """Smoothed Good-Toulmin for t = 1: sum over k of (-1)^(k+1) h_k P(Bin(k0, 1/2) >= k), clamped to [0, h_0].

    documents_fired [units], 0 to D; h_k = units that fired in exactly k documents. k0 = min(20, D // 2, at least 1): the plain
    alternating sum is exact on average but noisy, and units that fire nearly everywhere, k close to D, must not enter.
    Source: Good and Toulmin 1956; Efron and Thisted 1976 (binomial smoothing, success 1/(1 + t)).
    """
    from scipy.stats import binom

    fired = np.asarray(documents_fired, dtype=np.int64)
    if n_documents < 1 or fired.size == 0 or (fired < 0).any() or (fired > n_documents).any():
        raise ValueError(f"documents_fired must be between 0 and n_documents ({n_documents}) for at least one unit; check the counts.")
    h = np.bincount(fired.reshape(-1), minlength=n_documents + 1)
    k0 = max(1, min(20, n_documents // 2))
    k = np.arange(1, min(k0, n_documents) + 1)
    weights = np.where(k % 2 == 1, 1.0, -1.0) * binom.sf(k - 1, k0, 0.5)
    expected = float(np.clip((weights * h[k]).sum(), 0.0, h[0]))
    return Wakes(expected, int(h[0]), n_documents, k0)


@dataclass(frozen=True)
class MeanOverDocuments:
    """A ratio of sums over documents with its 95 % interval; None where one document allows none."""

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    n_documents: int
    note: str
    """Empty, or why the interval is missing or rough."""


def mean_over_documents(sums: ArrayLike, counts: ArrayLike) -> MeanOverDocuments:
    """sum_d y_d / sum_d n_d (the mean per token), from y_d and n_d per document [D]; documents with n_d = 0 are left out.

    Linearised standard error sqrt(D / (D - 1) sum_d (y_d - R n_d)^2) / sum_d n_d, t quantile with D - 1 degrees of freedom.
    Source: Cochran 1977, section 6.3.
    """
    from scipy.stats import t

    y, n = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    y, n = y[n > 0], n[n > 0]
    documents = len(n)
    if documents == 0:
        raise ValueError("a mean must be taken over at least one document with a token, got none; leave it out.")
    ratio = float(y.sum() / n.sum())
    if documents == 1:
        return MeanOverDocuments(ratio, None, None, None, 1, "no interval: one document only")
    error = math.sqrt(documents / (documents - 1) * float(((y - ratio * n) ** 2).sum())) / float(n.sum())
    reach = float(t.ppf((1 + CONFIDENCE) / 2, documents - 1)) * error
    note = "" if documents >= 30 else f"rough interval: {documents} documents, fewer than 30"
    return MeanOverDocuments(ratio, ratio - reach, ratio + reach, error, documents, note)
