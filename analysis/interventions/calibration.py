"""Calibration: what methods need to know of a matrix besides its weights, measured once on the dense model for all levels.

1. `inputs`: one pass over the batches; of each matrix the number of rows it read, their sum and their sum of squares by input feature.
   `gram`: also X^T X. Padding is left out (`capture`); memory is the sums', never the stream's.
2. `gradients`: one backward pass an example through the task's loss (`gradients`). `fisher` and `hessian`: also blocks of the inverse
   Fisher matrix, and Hessian times gradient.
3. `values`: the batches are kept, since methods on activations ask different things of what flows inside; each looks itself, once
   (`activations.observing`), and what it found is kept in `Calibration.derived`.
4. What cannot be measured has a sentence in `Calibration.missing`: an expert that no token reached, a matrix inside an opaque call. Of an
   expert a gradient of 0 everywhere is no measurement; of a matrix that every token runs through it is one.

Everything comes from the dense model. Published Wanda, SparseGPT, DSnoT and OWL re-capture inputs after pruning earlier blocks; what is
made from this is *dense-input* Wanda and so on, and `facts` says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.interventions.experts import experts_of
from analysis.interventions.gradients import Backward, MatrixGradients
from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.reading import NO_ROWS, Key, Reader, convolutions_read, examples_in, plan_reading
from analysis.interventions.spec import Need
from analysis.interventions.weights import obert
from analysis.spec import IncompatibleSubject, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.scope import Member, Scope
    from analysis.tasks import Task

__all__ = ["Calibration", "MatrixInputs", "calibrate", "calibrate_on"]

FISHER_BYTES = 8 * 2**30
"""Largest size of all inverse Fisher blocks together."""
TEMPERATURE = 200.0
"""By which GraSP divides logits (METHODS A3)."""
NO_GRADIENT = (
    "its gradient is 0 everywhere on the calibration data: no token was sent to this expert, or none of what it gives counts, so nothing "
    "tells its weights apart."
)
DENSE_INPUT = (
    "inputs are those of the dense model, captured once for all levels; the published procedure re-captures them after pruning earlier "
    "blocks"
)
ROWS = "padding is left out; special tokens count as any others"


@dataclass
class Calibration:
    """What was measured of every matrix of a scope."""

    matrices: dict[tuple[str, int], MatrixInputs]
    """By the parameter's name and the matrix' index in it."""
    missing: dict[tuple[str, int], str]
    """Why there is nothing, in a sentence."""
    needs: frozenset[Need]
    facts: dict[str, Any] = field(default_factory=dict)
    """As JSON: examples, rows, damping, what the numbers are of."""
    batches: tuple[Any, ...] = ()
    """What the model was calibrated on, as `capture` takes it; empty unless ``values`` was asked for."""
    task: Task | None = None
    """What the model was asked on these batches, for orders by the loss; None where it has no answers."""
    derived: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What methods made of the batches, and other methods want again."""

    def of(self, name: str, index: int = 0) -> MatrixInputs | None:
        """Of one matrix; None where nothing could be measured, with the reason in `missing`."""
        return self.matrices.get((name, index))


def calibrate(
    model: nn.Module,
    scope: Scope,
    batches: Iterable[Any],
    needs: Iterable[Need],
    *,
    task: Task | None = None,
    block: int = obert.BLOCK,
    damp: float = obert.DAMP,
    temperature: float = TEMPERATURE,
    report: Callable[[float], None] = lambda share: None,
) -> Calibration:
    """Measure what is needed of every matrix of the scope.

    ``batches``: what to run the model on, as `capture` takes it; not read where only gradients are asked for. ``task`` gives the loss
    whose gradients are taken. ``block`` and ``damp`` are oBERT's, ``temperature`` is GraSP's. ``report`` is given the share done of each of
    the two parts, inputs (where the number of batches is known) and gradients.
    """
    needs = frozenset(needs)
    made = Calibration({}, {}, needs, {"needs": sorted(needs)}, task=task)
    if "values" in needs:
        made.batches = batches = tuple(batches)
    if needs & {"inputs", "gram"}:
        _read_inputs(model, scope, batches, made, report)
    if needs & {"gradients", "fisher", "hessian"}:
        if task is None:
            raise IncompatibleSubject("gradients need a task, got none; give data with answers, or use a method that needs inputs only.")
        _differentiate(model, scope, task, made, block, damp, temperature, report)
    return made


def calibrate_on(model: nn.Module, scope: Scope, task: Task, batch_tokens: int, needs: Iterable[Need]) -> Calibration:
    """`calibrate` on all examples of a task, so many tokens at a time or as many as fit; gradients are of its loss, where it has any."""
    from analysis.capture.fitting import Fitting

    needs, asked = frozenset(needs), None if task.is_divergence else task

    def made(size: int) -> Calibration:
        return calibrate(model, scope, [batch.inputs for batch in task.batches(size)], needs, task=asked)

    return Fitting(task.batch_size(batch_tokens))(made)


def _keys(scope: Scope) -> list[tuple[Key, Member]]:
    """Every matrix of the scope: each expert of a stack by itself."""
    return [((member.name, index), member) for member in scope.members for index in range(member.matrix_shape[0])]


# ---------------------------------------------------------------------------------------------------------------------
# Inputs


def _read_inputs(model: nn.Module, scope: Scope, batches: Iterable[Any], made: Calibration, report: Callable[[float], None]) -> None:
    """Step 1."""
    from analysis.capture import capture

    sums, reader = {}, Reader({})
    n_sequences = n_batches = 0
    with contextlib.ExitStack() as stack:
        session = None
        for batch in batches:
            if session is None:
                plan = plan_reading(model, scope, batch, with_gram="gram" in made.needs)
                made.missing |= plan.missing
                sums, reader = plan.sums, Reader(plan.by_site)
                stack.enter_context(convolutions_read(model, plan.by_module, reader))
                session = stack.enter_context(capture(model, plan.sites, reader))
            session.run(batch)
            reader.forget()
            n_sequences, n_batches = n_sequences + examples_in(batch), n_batches + 1
            if isinstance(batches, Sized):
                report(n_batches / len(batches))
    if not n_batches:
        raise UserError("the calibration data must hold at least one batch, got none; give some inputs.")
    for key, found in sums.items():
        if found.n:
            made.matrices[key] = MatrixInputs(found.n, n_sequences, found.square_sum, found.total, found.gram)
        else:
            made.missing[key] = NO_ROWS
    made.facts |= {
        "n_sequences": n_sequences,
        "n_rows": max((one.n for one in sums.values()), default=0),
        "inputs": DENSE_INPUT,
        "rows": ROWS,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Gradients


def _differentiate(
    model: nn.Module,
    scope: Scope,
    task: Task,
    made: Calibration,
    block: int,
    damp: float,
    temperature: float,
    report: Callable[[float], None],
) -> None:
    """Step 2."""
    keys = _keys(scope)
    place = {member.name: i for i, member in enumerate(scope.members)}
    matrices = {key: MatrixGradients(_view(member, key[1]), place[member.name]) for key, member in keys}
    if "fisher" in made.needs:
        _check_fisher(scope, block)
        for key, member in keys:
            numel = member.n // member.matrix_shape[0]
            matrices[key].fisher = obert.InverseFisher(
                numel, len(task.examples), block=block, damp=damp, device=str(member.parameter.device)
            )
        made.facts |= {"fisher_block": block, "fisher_damp": damp}
    parameters = [member.parameter for member in scope.members]
    backward = Backward(model, task, parameters, matrices.values(), facts=made.facts)
    parts = bool(made.needs & {"gradients", "fisher"}) + ("hessian" in made.needs)
    if made.needs & {"gradients", "fisher"}:
        backward.gradients(squares="gradients" in made.needs, report=lambda share: report(share / parts))
    if "hessian" in made.needs:
        made.facts["temperature"] = temperature
        Backward(model, task, parameters, matrices.values(), temperature).hessian_gradients(lambda share: report(1 + (share - 1) / parts))
    made.facts |= {"loss": task.facts["loss"], "split": task.split}
    experts = {name for group in experts_of(model) for name in group.parameters}
    for key, found in matrices.items():
        if key[0] in experts and not found.is_reached:
            made.missing.setdefault(key, NO_GRADIENT)
            continue
        mine = made.matrices.setdefault(key, MatrixInputs())
        mine.gradient, mine.gradient_square, mine.gate_square = found.gradient, found.gradient_square, found.gate_square
        mine.hessian_gradient = found.hessian_gradient
        mine.fisher_inverse = None if found.fisher is None else found.fisher.values


def _view(member: Member, index: int) -> Callable[[Tensor], Tensor]:
    return lambda values: member.matrix(values)[index]


def _check_fisher(scope: Scope, block: int) -> None:
    size = 8 * block * scope.n
    if size > FISHER_BYTES:
        raise UserError(
            f"the Fisher blocks must fit into {FISHER_BYTES / 2**30:.0f} GiB, got {size / 2**30:.1f} GiB for {scope.n:,} weights in blocks "
            f"of {block}; choose fewer matrices or smaller blocks."
        )
