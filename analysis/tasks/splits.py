"""Three disjoint splits of the data, by document: calibration, choice, report.

What is fitted (norms, thresholds, means) comes from calibration, what is picked from choice, every number shown from report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.spec import UnknownName, UserError

if TYPE_CHECKING:
    from analysis.models import Data

SHARES = {"calibration": 0.25, "choice": 0.25, "report": 0.5}
"""Of the documents."""
ALL = "all"
SPLITS = (*SHARES, ALL)
FEWEST = 4
"""Documents needed: one to calibrate on, one to choose by, and two to report with an interval."""


def split_documents(names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """For each split the documents in it, int64, sorted; each document is in exactly one.

    Documents are put in order of a hash of seed and name, so that a few more documents move few of the others, and cut at the shares
    of `SHARES`. Raises `UserError` where there are fewer than `FEWEST`.
    """
    n = len(names)
    if n < FEWEST:
        raise UserError(
            f"the data must hold at least {FEWEST} documents to be split into calibration, choice and report, got {n}; "
            "give more documents, or set split=all where nothing is fitted or chosen."
        )
    order = sorted(range(n), key=lambda i: (hashlib.blake2b(f"{seed} {names[i]}".encode(), digest_size=8).digest(), i))
    first = max(1, round(n * SHARES["calibration"]))
    second = first + max(1, round(n * SHARES["choice"]))
    parts = (order[:first], order[first:second], order[second:])
    return {split: np.sort(np.asarray(part, dtype=np.int64)) for split, part in zip(SHARES, parts)}


def split_windows(data: Data, split: str, seed: int) -> np.ndarray:
    """The windows of one split, int64, in order; every window for ``all``."""
    if split not in SPLITS:
        raise UnknownName(f"the split must be one of {', '.join(SPLITS)}, got {split!r}; name one of them.")
    if split == ALL:
        return np.arange(data.n_windows, dtype=np.int64)
    present = np.unique(data.document)
    chosen = split_documents([data.documents[i] for i in present], seed)[split]
    return np.flatnonzero(np.isin(data.document, present[chosen])).astype(np.int64)
