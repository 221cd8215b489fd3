"""Which interventions the playground offers, which are too slow for it and why. Loads no torch: a page lists them.

What needs calibration is measured on a small text first (`CALIBRATION_TOKENS` tokens of the Python docs), once per live model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.interventions.catalogue import INTERVENTIONS, find_intervention
from analysis.interventions.spec import Target

CALIBRATION_TOKENS, CALIBRATION_WINDOW = 512, 64
CALIBRATION_DATA = "python-docs"
_GRADIENTS = "it keeps a gradient of every weight, or more, which takes as much memory as the model again"
_SOLVES = "it solves for, or swaps weights in, every matrix, which takes minutes"
_ALONE = "it measures each unit alone, a pass over the calibration text for every one of them"
NOT_HERE: Mapping[str, str] = {
    "sparsegpt": _SOLVES, "dsnot": _SOLVES, "dsnot-magnitude": _SOLVES, "dsnot-sparsegpt": _SOLVES,
    "taylor": _GRADIENTS, "taylor-squared": _GRADIENTS, "obert": _GRADIENTS, "obert-update": _GRADIENTS,
    "contextual-predicted": "it trains a predictor for every FFN first",
    "teal-greedy": "it tries many thresholds for every matrix first",
    "griffin": "it needs a prompt apart from what follows, and here every token is both",
    "conv-channels": "it acts on images",
    "minference": "it compares patterns for every head on long texts first",
    "moa": "it takes a gradient through every attention pattern first",
    "attention-sublayers": _ALONE, "ffn-sublayers": _ALONE, "blocks-loss": _ALONE,
    "matrix-rank": "it takes every matrix apart (SVD), which takes minutes",
    "stream-dimensions": "it turns every matrix, which takes minutes",
    "branch-scaling": "it learns a score for every block first",
}  # fmt: skip
"""By slug the reason; sensitivity runs measure all of them."""
UNFIT = frozenset({"griffin", "conv-channels"})
"""Those of them that nothing can be asked of with one prompt, however long it may take: jobs of `prompt_effect` leave out these alone."""
POINTS = frozenset({"magnitude-2-of-4", "wanda-2-of-4", "relu", "dead-neurons"})
"""Switched on or off: they have no other levels."""
CALIBRATED = frozenset({
    "wanda", "wanda-2-of-4", "wanda-block-16x16", "wanda-cumulative", "ffn-threshold", "cats", "chess", "teal", "cett", "dead-neurons",
    "hidden-dimensions", "delta", "attention-threshold", "double-sparsity", "heads", "heads-mean", "ffn-neurons", "blocks",
    "blocks-michel",
})  # fmt: skip
"""Those that learn something from the calibration text; attention methods that only look for attention on it are not among them."""


@dataclass(frozen=True)
class Offer:
    """One intervention, as the playground tells of it."""

    slug: str
    line: str
    """What it does, in a sentence."""
    target: Target
    needs_causal: bool | None
    not_here: str = ""
    """Why it cannot be had here; empty where it can."""

    @property
    def is_point(self) -> bool:
        """Whether it has one level beside the dense model."""
        return self.slug in POINTS

    @property
    def is_calibrated(self) -> bool:
        """Whether it looks at the calibration text first."""
        return self.slug in CALIBRATED


def offers() -> tuple[Offer, ...]:
    """The whole catalogue, in its order."""
    return tuple(offered(entry.slug) for entry in INTERVENTIONS)


def offered(slug: str) -> Offer:
    """One intervention. Raises `UnknownName`."""
    entry = find_intervention(slug)
    return Offer(entry.slug, entry.line, entry.target, entry.needs_causal, NOT_HERE.get(slug, ""))
