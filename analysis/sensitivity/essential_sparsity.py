"""How much of the weights can go before the model notices?

1. Three disjoint splits of the documents: what a method needs is measured on calibration; every number comes from report.
2. The dense model is measured once; then every method at level after level, each a unit of work, on the same batches.
3. Paired differences by document, one bootstrap for all levels and methods; s*(eps) with its interval, or an honest "not reached".

Source: METHODS A1, SENSITIVITY sections 7 to 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.second_data import SECOND
from analysis.sensitivity.cells import Cells
from analysis.sensitivity.choices import AUTO, GROUPS, NONE, is_drawn, tolerances
from analysis.sensitivity.curve_figures import draw_curve, draw_decode, draw_prefill, draw_where, headlines
from analysis.sensitivity.sides import Side, facts_of_second, sides_of
from analysis.sensitivity.study import Study, calibration_for, dense_cost_of, facts_of, told
from analysis.sensitivity.sweeping import levels_of, measure_dense, measure_levels, reachable, read_back
from analysis.sensitivity.tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.levels import Levels
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.sweep import Point

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
    ratios: str = setting(
        NONE,
        help="Shares per matrix, with commas: none (as the group has it), uniform, uniform+, er, erk, global_floor, pq, snip, grasp, owl",
    )
    variant: str = setting(
        "text", help="Counting of weights: as papers state it, or as published code does where that is off by one", choices=("text", "code")
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
    from analysis.interventions.sweep import Curve
    from analysis.sensitivity.curve_rows import curve_key, curve_label, scope_rows
    from analysis.sensitivity.drop_rows import NamedCurve, difference_rows, drop_rows

    study, sides = _planned(config, inputs)
    read_back(sides, work)
    chosen: Any = study.interventions
    for _ in measure_dense(sides, 1 + 14 * len(chosen), work):
        yield "scope_tensors", scope_rows(study.scope)
    first = sides[0]
    eps, cost = tolerances(config.eps, study.task, first.dense_loss), dense_cost_of(study)
    work.facts |= facts_of(study, first.baseline, eps, cost, first.dense_loss)
    levels = levels_of(config.levels, eps, config.resolution, study.task)
    for number, pruning in enumerate(chosen):
        yield from _measure(study, sides, number, pruning, levels, cost, work)
    work.facts["noise_floor"] = first.noise_floor
    for side in sides[1:]:
        work.facts[SECOND] = facts_of_second(side, inputs[SECOND].data)
    curves = [
        NamedCurve(curve_key(one, side.name), Curve.of(side.points(number), side.baseline, one.kind == "patterns"), is_drawn(one))
        for side in sides
        for number, one in enumerate(chosen)
        if one.kind != "point"
    ]
    drops = drop_rows(curves, eps, study.task)
    work.facts["drops"] = told(drops, curve_label)
    yield "drop_points", drops
    if len(curves) > 1:
        shown = next(one for one, is_shown in zip(drops["eps"], drops["is_headline"], strict=True) if is_shown)
        yield "drop_differences", difference_rows(curves, shown)


def _planned(config: EssentialSparsityConfig, inputs: Mapping[str, Any]) -> tuple[Study, tuple[Side, ...]]:
    study = Study.of(config, inputs["model"])
    return study, sides_of(study, inputs.get(SECOND), config.second_data)


@contextmanager
def cells(config: EssentialSparsityConfig, inputs: Mapping[str, Any]) -> Iterator[Cells]:
    """A level of one of the prunings, on all data."""
    study, sides = _planned(config, inputs)
    with Cells(study, sides, study.interventions) as found:
        yield found


def _measure(
    study: Study, sides: tuple[Side, ...], number: int, pruning: WeightPruning, levels: Levels, cost: DenseCost, work: Any
) -> Iterator[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    """One pruning, level by level, each applied once for all data; then the levels that only the second data ask for."""
    from analysis.sensitivity.curve_rows import curve_key, curve_label

    calibration = calibration_for(study, pruning)
    with pruning.on(study.subject, calibration) as held:
        told_of = {name: value for name, value in held.facts.items() if name != "skipped"}
        told_of |= {} if calibration is None else {"calibration": calibration.facts}
        work.facts["interventions"][curve_label(curve_key(pruning))] = told_of
        every: Any = study.interventions
        n, anew = len(every), number == 0  # once, for the noise floor
        coming = [(i, levels) for i, one in enumerate(every) if i > number and one.kind == "curve" and one.ratio is None]
        if pruning.ratio is not None:
            levels = reachable(held, levels, curve_label(curve_key(pruning)), work)
        for found in measure_levels(sides, len(sides), held, levels, number, n, work, anew=anew, coming=coming):
            for side in sides:
                if side.name in found:
                    yield from _rows(study, side, pruning, found[side.name], cost)


def _rows(study: Study, side: Side, pruning: WeightPruning, point: Point, cost: DenseCost) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Of one level on one data set."""
    from analysis.sensitivity.curve_rows import curve_key, loss_rows, point_rows, token_rows, where_rows

    key = curve_key(pruning, side.name)
    yield "curve_points", point_rows(key, pruning.kind, point, side.baseline, side.task, cost, study.units)
    yield "point_losses", loss_rows(key, point, side.baseline)
    yield "pruned_where", where_rows(key, point, study.places)
    yield "point_tokens", token_rows(key, point, side.baseline, side.task)


ESSENTIAL_SPARSITY = Analysis(
    slug="essential_sparsity",
    title="Essential sparsity",
    question="How much of the weights can go before the model notices?",
    version=3,
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
    cells=cells,
    headlines=headlines,
)
