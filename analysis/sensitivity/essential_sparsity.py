"""How much of the weights can go before the model notices?

1. Three disjoint splits of the documents: what a method needs is measured on calibration; every number comes from report.
2. The dense model is measured once; then every method at level after level, each a unit of work, on the same batches.
3. Paired differences by document, one bootstrap for all levels and methods; s*(eps) with its interval, or an honest "not reached".

Source: METHODS A1, SENSITIVITY sections 7 to 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.choices import AUTO, GROUPS, tolerances
from analysis.sensitivity.curve_figures import draw_curve, draw_decode, draw_prefill, draw_where, headlines
from analysis.sensitivity.study import Study, calibration_for, dense_cost_of, facts_of, noise_floor, told
from analysis.sensitivity.tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.sweep import Baseline, Point

UNIT = "measuring levels"
DENSE = "dense"
SPLITS = ("report", "all")
TASKS = (AUTO, "causal-lm", "masked-lm", "seq2seq", "classification", "divergence", "own")
_BYTES = 3 * 2**30 // 2
"""Beside the weights and their copy: logits of a batch, dense outputs, batches."""


@dataclass(frozen=True, kw_only=True)
class EssentialSparsityConfig:
    """Settings of `essential_sparsity`."""

    methods: str = setting("magnitude", help="How weights are chosen; several with commas, for example magnitude, random, wanda")
    structures: str = setting("unstructured", help="How the zeros lie; several with commas: unstructured, 2:4 (kept of), block 4x4, rows")
    group: str = setting(
        AUTO, help="Which weights compete; auto is global where scores of matrices compare, else per_matrix", choices=GROUPS
    )
    levels: str = setting("adaptive", help="Shares to remove, with commas; adaptive is a coarse grid and bisection at the tolerances")
    eps: str = setting(AUTO, help="Tolerances, with commas, in the unit of the loss; auto is 0.01, 0.05, 0.1 nats")
    resolution: float = setting(0.0125, help="Widest bracket around a drop point, of adaptive levels", ge=0.001, le=0.1)
    draws: int = setting(1, help="Seeds of random pruning, each a curve of its own; at least 5 for a headline", ge=1, le=100)
    include: str = setting("", help="Weights to take into the scope too: embeddings, head, routers, outside, other")
    only: str = setting("", help="Only parameters whose name holds this pattern")
    n_tokens: int = setting(
        16384, help="Tokens to read, a half of which is reported on; other examples count as a window", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits, masked tokens, draws, random pruning", ge=0, le=2**31 - 1)
    task: str = setting(AUTO, help="What the model is asked to do; auto chooses from the model and the data", choices=TASKS)
    split: str = setting("report", help="Documents to measure; all only where they are too few and nothing is calibrated", choices=SPLITS)
    kl_positions: int = setting(
        256, help="Positions on which KL to the dense model is measured too; 0 for none", unit="positions", ge=0, le=10**6
    )
    logits: str = setting("", help="Two tokens or classes with a bar between, whose logit difference is measured too")
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=1, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """Any model with inputs."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and essential_sparsity measures what pruning does to its outputs; give data with --data."
    return None


def memory(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> int:  # noqa: ARG001 - the contract of `Analysis.memory`
    """One copy of the weights in 32 bits, and what `_BYTES` is for."""
    return 4 * int(facts.get("n_parameters") or 0) + _BYTES


def run(config: EssentialSparsityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: those of a point with its unit, drop points at the end."""
    from analysis.interventions.sweep import Baseline, Curve, Point
    from analysis.sensitivity.curve_rows import curve_key, difference_rows, drop_rows, scope_rows

    study = Study.of(config, inputs["model"])
    known = {name: Point.of_arrays(state) for name, state in work.states(UNIT)}
    if DENSE in known and study.evaluation.needs_dense:
        study.evaluation.dense()  # outputs to compare with are not stored
    for _ in work.units([DENSE], UNIT, 1 + 14 * len(study.prunings)):
        known[DENSE] = Point(0.0, study.evaluation.dense(work.report))
        work.save_state(known[DENSE].arrays())
        yield "scope_tensors", scope_rows(study.scope)
    baseline = Baseline.of(known[DENSE].measured, config.seed)
    dense = float(known[DENSE].measured["loss"].total.sum() / known[DENSE].measured["loss"].n.sum())
    eps = tolerances(config.eps, study.task, dense)
    cost = dense_cost_of(study)
    work.facts |= facts_of(study, baseline, eps, cost, dense)
    for number, pruning in enumerate(study.prunings):
        yield from _measure(study, number, pruning, baseline, eps, cost, known, work)
    curves = [
        (curve_key(pruning), Curve.of([point for name, point in known.items() if name.startswith(f"{number}/")], baseline))
        for number, pruning in enumerate(study.prunings)
        if pruning.kind == "curve"
    ]
    work.facts["noise_floor"] = noise_floor(known, baseline)
    drops = drop_rows(curves, eps, study.task)
    work.facts["drops"] = told(drops)
    yield "drop_points", drops
    if len(curves) > 1:
        shown = next(one for one, is_shown in zip(drops["eps"], drops["is_headline"], strict=True) if is_shown)
        yield "drop_differences", difference_rows(curves, shown)


def _measure(
    study: Study, number: int, pruning: WeightPruning, baseline: Baseline, eps: tuple[float, ...], cost: DenseCost,
    known: dict[str, Point], work: Any,
) -> Iterator[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    """One curve, level by level; what an earlier session measured is not measured again."""
    from analysis.interventions.levels import COLLAPSED, Levels
    from analysis.interventions.sweep import sweep
    from analysis.sensitivity.curve_rows import curve_key, curve_label, loss_rows, point_rows, token_rows, where_rows

    config, key = study.config, curve_key(pruning)
    collapsed = {"relative error": 1.0}.get(study.task.unit, COLLAPSED if study.task.knows_right else 20 * max(eps))
    levels = Levels.of(config.levels, eps, config.resolution, collapsed)
    before = [point for name, point in known.items() if name.startswith(f"{number}/")]
    unit = partial(_unit, work, number, sum(name != DENSE for name in known) - len(before), len(study.prunings))
    with pruning.on(study.subject, calibration_for(study, pruning)) as held:
        work.facts["interventions"][curve_label(key)] = {name: value for name, value in held.facts.items() if name != "skipped"}
        dense = None if number == 0 else known[DENSE].measured  # level 0 is measured anew once, for the noise floor
        points = sweep(held, study.evaluation, baseline, levels, known=before, dense=dense, unit=unit, report=work.report)
        for point in points:
            known[f"{number}/{point.name}"] = point
            work.save_state(point.arrays())
            yield "curve_points", point_rows(key, pruning.kind, point, baseline, study.task, cost, study.units)
            yield "point_losses", loss_rows(key, point, baseline)
            yield "pruned_where", where_rows(key, point, study.places)
            yield "point_tokens", token_rows(key, point, baseline, study.task)


def _unit(work: Any, number: int, n_before: int, n_curves: int, name: str, expected: int) -> Iterator[str]:
    """The unit of one level; all curves to come are taken to be as long as this one."""
    return work.units([f"{number}/{name}"], UNIT, 1 + n_before + expected * (n_curves - number))


ESSENTIAL_SPARSITY = Analysis(
    slug="essential_sparsity",
    title="Essential sparsity",
    question="How much of the weights can go before the model notices?",
    version=1,
    kind="causal",
    sources=(
        Source(
            "The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter",
            "Jaiswal et al., NeurIPS 2023, arXiv 2306.03805: pruning",
            "C",
        ),
        Source("Drop point s*(eps), its interval and the choice of levels", "the running maximum of the paired loss increase", "O"),
        Source("Bootstrap Methods: Another Look at the Jackknife", "Efron, Annals of Statistics 1979", "K"),
    ),
    config=EssentialSparsityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("curve", "Loss over the share removed", "curve_points", draw_curve),
        Figure("where", "Where the removed weights sit", "pruned_where", draw_where),
        Figure("prefill", "Loss over FLOPs", "curve_points", draw_prefill),
        Figure("decode", "Loss over bytes per decoded token", "curve_points", draw_decode),
    ),
    needs=needs,
    memory=memory,
    headlines=headlines,
)
