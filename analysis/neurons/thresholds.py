"""The table `neurons` with another meaning of active: |a| at or above a stored threshold, without a rerun.

    store = Store("results")
    run = store.find("...")
    store.read(run, "neurons", derive=at_threshold(run, 0.25), order_by=[Order("density", descending=True)])

`n_active`, `density` and `class` then count tokens with |a| >= threshold. Everything else stays as it was stored, the columns
about documents and intervals too: they keep the run's own meaning of active.
"""

from __future__ import annotations

from functools import cache

from analysis.neurons.tables import KEY
from analysis.spec import UserError
from analysis.stats.intervals import activity_class, tokens_to_decide
from store import Case, Derived, Filter, Lookup, Ratio, RunInfo

THRESHOLDS = tuple(2.0**e for e in range(-14, 7))
"""Those that `neuron_activity` stores, one per octave."""
REPLACED = ("n_active", "density", "class")
"""Columns of `neurons` that mean something else at a threshold."""


def at_threshold(run: RunInfo, threshold: float) -> tuple[Derived, ...]:
    """What `Store.read`, `count`, `groups` and `cells` are given as ``derive``, for a run of `neuron_activity`.

    threshold: one of `THRESHOLDS`, in units of the activation.
    """
    if threshold not in THRESHOLDS:
        raise UserError(f"threshold must be one of the stored powers of two, got {threshold!r}; use one from 2^-14 to 2^6.")
    counted = Lookup("neuron_densities", KEY, (("n_active", "n_active"),), (Filter("threshold", "=", threshold),))
    share = Ratio("density", "n_active", "n_tokens", f"Share of tokens with |a| >= {threshold:g}; unit: share of tokens; range: 0 to 1")
    return counted, share, class_of(float(run.config.get("rare", 1e-4)), float(run.config.get("dense", 0.5)))


@cache
def class_of(rare: float, dense: float) -> Case:
    """`activity_class` as conditions a database can check: the same labels, for n_active of n_tokens.

    Neurons that are dead by their weights stay dead. The rule's interval becomes "k firings in more than n_k tokens", where n_k is
    the largest n at which `activity_class` still tells; below `tokens_to_decide` tokens only a few k are in doubt.
    """
    enough = tokens_to_decide(rare)
    few = Filter("n_tokens", "<", enough)
    branches: list[tuple[tuple[Filter, ...], str]] = [
        ((Filter("static_class", "in", ("dead_in", "dead_out")),), "dead"),
        ((Filter("n_active", "=", None),), "undecided"),
        ((Filter("n_active", "=", 0), Filter("n_tokens", ">=", enough)), "dead"),
        ((Filter("density", "<", rare), Filter("n_tokens", ">=", enough)), "rare"),
        ((Filter("n_active", "=", 0), few), "undecided"),
    ]
    k = 1
    while (most := _most_tokens_to_tell(k, rare, dense, enough)) < enough - 1:
        branches.append(((Filter("n_active", "=", k), few, Filter("n_tokens", ">", most)), "undecided"))
        k += 1
    branches.append(((Filter("density", ">", dense),), "dense"))
    return Case(
        "class", tuple(branches), "normal", "dead, rare, undecided, normal or dense at this threshold (docs/decisions/0003-undecided.md)"
    )


def _most_tokens_to_tell(k: int, rare: float, dense: float, enough: int) -> int:
    """The largest n below ``enough`` at which k firings are not "undecided"; at least k - 1, which no unit reaches."""
    low, high = k - 1, enough - 1
    while low < high:
        middle = (low + high + 1) // 2
        undecided = activity_class([k], [middle], rare, dense)[0] == "undecided"
        low, high = (low, middle - 1) if undecided else (middle, high)
    return low
