"""What does each kind of sparsity buy, on one pair of axes: what it costs to run, and what it does to the loss?

1. Weights, activations, attention, structure and tokens: every intervention of the catalogue that suits the model, at the same levels.
2. What an intervention needs is measured on the calibration documents; fronts are picked on the choice documents; every number shown is
   from the report documents, against one dense baseline and with the same bootstrap draws.
3. What a level costs (FLOPs of a pass, bytes per decoded token, bytes held) follows from what was counted while it ran, at the length
   the loss was measured at and, by formula, at a longer one.

Source: SENSITIVITY, Cost; the definitions are those of each intervention (`describe NAME`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.cells import Cells
from analysis.sensitivity.choices import AUTO, tolerances
from analysis.sensitivity.essential_sparsity import TASKS, memory
from analysis.sensitivity.plane_figures import FIGURES, headlines
from analysis.sensitivity.plane_tables import TABLES
from analysis.sensitivity.sweeping import levels_of, measure_dense, measure_levels, read_back
from analysis.spec import Analysis, Source, UserError, setting

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.levels import Levels
    from analysis.sensitivity.plane_rows import Placed
    from analysis.sensitivity.planning import Plan
    from analysis.sensitivity.sides import Side
    from analysis.sensitivity.study import Study


@dataclass(frozen=True, kw_only=True)
class SparsityPlaneConfig:
    """Settings of `sparsity_plane`."""

    interventions: str = setting(
        "default",
        help="Names from list --interventions, with commas; default is a usual set over all targets, all is every one of them; "
        "name@0.3 is that level only, one + other a grid of both at once, one + other@0.3 a row of it",
    )
    levels: str = setting(
        "0.1, 0.3, 0.5, 0.7, 0.9",
        help="Shares to remove, with commas, no further once the loss has collapsed; adaptive bisects at the tolerances, too",
    )
    eps: str = setting(AUTO, help="Tolerances, with commas, in the unit of the loss; auto is 0.01, 0.05, 0.1 nats")
    contexts: str = setting(
        AUTO,
        help="Further lengths to count costs at, with commas; auto is 8192, or the longest the model takes; the loss is not measured there",
    )
    n_tokens: int = setting(
        4096, help="Tokens to read: a half is reported on, a quarter fits, a quarter picks; other examples count as a window",
        unit="tokens", ge=1, le=10**9,
    )  # fmt: skip
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits, masked tokens, random pruning", ge=0, le=2**31 - 1)
    task: str = setting(AUTO, help="What the model is asked to do; auto chooses from the model and the data", choices=TASKS)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=1, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """Any model with inputs."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and sparsity_plane measures what interventions do to its outputs; give data with --data."
    return None


def run(config: SparsityPlaneConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: those of a point with its unit; drop points, fronts and what was left out at the end."""
    from analysis.sensitivity.plane_rows import list_rows, refused_rows
    from analysis.sensitivity.planning import contexts_of, facts_of_plane, planned
    from analysis.sensitivity.study import dense_cost_of

    plan = planned(config, inputs["model"])
    study, sides = plan.study, plan.sides
    read_back(sides, work)
    began = time.monotonic()
    for _ in measure_dense(sides, 1 + plan.n_levels * len(plan.placed), work):
        work.facts["dense_seconds"] = round(time.monotonic() - began, 2)
    eps = tolerances(config.eps, study.task, sides[0].dense_loss)
    dense = contexts_of(config.contexts, dense_cost_of(study), study.subject)
    work.facts |= facts_of_plane(plan, eps, dense, work.facts.get("dense_seconds"))
    levels = levels_of(config.levels, eps, 0.0125, study.task, stops=True)
    refused = dict(plan.refused)
    for number in range(len(plan.placed)):
        yield from _measure(plan, number, levels, dense, refused, work)
        later = {one.made.needs for one in plan.placed[number + 1 :]}
        for key in [key for key in study.calibrations if key[0] not in later]:
            del study.calibrations[key]  # second moments are as large as the weights
    if plan.placed[0].parts is None:
        work.facts["noise_floor"] = sides[0].noise_floor
    yield from _conclude(plan.placed, sides, refused, eps, dense, study, work)
    yield "interventions", list_rows(plan.asked, refused)
    yield "not_applicable", refused_rows(plan.asked, refused)


@contextmanager
def cells(config: SparsityPlaneConfig, inputs: Mapping[str, Any]) -> Iterator[Cells]:
    """A level of one of the interventions, on report and choice."""
    from analysis.sensitivity.planning import planned

    plan = planned(config, inputs["model"])
    with Cells(plan.study, plan.sides, plan.study.interventions) as found:
        yield found


def _measure(
    plan: Plan, number: int, levels: Levels, dense: tuple[DenseCost, ...], refused: dict[str, str], work: Any
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One intervention; where it does not suit the model, that is written down instead."""
    from analysis.sensitivity.curve_rows import loss_rows
    from analysis.sensitivity.plane_rows import choice_rows, cost_rows, plane_point_rows
    from analysis.sensitivity.study import calibration_for

    study, sides, placed = plan.study, plan.sides, plan.placed[number]
    report, choice = sides
    slug = placed.entry.slug
    with ExitStack() as stack:
        try:
            calibration = calibration_for(study, placed.made)
            held = stack.enter_context(placed.made.on(study.subject, calibration))
        except UserError as error:
            refused[slug] = str(error)
            return
        told_of = {name: value for name, value in held.facts.items() if name != "skipped"}
        told_of |= {} if calibration is None else {"calibration": calibration.facts}
        work.facts["interventions"][slug] = told_of
        anew = number == 0 or placed.parts is not None  # for the noise floor, and where level 0 is not the dense model
        coming = [(i, _levels_of(one, levels)) for i, one in enumerate(plan.placed) if i > number and one.made.kind == "curve"]
        own, n = _levels_of(placed, levels), len(plan.placed)
        for found in measure_levels(sides, 1, held, own, number, n, work, anew=anew, coming=coming):
            point = found[report.name]
            yield "curve_points", plane_point_rows(placed, point, report.baseline, report.task, dense[0], study.units)
            yield "point_losses", loss_rows(placed.key, point, report.baseline)
            yield "plane_costs", cost_rows(placed, point, report.baseline, dense)
            yield "choice_points", choice_rows(placed, found[choice.name], choice.baseline)


def _levels_of(placed: Placed, levels: Levels) -> Levels:
    """Its own, where it was named with some."""
    from analysis.interventions.levels import Levels

    return levels if placed.levels is None else Levels(levels.tolerances, (0.0, *placed.levels))


def _conclude(
    placed: tuple[Placed, ...], sides: tuple[Side, ...], refused: Mapping[str, str], eps: tuple[float, ...],
    dense: tuple[DenseCost, ...], study: Study, work: Any,
) -> Iterator[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    """Drop points of what has levels in between, and the fronts of everything."""
    from analysis.interventions.sweep import Curve
    from analysis.sensitivity.drop_rows import NamedCurve, drop_rows
    from analysis.sensitivity.plane_rows import combination_rows, drop_rows_of, front_rows
    from analysis.sensitivity.study import told

    report, choice = sides
    measured = {number: one for number, one in enumerate(placed) if one.entry.slug not in refused}
    curves = [
        NamedCurve(one.key, Curve.of(report.points(number), report.baseline))
        for number, one in measured.items() if one.made.kind == "curve" and one.levels is None and one.parts is None
    ]  # fmt: skip
    drops = drop_rows(curves, eps, study.task)
    work.facts["drops"] = told(drops, lambda row: row["method"])
    yield "drop_points", drop_rows_of(drops, {one.entry.slug: one for one in placed})
    pairs = []
    for number, one in measured.items():
        chosen = {point.level: point for point in choice.points(number)}
        pairs += [(one, point, chosen[point.level]) for point in report.points(number)]
    fronts = front_rows(pairs, report.baseline, choice.baseline, dense)
    names = ("context", "phase", "batch", "runs_on", "method", "level")
    work.facts["fronts"] = [dict(zip(names, row, strict=True)) for row in zip(*(fronts[name] for name in names), strict=True)]
    yield "fronts", fronts
    yield "combinations", combination_rows([(one, point) for one, point, _ in pairs], report.baseline)


SPARSITY_PLANE = Analysis(
    slug="sparsity_plane",
    title="Sparsity plane",
    question="What does each kind of sparsity cost the loss, and what does it save?",
    version=2,
    kind="causal",
    sources=(
        Source("Cost of a level and fronts by what can execute them", "FLOPs and bytes at printed operating points (SENSITIVITY)", "O"),
        Source("Drop point s*(eps), its interval and the choice of levels", "the running maximum of the paired loss increase", "O"),
    ),
    config=SparsityPlaneConfig,
    tables=TABLES,
    run=run,
    figures=FIGURES,
    needs=needs,
    memory=memory,
    cells=cells,
    headlines=headlines,
)
