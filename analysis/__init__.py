"""The registry: every analysis, in the order people meet them. This list is the table of contents."""

from __future__ import annotations

from analysis.spec import Analysis, UnknownName
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY

ANALYSES: tuple[Analysis, ...] = (WEIGHT_SPARSITY,)


def find_analysis(slug: str) -> Analysis:
    """The registered analysis of that slug."""
    for analysis in ANALYSES:
        if analysis.slug == slug:
            return analysis
    raise UnknownName(f"there is no analysis {slug!r}; the analyses are {', '.join(a.slug for a in ANALYSES)}.")
