"""Cheap predictions of what pruning a matrix costs, made from one calibrated pass of the dense model; and how they rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.spec import IncompatibleSubject
from analysis.stats.proxies import fisher_increase, output_error, taylor_increase

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import Calibration
    from analysis.interventions.pruning import HeldPruning
    from analysis.interventions.scope import Member, Scope
    from analysis.sensitivity.grid import Grid

OUTPUT, TAYLOR, FISHER = "output error", "taylor", "fisher"
GRAM_BYTES = 2**28
"""Of all second moments together; beyond, their diagonals stand for them, and that is said."""
UNITS: Mapping[str, str] = {OUTPUT: "share of the outputs' length", TAYLOR: "unit of the loss", FISHER: "unit of the loss"}


def calibration_of(grid: Grid, with_proxies: bool, facts: dict[str, Any]) -> Calibration | None:
    """What the method and the predictions need, measured on the calibration split; None where that is nothing."""
    from analysis.interventions.calibration import calibrate_on
    from analysis.tasks import choose_task

    needs = set(grid.pruning.needs)
    task = None
    if with_proxies:
        gram = 8 * sum(m.matrix_shape[0] * m.matrix_shape[2] ** 2 for m in grid.scope.members)
        needs |= {"gram"} if gram <= GRAM_BYTES else {"inputs"}
        facts["second_moments"] = "whole" if gram <= GRAM_BYTES else "diagonal: inputs are taken for uncorrelated"
    if not needs:
        return None
    task = choose_task(grid.subject, grid.config.task, split="calibration", seed=grid.config.seed)
    measured = partial(calibrate_on, grid.subject.model, grid.scope, task, grid.config.batch_tokens)
    if with_proxies and grid.config.proxies == "all" and not task.is_divergence:
        try:
            found = measured({*needs, "gradients"})
        except IncompatibleSubject as error:
            facts["no_gradients"] = str(error)
        else:
            return found
    elif with_proxies and task.is_divergence:
        facts["no_gradients"] = "a divergence from the dense model has no gradient at the dense model"
    return measured(needs)


def predictions(scope: Scope, held: HeldPruning, calibration: Calibration, levels: Sequence[float]) -> dict[str, np.ndarray]:
    """Each prediction of each member at each level [members, levels]; NaN where nothing could be measured of it."""
    found = {name: np.full((len(scope.members), len(levels)), np.nan) for name in (OUTPUT, TAYLOR, FISHER)}
    for row, member in enumerate(scope.members):
        dense = member.matrix(member.parameter.detach())
        for column, level in enumerate(levels):
            removed = dense - member.matrix(held.weights(member.name, level))
            for name, value in _of_member(member, dense, removed, calibration).items():
                found[name][row, column] = value
    return found


def _of_member(member: Member, dense: Tensor, removed: Tensor, calibration: Calibration) -> dict[str, float]:
    """All predictions of one parameter; of a stack of experts the mean error, and the sums, over those that a token reached."""
    inputs = [calibration.of(member.name, index) for index in range(member.matrix_shape[0])]
    seen = [(i, one) for i, one in enumerate(inputs) if one is not None]
    if not seen:
        return {}
    found = {}
    moments = [(i, one.gram if one.gram is not None else one.square_sum) for i, one in seen]
    errors = [output_error(removed[i], dense[i], moment) for i, moment in moments if moment is not None]
    if errors:
        found[OUTPUT] = float(np.mean(errors))
    slopes = [(i, one.gradient, one.gradient_square) for i, one in seen]
    if any(gradient is not None for _, gradient, _ in slopes):
        found[TAYLOR] = sum(taylor_increase(removed[i], gradient) for i, gradient, _ in slopes if gradient is not None)
        found[FISHER] = sum(fisher_increase(removed[i], square) for i, _, square in slopes if square is not None)
    return found
