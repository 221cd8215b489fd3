"""What `sparsity_plane` holds throughout a run: interventions, data splits, operating points; and the facts it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.levels import ADAPTIVE, COARSE, numbers
from analysis.sensitivity.choices import AUTO
from analysis.sensitivity.plane_asking import asked_for
from analysis.sensitivity.plane_rows import Placed
from analysis.sensitivity.sides import Side
from analysis.sensitivity.study import Study, asked_of, facts_of
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.sensitivity.plane import SparsityPlaneConfig as Settings

REPORT, CHOICE = "report", "choice"
LONG = 8192
"""Positions of the second operating point, where attention and keys and values weigh as much as the matrices."""
BESIDE = 1.6
"""About how much longer than a bare evaluation a level takes, as measured on SmolLM2 over the default set."""


@dataclass(frozen=True)
class Plan:
    """What is held throughout a run."""

    study: Study
    sides: tuple[Side, ...]
    """Report and choice."""
    asked: tuple[Placed, ...]
    """Everything that was named."""
    refused: Mapping[str, str]
    """By slug: why it does not suit, as far as its line in the catalogue says."""
    n_levels: int
    """Of a curve, about."""

    @property
    def placed(self) -> tuple[Placed, ...]:
        """What is tried on the model."""
        return tuple(one for one in self.asked if one.entry.slug not in self.refused)


def planned(config: Settings, subject: Any) -> Plan:
    """Everything that the settings ask for; every refusal comes before the first pass."""
    from analysis.interventions.scope import weight_scope

    check_contexts(config.contexts)
    placed, refused = asked_for(config.interventions, config.levels, config.seed, is_causal(subject))
    made = tuple(one.made for one in placed if one.entry.slug not in refused)
    (task, evaluation), (other, beside) = (asked_of(config, subject, split) for split in (REPORT, CHOICE))
    study = Study(config, subject, task, weight_scope(subject.model), evaluation, made)
    sides = (Side(REPORT, task, evaluation, config.seed), Side(CHOICE, other, beside, config.seed))
    n_levels = len(COARSE) + 4 if config.levels.strip() == ADAPTIVE else 1 + len(numbers(config.levels, "levels", 0.0, 1.0))
    return Plan(study, sides, placed, refused, n_levels)


def is_causal(subject: Any) -> bool:
    """Whether its tokens see no later ones."""
    from analysis.models.loading import CAUSAL

    return subject.task == CAUSAL


def contexts_of(text: str, dense: DenseCost, subject: Any) -> tuple[DenseCost, ...]:
    """The measured operating point, and longer ones by formula; none of those where examples are not tokens."""
    if dense.context == 1:
        return (dense,)
    if text.strip() == AUTO:
        longest = subject.facts.get("context_length") or LONG
        wanted = [min(LONG, int(longest))]
    else:
        wanted = [int(one) for one in numbers(text, "contexts", 1.0, 1e9)]
    return (dense, *(dense.stretched(context) for context in sorted(set(wanted) - {dense.context})))


def facts_of_plane(plan: Plan, eps: tuple[float, ...], dense: tuple[DenseCost, ...], seconds: float | None) -> dict[str, Any]:
    """For the provenance: what was measured and how, at which operating points, and about how long it will take."""
    report, choice = plan.sides
    found = facts_of(plan.study, report.baseline, eps, dense[0], report.dense_loss)
    found["contexts"] = [{"context": one.context, "words": one.words} for one in dense]
    found["loss_context"] = (
        f"The loss is measured at {dense[0].context:,} positions; at other lengths only the cost is counted, by formula."
    )
    found["choice"] = {
        "n_scored": int(choice.baseline.resample.counts.sum()), "n_documents": choice.baseline.resample.n_documents,
        "dense_loss": choice.dense_loss,
    }  # fmt: skip
    if seconds is not None:
        left = seconds * BESIDE * (plan.n_levels - 1) * len(plan.placed)
        found["estimate"] = (
            f"{len(plan.placed)} interventions at about {plan.n_levels - 1} levels: about {max(1, round(left / 60))} min, from the "
            f"{seconds:.1f} s that the dense model took."
        )
    return found


def check_contexts(text: str) -> None:
    """Raises `UserError` where further lengths are not whole numbers."""
    if text.strip() != AUTO and any(one != int(one) for one in numbers(text, "contexts", 1.0, 1e9)):
        raise UserError(f"contexts must be whole numbers of positions with commas between, got {text!r}; write for example 1024, 8192.")
