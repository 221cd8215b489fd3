"""From the settings people type to interventions, tolerances and metrics; every refusal is a sentence that names the setting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from analysis.interventions.levels import numbers
from analysis.spec import UnknownName, UserError

if TYPE_CHECKING:
    from analysis.interventions.metrics import Metric
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.weights.method import Ratio
    from analysis.tasks import Task

AUTO = "auto"
GROUPS = (AUTO, "global", "per_matrix", "per_row")
NATS = (0.01, 0.05, 0.1)
RELATIVE_ERROR = (0.05, 0.1, 0.2)
"""Of a divergence task on vectors: it has no nats, and thresholds of its own."""
NONE, UNIFORM = "none", "uniform"
"""No shares of their own, as the group has it; the level itself in each matrix."""
ONE_POINT = 0.01
"""One accuracy point, the tolerance of the essential sparsity paper."""


def words(text: str) -> list[str]:
    """The parts of a list as people type it, without repeats."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def prunings(
    methods: str, structures: str, group: str, include: str, only: str, seed: int, draws: int, *, ratios: str = NONE, variant: Any = "text"
) -> list[WeightPruning]:
    """One intervention per method, structure and ratio; of random and calibrated ones as many as there are draws, each with its own seed.

    ``ratios`` other than none share the level out among the matrices, so that auto is never global. Raises `UserError`.
    """
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.scope import GROUPS as SCOPE_GROUPS
    from analysis.interventions.structures import structure_of
    from analysis.interventions.weights.entries import usual_group

    wanted: Any = tuple(words(include))
    for name in wanted:
        if name not in SCOPE_GROUPS:
            raise UnknownName(f"include must be of {', '.join(SCOPE_GROUPS)}, got {name!r}; name some of them, or leave it empty.")
    found: list[WeightPruning] = []
    asked = product([_method(slug) for slug in words(methods)], [structure_of(slug) for slug in words(structures)], words(ratios))
    for method, shape, ratio in asked:
        competes: Any = group if group != AUTO else usual_group(method, shape)
        if ratio != NONE and group == AUTO and competes == "global":
            competes = "per_matrix"
        for own in range(seed, seed + draws):
            made = WeightPruning(method, shape, competes, ratio_of(ratio), own, variant, wanted, only)
            if made not in found and (own == seed or is_drawn(made)):
                found.append(made)
    if not found:
        given = f"{methods!r}, {structures!r} and {ratios!r}"
        raise UserError(f"methods, structures and ratios must name at least one each, got {given}; name some.")
    return found


def ratio_of(name: str) -> Ratio | None:
    """How the level is shared out among the matrices, by its word; None where each has the level itself. Raises `UnknownName`."""
    from analysis.interventions.ratios import RATIOS

    known: dict[str, Any] = {NONE: None, UNIFORM: None} | {ratio.slug: ratio for ratio in RATIOS}
    if name not in known:
        raise UnknownName(f"ratios must be of {', '.join(known)}, got {name!r}; separate several by commas.")
    return known[name]() if known[name] else None


def is_drawn(pruning: WeightPruning) -> bool:
    """Whether another seed, or another calibration sample, gives another curve."""
    return pruning.method.slug == "random" or bool(pruning.needs)


def _method(slug: str) -> Any:
    from analysis.interventions.weights import METHODS

    for method in METHODS:
        if method.slug == slug:
            return method()
    raise UnknownName(f"methods must be of {', '.join(m.slug for m in METHODS)}, got {slug!r}; separate several by commas.")


def tolerances(text: str, task: Task, dense_loss: float) -> tuple[float, ...]:
    """The tolerances, ascending, in the unit of the task's loss.

    ``auto``: 0.01, 0.05, 0.1 nats; of relative errors 0.05, 0.1, 0.2; of a loss that came with the model those shares of its dense value.
    """
    if text.strip() != AUTO:
        found = tuple(sorted(set(numbers(text, "eps", 0.0, 1e300))))
        if found[0] <= 0:
            raise UserError(f"eps must be above 0, got {text!r}; the usual tolerances are 0.01, 0.05, 0.1.")
        return found
    if task.unit == "relative error":
        return RELATIVE_ERROR
    if not task.knows_right and dense_loss != 0:
        return tuple(eps * abs(dense_loss) for eps in NATS)
    return NATS


def headline(eps: Sequence[float], hidden: Collection[float] = ()) -> float:
    """The tolerance that stands on the card: the middle one, or the smallest above it that noise does not hide on any curve."""
    ordered = sorted(eps)
    middle = len(ordered) // 2
    return next((one for one in ordered[middle:] if one not in hidden), ordered[middle])


def metrics(text: str, subject: Any) -> tuple[Metric, ...]:
    """The user's own metric, from two tokens or classes with a bar between; none where the text is empty."""
    from analysis.interventions.metrics import LogitDifference

    if not text:
        return ()
    parts = text.split("|")
    if len(parts) != 2:
        raise UserError(f"logits must be two tokens or classes with a bar between, got {text!r}; write for example ' yes| no' or 3|8.")
    one, other = (_number_of(part, subject) for part in parts)
    return (LogitDifference(one, other),)


def _number_of(part: str, subject: Any) -> int:
    if subject.tokenizer is None:
        if not part.strip().isdigit():
            raise UserError(f"logits must be numbers of classes where there is no tokenizer, got {part!r}; write for example 3|8.")
        return int(part)
    ids = subject.tokenizer(part, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UserError(f"logits must be two single tokens, got {part!r}, which is {len(ids)}; a word often needs a space before it.")
    return int(ids[0])
