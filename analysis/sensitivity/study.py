"""What a sweep holds throughout a run: task, scope, evaluation, interventions; and the facts it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from analysis.sensitivity.choices import metrics, prunings
from analysis.sensitivity.curve_figures import ONE_SHOT
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.measuring import Evaluation
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.scope import Scope
    from analysis.interventions.spec import Intervention
    from analysis.interventions.sweep import Baseline
    from analysis.sensitivity.essential_sparsity import EssentialSparsityConfig
    from analysis.tasks import Task

SHOWN = 4
"""Windows whose tokens are kept one by one."""


class Settings(Protocol):
    """What every sweep's config says."""

    @property
    def task(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch_tokens(self) -> int: ...


@dataclass(frozen=True)
class Study:
    """What is held throughout a run."""

    config: Settings
    subject: Any
    task: Task
    scope: Scope
    evaluation: Evaluation
    interventions: tuple[Intervention, ...]
    draws: int = 1
    """Of each calibrated intervention: above 1, each measures on a half of the calibration documents."""
    measures: Mapping[str, Any] = field(default_factory=dict)
    """What is measured beside the loss, as `Evaluation` takes it."""
    calibrations: dict[tuple[frozenset[str], int], Any] = field(default_factory=dict)
    """By what they hold and by draw: interventions with the same needs share one."""

    @classmethod
    def of(cls, config: EssentialSparsityConfig, subject: Any) -> Study:
        """Everything that the settings of a sweep over weights ask for; every refusal comes before the first pass."""
        from analysis.interventions.scope import weight_scope

        found = prunings(
            config.methods, config.structures, config.group, config.include, config.only, config.seed, config.draws,
            ratios=config.ratios, variant=config.variant,
        )  # fmt: skip
        _check_split(config, found)
        measures = {"kl_positions": config.kl_positions, "metrics": metrics(config.logits, subject), "shown": SHOWN}
        task, evaluation = asked_of(config, subject, config.split, **measures)
        scope = weight_scope(subject.model, include=found[0].include, only=config.only)
        return cls(config, subject, task, scope, evaluation, tuple(found), config.draws, measures)

    def asked_of(self, subject: Any) -> tuple[Task, Evaluation]:
        """The same questions on the data of another subject that shares the model."""
        return asked_of(self.config, subject, self.task.split, **self.measures)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each metric."""
        more = {metric.name: metric.unit for metric in self.measures.get("metrics", ())}
        return {"loss": self.task.unit, "accuracy": "share of positions", "kl": "nats per position (KL)"} | more

    @property
    def places(self) -> dict[str, tuple[int | None, str]]:
        """Layer and role of each member of the scope."""
        return {member.name: (member.layer, member.role) for member in self.scope.members}


def asked_of(config: Settings, subject: Any, split: str, **measures: Any) -> tuple[Task, Evaluation]:
    """The task on one split of a subject's data, and what measures it."""
    from analysis.interventions.measuring import Evaluation
    from analysis.tasks import choose_task

    task = choose_task(subject, config.task, split=split, seed=config.seed)
    return task, Evaluation(subject.model, task, task.batch_size(config.batch_tokens), seed=config.seed, **measures)


def _check_split(config: EssentialSparsityConfig, found: list[WeightPruning]) -> None:
    fitted = next((pruning for pruning in found if pruning.needs), None)
    if config.split != "report" and fitted is not None:
        with_what = fitted.method.slug if fitted.method.needs or fitted.ratio is None else fitted.ratio.slug
        raise UserError(f"split must be report where a method is calibrated, got {config.split!r} with {with_what}; give more documents.")


def calibration_for(study: Study, intervention: Intervention) -> Any:
    """What an intervention needs, measured on the calibration split, or on its draw of it; None where it needs nothing."""
    if not intervention.needs:
        return None
    from analysis.interventions.calibration import calibrate_on
    from analysis.tasks import choose_task

    config, several = study.config, study.draws > 1
    seed = getattr(intervention, "seed", config.seed) if several else config.seed
    key = (intervention.needs, seed)
    if key not in study.calibrations:
        if several:
            study.calibrations.clear()  # second moments are as large as the weights: one draw at a time
        task = choose_task(study.subject, config.task, split="calibration", seed=config.seed)
        task = half_of(task, seed) if several else task
        made = calibrate_on(study.subject.model, study.scope, task, config.batch_tokens, intervention.needs)
        made.facts["n_documents"] = len(set(task.data.document.tolist()))
        study.calibrations[key] = made
    return study.calibrations[key]


def half_of(task: Task, seed: int) -> Task:
    """One draw: the task on a random half of its documents, without repeats.

    Over draws, a half varies about as independent samples of the whole size do: (1 - 1/2) s^2 / (n/2) = s^2 / n (Cochran 1977,
    section 2.5). Raises `UserError` where there is no half.
    """
    from dataclasses import replace

    import numpy as np

    documents = np.unique(task.data.document)
    if len(documents) < 2:
        raise UserError(f"draws of a calibrated method must have at least 2 calibration documents, got {len(documents)}; set draws=1.")
    chosen = np.random.default_rng([len(documents), seed]).choice(documents, len(documents) // 2, replace=False)
    kept = np.flatnonzero(np.isin(task.data.document, chosen))
    return replace(task, data=task.data.only(kept), examples=task.examples[kept])


def dense_cost_of(study: Study) -> DenseCost:
    """Measured on the first example."""
    from dataclasses import replace

    import numpy as np

    from analysis.interventions.cost import dense_cost

    alone = replace(study.task, data=study.task.data.only(np.arange(1)), examples=study.task.examples[:1])
    batch = next(iter(alone.batches(1)))
    ids = batch.inputs.get("input_ids") if isinstance(batch.inputs, Mapping) else None
    context = study.task.tokens_per_example if ids is None else int(ids.shape[1])
    members = {member.name: member.parameter for member in study.scope.members}
    causal = "causal-lm" in (study.task.name, study.subject.task)
    return dense_cost(study.subject.model, batch.inputs, context, members, causal=causal)


def facts_of(study: Study, baseline: Baseline, eps: tuple[float, ...], cost: DenseCost, dense: float) -> dict[str, Any]:
    """For the provenance: what was measured, of what, and how."""
    n = int(baseline.resample.counts.sum())
    return study.task.facts | {
        "n_tokens": n,
        "n_scored": n,
        "denominator": study.scope.denominator,
        "tolerances": list(eps),
        "dense_loss": dense,
        "curves": [one.title for one in study.interventions],
        "fine_tuning": ONE_SHOT,
        "interventions": {},
        "cost": f"Cost at this operating point: {cost.words}.",
        "n_documents_measured": baseline.resample.n_documents,
        "intervals": baseline.resample.note or "over documents, bootstrap",
    }


def told(drops: Mapping[str, list[Any]], label: Callable[[Mapping[str, Any]], str]) -> list[dict[str, Any]]:
    """Drop points of the loss for the figures, which read one table each. label: of a curve, from its row."""
    names = ("eps", "answer", "level", "low", "high", "last_level", "words", "is_headline")
    rows = [dict(zip(drops, values, strict=True)) for values in zip(*drops.values(), strict=True)]
    return [{"curve": label(row)} | {name: row[name] for name in names} for row in rows if row["metric"] == "loss"]
