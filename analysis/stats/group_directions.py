"""Groups of weights along one axis of a matrix, by pattern: how many conform, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.stats.patterns import PATTERNS, Conformance, Offender, conformance, lost_squares


@dataclass
class Direction:
    """Groups along one axis: by pattern, how many conform, and the squares lost."""

    conforming: dict[tuple[int, int], Conformance] = field(default_factory=dict)
    lost: dict[tuple[int, int], float] = field(default_factory=dict)

    def add(self, matrix: NDArray[np.float32], line: int, eights: int) -> None:
        """Take in lines of fewer than 8 weights, [lines, fewer], from ``line`` on, which follow ``eights`` groups of 8."""
        for keep, of in PATTERNS:
            if of > matrix.shape[1]:
                continue
            new, old = conformance(matrix, keep, of), self.conforming.get((keep, of))
            first = new.first and Offender(new.first.line + line, new.first.group + eights * (8 // of), new.first.nonzeros)
            if old is not None:
                first = old.first or first
                new = Conformance(old.n_groups + new.n_groups, old.n_conforming + new.n_conforming, old.n_empty + new.n_empty, 0, None)
            self.conforming[keep, of] = new._replace(first=first)
            self.lost[keep, of] = self.lost.get((keep, of), 0.0) + lost_squares(matrix, keep, of)
