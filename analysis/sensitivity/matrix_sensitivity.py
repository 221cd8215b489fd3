"""Which matrices (heads, groups of neurons, sublayers, blocks) can the model least do without?

1. Each candidate alone is pruned to a few fixed levels and measured on the same documents, restarting from the stored input of its block.
2. Levels go upwards until the loss has collapsed; the bracket around the tolerance is halved where noise allows.
3. Paired differences by document; area under the increase, drop point, and ranks with the intervals of their draws.
4. What lowers the loss when it is gone is named in the ranking (AxFormer prunes those first).
5. Beside them predictions from one calibrated pass, and whether they rank as the measurement does.

Source: SENSITIVITY sections 7 and 8.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.choices import AUTO
from analysis.sensitivity.essential_sparsity import TASKS, memory
from analysis.sensitivity.matrix_figures import draw_grid, draw_parts, draw_proxies, draw_ranking
from analysis.sensitivity.matrix_tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    import numpy as np

    from analysis.executors.assignment import Compute
    from analysis.interventions.sweep import Baseline
    from analysis.sensitivity.candidates import Candidate
    from analysis.sensitivity.grid import Grid, Measurement

UNIT, PREDICTING = "measuring matrices", "predicting"


@dataclass(frozen=True, kw_only=True)
class MatrixSensitivityConfig:
    """Settings of `matrix_sensitivity`."""

    units: str = setting("matrices", help="What is pruned alone; several with commas: matrices, heads, ffn, sublayers, blocks")
    method: str = setting("magnitude", help="How the weights of a matrix are chosen; all other units always by magnitude")
    group: str = setting("per_matrix", help="Which weights of a matrix compete", choices=("per_matrix", "per_row"))
    levels: str = setting("0.3, 0.5, 0.7", help="Fixed shares to remove of each matrix, with commas: areas and ranks are over these")
    group_levels: str = setting("0.5, 1", help="The same of heads, groups of neurons, sublayers and blocks; 1 removes them")
    refine: int = setting(1, help="How often the bracket around the tolerance is halved, where noise allows", ge=0, le=8)
    eps: str = setting(AUTO, help="Tolerance of the drop point, in the unit of the loss; auto is 0.05 nats")
    ffn_groups: int = setting(4, help="Groups of neurons in each FFN", unit="groups", ge=1, le=4096)
    proxies: str = setting("all", help="Predictions beside the measurement; output leaves gradients out", choices=("all", "output", "none"))
    measure: int = setting(0, help="Matrices to measure, those with the largest predicted output error; 0 for all", ge=0, le=10**6)
    include: str = setting("", help="Weights to take into the scope too: embeddings, head, routers, outside, other")
    only: str = setting("", help="Only parameters whose name holds this pattern")
    n_tokens: int = setting(
        4096, help="Tokens to read, a half of which is reported on; other examples count as a window", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits, masked tokens, draws", ge=0, le=2**31 - 1)
    task: str = setting(AUTO, help="What the model is asked to do; auto chooses from the model and the data", choices=TASKS)
    split: str = setting(
        "report",
        help="Documents to measure; an allocation from this run is measured on the other split",
        choices=("report", "choice", "all"),
    )
    stack: int = setting(3, help="Levels of a matrix in one pass: speed, no number", unit="levels", ge=1, le=64, result=False)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=1, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """Any model with inputs."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and matrix_sensitivity measures what pruning does to its outputs; give data with --data."
    return None


def run(config: MatrixSensitivityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: those of a matrix with its unit, ranks and predictions at the end."""
    from analysis.sensitivity.candidates import candidates
    from analysis.sensitivity.curve_rows import scope_rows
    from analysis.sensitivity.grid import Grid, Measurement, asked
    from analysis.sensitivity.matrix_rows import proxy_rows, ranking_rows
    from analysis.sensitivity.predicting import calibration_of

    grid = Grid.of(config, inputs["model"])
    units = asked(config.units)
    predicted = next((state for _, state in work.states(PREDICTING)), None)
    known = {name: Measurement.of_arrays(state) for name, state in work.states(UNIT)}
    baseline = grid.baseline()
    eps = grid.eps(baseline)
    proxies = config.proxies != "none" and config.split != "all" and "matrices" in units
    calibration = calibration_of(grid, proxies and predicted is None, work.facts)
    with grid.pruning.on(grid.subject, calibration) as held:
        work.facts |= _facts(grid, baseline, eps) | {"interventions": {name: v for name, v in held.facts.items() if name != "skipped"}}
        every = list(candidates(units, held, grid.subject.model, grid.first_batch(), config.ffn_groups))
        for _ in work.units([PREDICTING], PREDICTING):
            yield "scope_tensors", scope_rows(grid.scope)
            predicted = _predict(grid, held, calibration, proxies, work)
        work.facts["restarting"] = grid.restarting.facts | {"passes": grid.restarting.passes, "blocks": len(grid.restarting.blocks)}
        yield from _measure(grid, _chosen(grid, every, predicted or {}), baseline, eps, known, work)
    yield "matrix_ranking", ranking_rows(grid, every, known, baseline, eps)
    matrices = [one for one in every if one.kind == "matrix"]
    rows, agreement = proxy_rows(grid, matrices, known, baseline, predicted or {})
    work.facts["agreement"] = [dict(zip(agreement, row, strict=True)) for row in zip(*agreement.values(), strict=True)]
    yield "matrix_proxies", rows
    yield "proxy_agreement", agreement


def _predict(grid: Grid, held: Any, calibration: Any, proxies: bool, work: Any) -> dict[str, np.ndarray]:
    from analysis.sensitivity.predicting import predictions

    found = predictions(grid.scope, held, calibration, grid.levels) if proxies else {}
    work.save_state(found)
    return found


def _chosen(grid: Grid, every: Sequence[Candidate], predicted: Mapping[str, np.ndarray]) -> list[Candidate]:
    """What is measured: block by block, in the order they run."""
    from analysis.sensitivity.predicting import OUTPUT

    n, blocks = grid.config.measure, {path: i for i, path in enumerate(grid.restarting.blocks)}
    chosen = list(every)
    if n and OUTPUT in predicted:
        middle = predicted[OUTPUT][:, len(grid.levels) // 2]
        error = {member.name: value for member, value in zip(grid.scope.members, middle.tolist())}
        ranked = sorted((one for one in every if one.kind == "matrix"), key=lambda one: -error[one.tensor])
        left = {one.unit for one in ranked[n:]}
        chosen = [one for one in every if one.unit not in left]
    return sorted(chosen, key=lambda one: -1 if one.block is None else blocks.get(one.block, -1))


def _measure(
    grid: Grid, chosen: Sequence[Candidate], baseline: Baseline, eps: float, known: dict[str, Measurement], work: Any
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from analysis.sensitivity.matrix_rows import loss_rows, point_rows

    by_name, facts = {candidate.unit: candidate for candidate in chosen}, work.facts["restarting"]
    for name, cell in work.computed(list(by_name), UNIT, partial(_cell, grid, by_name, baseline, eps)):
        candidate, made = by_name[name], cell.made
        known[name] = made
        facts["passes"] += cell.passes
        facts["fallbacks"] = list(dict.fromkeys([*facts["fallbacks"], *cell.fallbacks]))
        work.save_state(made.arrays())
        yield "matrix_points", point_rows(grid, candidate, made, baseline)
        yield "matrix_losses", loss_rows(candidate, made, baseline)


@contextmanager
def cells(config: MatrixSensitivityConfig, inputs: Mapping[str, Any]) -> Iterator[Compute]:
    """A candidate at all of its levels, by the name of its unit."""
    from analysis.sensitivity.candidates import candidates
    from analysis.sensitivity.grid import Grid, asked
    from analysis.sensitivity.predicting import calibration_of

    grid = Grid.of(config, inputs["model"])
    baseline = grid.baseline()
    with grid.pruning.on(grid.subject, calibration_of(grid, False, {})) as held:
        every = candidates(asked(config.units), held, grid.subject.model, grid.first_batch(), config.ffn_groups)
        yield partial(_cell, grid, {candidate.unit: candidate for candidate in every}, baseline, grid.eps(baseline))


@dataclass(frozen=True)
class _Cell:
    """What a cell gives."""

    made: Measurement
    passes: int
    fallbacks: tuple[str, ...]
    """Of whoever computed it, so far."""


def _cell(grid: Grid, by_name: Mapping[str, Candidate], baseline: Baseline, eps: float, name: str, report: Any) -> _Cell:
    before = grid.restarting.passes
    made = grid.measure(by_name[name], baseline, eps, report)
    return _Cell(made, grid.restarting.passes - before, tuple(grid.restarting.facts["fallbacks"]))


def _facts(grid: Grid, baseline: Baseline, eps: float) -> dict[str, Any]:
    n = int(baseline.resample.counts.sum())
    losses = baseline.measured["loss"]
    return grid.task.facts | {
        "n_tokens": n,
        "n_scored": n,
        "denominator": grid.scope.denominator,
        "levels": list(grid.levels),
        "eps": eps,
        "dense_loss": float(losses.total.sum() / losses.n.sum()),
        "n_documents_measured": baseline.resample.n_documents,
        "intervals": baseline.resample.note or "over documents, bootstrap",
    }


MATRIX_SENSITIVITY = Analysis(
    slug="matrix_sensitivity",
    title="Matrix sensitivity",
    question="Which matrices, heads, groups of neurons, sublayers and blocks can the model least do without?",
    version=4,
    kind="causal",
    sources=(
        Source("Loss increase of each matrix alone, restarted from its block's input", "area, drop point and rank intervals", "O"),
        Source("AxFormer: Accuracy-driven Approximation of Transformers", "Nagarajan et al. 2020, arXiv 2010.03688", "K"),
        Source("Importance Estimation for Neural Network Pruning", "Molchanov et al., CVPR 2019, arXiv 1906.10771: Taylor", "C"),
    ),
    config=MatrixSensitivityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("grid", "Loss increase by layer and matrix", "matrix_points", draw_grid),
        Figure("ranking", "The most sensitive", "matrix_ranking", draw_ranking),
        Figure("parts", "Heads, groups of neurons, layers", "matrix_points", draw_parts),
        Figure("proxies", "Predicted and measured", "matrix_proxies", draw_proxies),
    ),
    needs=needs,
    memory=lambda settings, facts: 3 * memory(settings, facts),
    cells=cells,
)
