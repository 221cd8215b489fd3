"""Pruning of weights as lines of the catalogue: each method one by one, and what a kernel can use of the usual ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.interventions.entry import Entry, RunsOn
from analysis.interventions.weights import METHODS as WEIGHT_METHODS

if TYPE_CHECKING:
    from analysis.interventions.pruning import WeightPruning

LINES = {
    "magnitude": "Remove the weights that are smallest, wherever they are.",
    "random": "Remove weights at random: what any method must beat.",
    "lamp": "Remove the weights that are smallest beside what is larger in their own matrix.",
    "wanda": "In each row, remove the weights whose size times the norm of what they read is smallest.",
    "wanda-cumulative": "In each row, remove the weights that make up a share of the row's Wanda score.",
    "sparsegpt": "Remove weights of least reconstruction error and correct the others for it.",
    "dsnot": "Remove by Wanda, then swap weights in and out until the mean output of each row is kept.",
    "dsnot-magnitude": "Remove by magnitude, then swap weights in and out until the mean output of each row is kept.",
    "dsnot-sparsegpt": "Remove by SparseGPT, then swap weights in and out until the mean output of each row is kept.",
    "taylor": "Remove the weights whose size times gradient is smallest.",
    "taylor-squared": "Remove the weights whose size times gradient, squared and summed over examples, is smallest.",
    "obert": "Remove the weights whose loss by the inverse Fisher matrix is least.",
    "obert-update": "Remove the weights whose loss by the inverse Fisher matrix is least, and correct the others for it.",
}
"""One sentence for each method."""
USUAL = frozenset({"magnitude", "wanda", "magnitude-2-of-4", "wanda-2-of-4", "magnitude-block-16x16"})
"""Measured where no intervention is named: one without data, one with, and one for each kind of kernel."""
PATTERNS: tuple[tuple[str, str, RunsOn, str], ...] = (
    ("2-of-4", "2:4", "2 of 4", "Keep 2 of every 4 consecutive inputs, those of {}."),
    ("block-16x16", "block 16x16", "blocks", "Remove whole tiles of 16 x 16 weights, those of {}."),
)
"""Structures for which the usual methods have a line too: name, structure, kernel, sentence."""
PATTERNED = {"magnitude": "magnitude", "wanda": "size times the norm of what is read"}


def usual_group(method: Any, structure: Any) -> Any:
    """Which weights compete: all where scores of matrices compare; else the rows or the matrix, as the method's source has it."""
    if method.comparable and not method.updates:
        return "global"
    if method.updates:
        return method.own_group
    return "per_row" if method.by_row and structure.is_unstructured else "per_matrix"


def _make(slug: str, structure: str, seed: int) -> WeightPruning:
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.structures import structure_of

    method = next(one for one in WEIGHT_METHODS if one.slug == slug)()
    shape = structure_of(structure)
    return WeightPruning(method, shape, usual_group(method, shape), seed=seed)


def _entries() -> tuple[Entry, ...]:
    found = []
    for method in WEIGHT_METHODS:
        found.append((method, method.slug, "unstructured", "nothing", LINES[method.slug]))
        if method.slug in PATTERNED:
            best = {"2-of-4": "largest", "block-16x16": "smallest"}
            found += [
                (method, f"{method.slug}-{name}", structure, runs_on, words.format(f"{best[name]} {PATTERNED[method.slug]}"))
                for name, structure, runs_on, words in PATTERNS
            ]
    return tuple(
        Entry(slug, line, "weights", runs_on, partial(_make, method.slug, structure), method.sources, default=slug in USUAL)
        for method, slug, structure, runs_on, line in found
    )


ENTRIES = _entries()
"""In the order they are offered."""
