"""Curves of different runs, compared by the interval of their difference where both were measured on the same documents.

1. The losses of every document are stored, so that the same draws of documents can be taken for both: noise that both share cancels.
2. s* of one minus s* of the other, draw by draw; and the losses' difference at a level that both measured.

Intervals of two curves may overlap though their difference is resolved, so it is the difference that is to be looked at. Source: ours;
SENSITIVITY section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.drops import drop_difference, drop_draws
from analysis.stats.paired import Resample, difference

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DocumentLosses:
    """One curve, document by document."""

    levels: Floats
    """[levels], ascending."""
    documents: NDArray[np.int64]
    """[documents], ascending: those with a scored position."""
    counts: Floats
    """[documents]: positions scored."""
    increase: Floats
    """[levels, documents]: loss minus dense loss, summed over the positions; infinite where the loss is infinite or no number."""

    @classmethod
    def of_rows(cls, rows: Any) -> DocumentLosses:
        """From the rows of one curve in `point_losses` (a data frame)."""
        rows = rows[rows["n"] > 0]
        wide = rows.assign(increase=(rows["loss_sum"] - rows["dense_sum"]).fillna(np.inf)).pivot(
            index="level", columns="document", values="increase"
        )
        counts = rows.groupby("document")["n"].first().to_numpy(np.float64)
        return cls(wide.index.to_numpy(np.float64), wide.columns.to_numpy(np.int64), counts, wide.to_numpy(np.float64))

    def is_on_the_documents_of(self, other: DocumentLosses) -> bool:
        """Whether both were scored at as many positions of the same documents."""
        return np.array_equal(self.documents, other.documents) and np.array_equal(self.counts, other.counts)

    def at(self, level: float) -> Floats:
        """The increase at a measured level [documents]."""
        return self.increase[int(np.searchsorted(self.levels, level))]


@dataclass(frozen=True)
class Gap:
    """One minus the other, with its 95 % interval; numbers are None where there are none, and the words say why."""

    value: float | None
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Compared:
    """Two curves on the same documents."""

    drop: Gap
    """s* of one minus s* of the other, shares of the scope."""
    level: float | None
    """Where both were measured; None where they have no level in common."""
    loss: Gap
    """Mean loss of one minus the other at that level (each above its own dense model), per position."""


def compare(one: DocumentLosses, other: DocumentLosses, eps: float, seed: int = 0) -> Compared:
    """Both on the same draws of their documents. Raises ``ValueError`` where the documents are not the same."""
    if not one.is_on_the_documents_of(other):
        raise ValueError("curves can be paired only on the same documents; compare their intervals instead.")
    resample = Resample.of(one.counts, seed)
    if resample.n_documents == 1:
        alone = Gap(None, None, None, "no interval: one document")
        return Compared(alone, None, alone)
    draws = [drop_draws(curve.levels, resample.means(curve.increase), eps) for curve in (one, other)]
    gap = drop_difference(draws[0], draws[1])
    drop = Gap(None, None, None, gap) if isinstance(gap, str) else Gap(gap.value, gap.low, gap.high, _told(gap.low, gap.high))
    middle = float(np.median(np.concatenate([levels for levels, _ in draws])))
    shared = sorted(set(one.levels.tolist()) & set(other.levels.tolist()) - {0.0}, key=lambda level: abs(level - middle))
    level = next((at for at in shared if np.isfinite(one.at(at)).all() and np.isfinite(other.at(at)).all()), None)
    if level is None:
        return Compared(drop, None, Gap(None, None, None, "no level in common at which both losses are finite"))
    found = difference(resample, one.at(level), other.at(level))
    return Compared(drop, level, Gap(found.value, found.low, found.high, _told(found.low, found.high)))


def _told(low: float, high: float) -> str:
    """Whether an interval tells the two apart."""
    return "cannot be told apart" if low <= 0 <= high else "told apart"
