"""How should a level be shared out among the matrices, and what does that cost?

1. From a sealed `matrix_sensitivity` run (``--with run=ID``): the curve of each matrix alone.
2. Shares per matrix that reach each overall level at the least predicted loss.
3. The measured curve of that allocation, beside uniform, ERK, OWL and global, on documents that the grid did not see.

The masks and the pruned model come out with ``python -m analysis export-masks`` and ``export-model``. Source: ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.given_run import RUN
from analysis.sensitivity.allocation_figures import draw_outcomes, draw_shares
from analysis.sensitivity.allocation_tables import TABLES
from analysis.sensitivity.curve_figures import ONE_SHOT, draw_curve
from analysis.sensitivity.essential_sparsity import memory
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.sweep import Baseline, Point
    from analysis.sensitivity.study import Study

UNIT, DENSE = "measuring levels", "dense"


@dataclass(frozen=True, kw_only=True)
class AllocationConfig:
    """Settings of `allocation`."""

    levels: str = setting("0.2, 0.3, 0.4, 0.5, 0.6", help="Overall shares to remove, with commas; at most what the run measured")
    others: str = setting(
        "uniform, erk, owl, global", help="What to compare with, with commas: uniform, global, and the ratios of essential_sparsity"
    )
    by: str = setting(
        "mean", help="What is made least: the mean increase, or the upper end of its interval (cautious)", choices=("mean", "upper")
    )
    n_tokens: int = setting(
        4096, help="Tokens to read; as in the run, so that its documents can be kept apart", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window; as in the run", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice; as in the run", ge=0, le=2**31 - 1)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=1, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """Any model with inputs."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and allocation measures what pruning does to its outputs; give data with --data."
    return None


def run(config: AllocationConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: shares first, those of a point with its unit, differences at the end."""
    from analysis.interventions.sweep import Baseline, Curve, Point
    from analysis.sensitivity.allocating import check_seed, measured_curves, outcome_rows, share_rows, study_of, targets
    from analysis.sensitivity.curve_rows import scope_rows
    from analysis.sensitivity.study import dense_cost_of, facts_of

    given = inputs[RUN]
    check_seed(config, given)
    study, named = study_of(config, inputs["model"], given)
    curves = measured_curves(given, config.by)
    levels = targets(config.levels, study.scope, curves)
    shares, predicted = share_rows(study.scope, curves, levels)
    known = {name: Point.of_arrays(state) for name, state in work.states(UNIT)}
    if DENSE in known and study.evaluation.needs_dense:
        study.evaluation.dense()  # outputs to compare with are not stored
    expected = 1 + len(named) * (1 + len(levels))
    for _ in work.units([DENSE], UNIT, expected):
        known[DENSE] = Point(0.0, study.evaluation.dense(work.report))
        work.save_state(known[DENSE].arrays())
        yield "scope_tensors", scope_rows(study.scope)
        yield "allocation", shares
    baseline = Baseline.of(known[DENSE].measured, config.seed)
    losses, cost = known[DENSE].measured["loss"], dense_cost_of(study)
    work.facts |= facts_of(study, baseline, (), cost, float(losses.total.sum() / losses.n.sum()))
    work.facts |= {"given_run": given.id, "chosen_on": given.provenance["config"]["split"], "fine_tuning": ONE_SHOT, "left_out": []}
    for name, pruning in named.items():
        yield from _measure(study, name, pruning, baseline, levels, cost, known, expected, work)
    found = {name: Curve.of([p for unit, p in known.items() if unit.startswith(f"{name}/")], baseline) for name in named}
    yield "allocation_outcomes", outcome_rows(found, baseline, predicted, study.task.split, study.task.unit)


def _measure(
    study: Study, name: str, pruning: WeightPruning, baseline: Baseline, levels: tuple[float, ...], cost: Any,
    known: dict[str, Point], expected: int, work: Any,
) -> Iterator[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    """One curve, level by level; a level that its shares cannot reach is left out, and that is said."""
    from analysis.interventions.levels import Levels
    from analysis.interventions.sweep import sweep
    from analysis.sensitivity.curve_rows import curve_key, curve_label, loss_rows, point_rows, where_rows
    from analysis.sensitivity.study import calibration_for
    from analysis.sensitivity.sweeping import possible

    key = curve_key(pruning)
    before = [point for unit, point in known.items() if unit.startswith(f"{name}/")]
    with pruning.on(study.subject, calibration_for(study, pruning)) as held:
        work.facts["interventions"][curve_label(key)] = {fact: value for fact, value in held.facts.items() if fact != "skipped"}
        reached = possible(held, levels, curve_label(key), work)
        unit = partial(_unit, work, name, expected)
        dense = known[DENSE].measured
        for point in sweep(
            held, study.evaluation, baseline, Levels((), (0.0, *reached)), known=before, dense=dense, unit=unit, report=work.report
        ):
            known[f"{name}/{point.name}"] = point
            work.save_state(point.arrays())
            yield "curve_points", point_rows(key, pruning.kind, point, baseline, study.task, cost, study.units)
            yield "point_losses", loss_rows(key, point, baseline)
            yield "pruned_where", where_rows(key, point, study.places)


def _unit(work: Any, curve: str, expected: int, name: str, _: int) -> Iterator[str]:
    return work.units([f"{curve}/{name}"], UNIT, expected)


ALLOCATION = Analysis(
    slug="allocation",
    title="Allocation",
    question="How should a level be shared out among the matrices, and what does that cost?",
    version=2,
    kind="causal",
    sources=(
        Source("Allocation by measured sensitivity", "greedy over lower convex hulls of per-matrix curves", "O"),
        Source("Rigging the Lottery", "Evci et al., ICML 2020: ERK", "C"),
        Source("Outlier Weighed Layerwise Sparsity (OWL)", "Yin et al., ICML 2024, arXiv 2310.05175", "C"),
    ),
    config=AllocationConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("curve", "Loss over the share removed", "curve_points", draw_curve),
        Figure("shares", "Share of each matrix", "allocation", draw_shares),
        Figure("outcomes", "The allocation beside others", "allocation_outcomes", draw_outcomes),
    ),
    needs=needs,
    inputs=("model", RUN),
    memory=memory,
)
