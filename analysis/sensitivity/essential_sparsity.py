"""How much of the weights can go before the model notices?

1. Three disjoint splits of the documents: what a method needs is measured on calibration; every number comes from report.
2. The dense model is measured once; then every method at level after level, each a unit of work, on the same batches.
3. Paired differences by document, one bootstrap for all levels and methods; s*(eps) with its interval, or an honest "not reached".

Source: METHODS A1, SENSITIVITY sections 7 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.second_data import SECOND
from analysis.sensitivity.choices import AUTO, GROUPS, is_drawn, tolerances
from analysis.sensitivity.curve_figures import draw_curve, draw_decode, draw_prefill, draw_where, headlines
from analysis.sensitivity.sides import DENSE, Side, facts_of_second, packed, sides_of, unpacked
from analysis.sensitivity.study import Study, calibration_for, dense_cost_of, facts_of, told
from analysis.sensitivity.tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.sweep import Point

UNIT = "measuring levels"
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
    draws: int = setting(
        1,
        help="Curves of each random or calibrated method: seeds, or halves of the calibration documents; at least 5 for a headline",
        ge=1,
        le=100,
    )
    include: str = setting("", help="Weights to take into the scope too: embeddings, head, routers, outside, other")
    only: str = setting("", help="Only parameters whose name holds this pattern")
    n_tokens: int = setting(
        16384, help="Tokens to read, a half of which is reported on; other examples count as a window", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits, masked tokens, draws, random pruning", ge=0, le=2**31 - 1)
    second_data: str = setting(
        "", help="Further data, as DATA, measured at the same levels: retain and forget, in and out of domain; may be empty"
    )
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


def memory(settings: Any, facts: Mapping[str, Any]) -> int:
    """One copy of the weights in 32 bits, and what `_BYTES` is for, of each data set."""
    return 4 * int(facts.get("n_parameters") or 0) + _BYTES * (2 if getattr(settings, SECOND, "") else 1)


def run(config: EssentialSparsityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: those of a point with its unit, drop points at the end."""
    from analysis.interventions.sweep import Curve, Point
    from analysis.sensitivity.curve_rows import curve_key, scope_rows
    from analysis.sensitivity.drop_rows import NamedCurve, difference_rows, drop_rows

    study = Study.of(config, inputs["model"])
    sides = sides_of(study, inputs.get(SECOND))
    _read_back(sides, work)
    for _ in work.units([DENSE], UNIT, 1 + 14 * len(study.prunings)):
        for i, side in enumerate(sides):
            side.known[DENSE] = Point(0.0, side.evaluation.dense(_part(work, i, len(sides))))
        work.save_state(packed({side.name: side.known[DENSE] for side in sides}))
        yield "scope_tensors", scope_rows(study.scope)
    first = sides[0]
    eps, cost = tolerances(config.eps, study.task, first.dense_loss), dense_cost_of(study)
    work.facts |= facts_of(study, first.baseline, eps, cost, first.dense_loss)
    for number, pruning in enumerate(study.prunings):
        yield from _measure(study, sides, number, pruning, eps, cost, work)
    work.facts["noise_floor"] = first.noise_floor
    for side in sides[1:]:
        work.facts[SECOND] = facts_of_second(side, inputs[SECOND].data)
    curves = [
        NamedCurve(curve_key(pruning, side.name), Curve.of(side.points(number), side.baseline), is_drawn(pruning))
        for side in sides
        for number, pruning in enumerate(study.prunings)
        if pruning.kind == "curve"
    ]
    drops = drop_rows(curves, eps, study.task)
    work.facts["drops"] = told(drops)
    yield "drop_points", drops
    if len(curves) > 1:
        shown = next(one for one, is_shown in zip(drops["eps"], drops["is_headline"], strict=True) if is_shown)
        yield "drop_differences", difference_rows(curves, shown)


def _read_back(sides: tuple[Side, ...], work: Any) -> None:
    """What earlier sessions measured; outputs of the dense model are not stored, so where they are compared with, they are made anew."""
    by_name = {side.name: side for side in sides}
    for unit, state in work.states(UNIT):
        for name, point in unpacked(state):
            by_name[name].known[unit] = point
    for side in sides:
        if DENSE in side.known and side.evaluation.needs_dense:
            side.evaluation.dense()


def _part(work: Any, i: int, n: int) -> Callable[[float], None]:
    """Progress inside of a unit that has n equal parts."""
    return lambda share: work.report((i + share) / n)


def _measure(
    study: Study, sides: tuple[Side, ...], number: int, pruning: WeightPruning, eps: tuple[float, ...], cost: DenseCost, work: Any
) -> Iterator[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    """One pruning, level by level, each applied once for all data; then the levels that only the second data ask for.

    The first data choose their levels as if they were alone, so that their numbers are the same with and without others. What an
    earlier session measured is not measured again.
    """
    from analysis.interventions.levels import COLLAPSED, Levels
    from analysis.interventions.sweep import sweep
    from analysis.sensitivity.curve_rows import curve_key, curve_label

    config = study.config
    collapsed = {"relative error": 1.0}.get(study.task.unit, COLLAPSED if study.task.knows_right else 20 * max(eps))
    levels = Levels.of(config.levels, eps, config.resolution, collapsed)
    names = {name for side in sides for name in side.known if name != DENSE}
    earlier = sum(not name.startswith(f"{number}/") for name in names)
    unit = partial(_unit, work, number, earlier, len(study.prunings))
    again = number == 0  # level 0 is measured anew once, for the noise floor
    calibration = calibration_for(study, pruning)
    with pruning.on(study.subject, calibration) as held:
        told_of = {name: value for name, value in held.facts.items() if name != "skipped"}
        told_of |= {} if calibration is None else {"calibration": calibration.facts}
        work.facts["interventions"][curve_label(curve_key(pruning))] = told_of
        for i, side in enumerate(sides):
            here = sides[i:]
            dense = None if again else side.known[DENSE].measured
            report = _part(work, 0, len(here))
            for point in sweep(
                held, side.evaluation, side.baseline, levels, known=side.points(number), dense=dense, unit=unit, report=report
            ):
                found = {side.name: point}
                for k, other in enumerate(here[1:], 1):
                    found[other.name] = other.beside(point, point.level == 0 and not again, _part(work, k, len(here)))
                for one in here:
                    one.known[f"{number}/{point.name}"] = found[one.name]
                work.save_state(packed(found))
                for one in here:
                    yield from _rows(study, one, pruning, found[one.name], cost)


def _rows(study: Study, side: Side, pruning: WeightPruning, point: Point, cost: DenseCost) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Of one level on one data set."""
    from analysis.sensitivity.curve_rows import curve_key, loss_rows, point_rows, token_rows, where_rows

    key = curve_key(pruning, side.name)
    yield "curve_points", point_rows(key, pruning.kind, point, side.baseline, side.task, cost, study.units)
    yield "point_losses", loss_rows(key, point, side.baseline)
    yield "pruned_where", where_rows(key, point, study.places)
    yield "point_tokens", token_rows(key, point, side.baseline, side.task)


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
