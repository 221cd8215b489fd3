"""Gradients of a task's loss by example: their mean, their squares, blocks of the Fisher matrix, and Hessian times gradient.

1. One example at a time: forward, loss summed over its scored positions, backward to the parameters in scope only.
2. The mean gradient is the sum over examples divided by the positions scored: the gradient of the loss as every curve shows it.
3. For squares and Fisher blocks an example's gradient is divided by the square root of its positions, so that the mean over examples of
   g g^T is the curvature of the loss *per position* (the gradients of one example's positions are uncorrelated where the model
   predicts as the data are). A batch's mean gradient squared would be no Fisher matrix (SENSITIVITY 8.4).
4. Hessian times gradient: a second pass differentiates (gradient . mean gradient), attention by plain products, since fused kernels
   have no second derivative.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.interventions.weights.obert import InverseFisher
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.tasks import Task

View = Callable[["Tensor"], "Tensor"]
"""A parameter, or a tensor of its shape, as one matrix [d_out, d_in]."""


@dataclass
class MatrixGradients:
    """Of one matrix; sums until `finish`, then means. All [d_out, d_in] in float32 but where said."""

    view: View
    parameter: int
    """Place of its parameter among those differentiated."""
    gradient: Tensor | None = None
    gradient_square: Tensor | None = None
    gate_square: Tensor | None = None
    """[d_out]: of (sum_k w_k g_k)^2."""
    hessian_gradient: Tensor | None = None
    fisher: InverseFisher | None = None
    is_reached: bool = True
    """Whether any example's loss depends on it: of an expert that no token was sent to, a gradient of 0 everywhere is no measurement."""


@dataclass
class Backward:
    """Differentiates a task's loss on a model, example by example."""

    model: nn.Module
    task: Task
    parameters: Sequence[Tensor]
    matrices: Collection[MatrixGradients]
    temperature: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task.is_divergence:
            raise IncompatibleSubject(
                "gradients need a task with answers, got a divergence, which is flat at the dense model; give labels, or use a method "
                "that needs inputs only."
            )

    def gradients(self, *, squares: bool, report: Callable[[float], None] = lambda share: None) -> None:
        """Steps 1 to 3, into the matrices."""
        n_examples = n_positions = 0
        for loss, n in self._losses(report):
            found = _differentiate(loss, self.parameters)
            n_examples, n_positions = n_examples + 1, n_positions + n
            for matrix in self.matrices:
                g = matrix.view(found[matrix.parameter]).float()
                matrix.gradient = _added(matrix.gradient, g)
                scaled = g / n**0.5
                if squares:
                    matrix.gradient_square = _added(matrix.gradient_square, scaled**2)
                    w = matrix.view(self.parameters[matrix.parameter].detach()).float()
                    matrix.gate_square = _added(matrix.gate_square, (w * scaled).double().sum(1) ** 2)
                if matrix.fisher is not None:
                    matrix.fisher.add(scaled)
        self._check(n_examples)
        for matrix in self.matrices:
            sums = (matrix.gradient, matrix.gradient_square)
            matrix.is_reached = any(total is not None and bool(total.any()) for total in sums)
            _divide(matrix.gradient, n_positions)
            _divide(matrix.gradient_square, n_examples)
            _divide(matrix.gate_square, n_examples)
        self.facts |= {"n_gradient_examples": n_examples, "n_gradient_positions": n_positions}

    def hessian_gradients(self, report: Callable[[float], None] = lambda share: None) -> None:
        """Step 4, with logits divided by the temperature; float32 sums."""
        import torch

        first: list[Tensor | None] = [None] * len(self.parameters)
        n_positions = 0
        for loss, n in self._losses(lambda share: report(share / 2)):
            first = [_added(total, g.float()) for total, g in zip(first, _differentiate(loss, self.parameters))]
            n_positions += n
        self._check(n_positions)
        direction = [g / n_positions for g in first if g is not None]
        for matrix in self.matrices:
            matrix.is_reached = bool(matrix.view(direction[matrix.parameter]).any())
        for loss, _ in self._losses(lambda share: report((1 + share) / 2), plain_attention=True):
            gradients = _differentiate(loss, self.parameters, again=True)
            slope = torch.stack([(g.float() * d).sum() for g, d in zip(gradients, direction)]).sum()
            # Where the loss is linear in the parameters, the slope hangs on nothing.
            found = _differentiate(slope, self.parameters) if slope.requires_grad else [torch.zeros_like(d) for d in direction]
            for matrix in self.matrices:
                matrix.hessian_gradient = _added(matrix.hessian_gradient, matrix.view(found[matrix.parameter]).float())
        for matrix in self.matrices:
            _divide(matrix.hessian_gradient, n_positions)

    def _losses(self, report: Callable[[float], None], plain_attention: bool = False) -> Iterator[tuple[Tensor, int]]:
        """The summed loss of each example that has a scored position, ready to be differentiated, and how many it has."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        total = len(self.task.examples)
        kernel = (lambda: sdpa_kernel(SDPBackend.MATH)) if plain_attention else contextlib.nullcontext
        with differentiable(self.model, self.parameters):
            for done, batch in enumerate(self.task.batches(1), start=1):
                with kernel():
                    yield from self._split(batch)
                report(min(1.0, done / max(1, total)))

    def _split(self, batch: Any) -> Iterator[tuple[Tensor, int]]:
        """Of one batch: as data may be divided already, one example at a time all the same."""
        import torch

        from analysis.capture.running import run
        from analysis.tasks.objectives import answer_of

        output = answer_of(run(self.model, batch.inputs))
        loss, _, counts = self.task.objective.score(output if self.temperature == 1 else output / self.temperature, batch)
        examples = [(torch.where(c, row, 0.0).sum(), int(c.sum())) for row, c in zip(loss, counts)]
        yield from (example for example in examples if example[1])

    def _check(self, n: int) -> None:
        if not n:
            raise IncompatibleSubject("gradients need at least one scored position, got none; give data with answers.")


@contextlib.contextmanager
def differentiable(model: nn.Module, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the model runs as for capture, but gradients flow to these parameters and to no others; all restored."""
    import torch

    from analysis.capture.running import observable

    asked = [(p, p.requires_grad) for p in model.parameters()]
    wanted = {id(p) for p in parameters}
    try:
        for p, _ in asked:
            p.requires_grad_(id(p) in wanted)
        with observable(model), torch.enable_grad():
            yield
    finally:
        for p, before in asked:
            p.requires_grad_(before)


def _differentiate(loss: Tensor, parameters: Sequence[Tensor], again: bool = False) -> list[Tensor]:
    """The gradient to each parameter, 0 to those that played no part; the graph stays, since other examples may share it."""
    import torch

    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, create_graph=again, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters)]


def _added(total: Tensor | None, values: Tensor) -> Tensor:
    return values.detach().clone() if total is None else total.add_(values.detach())


def _divide(total: Tensor | None, n: int) -> None:
    if total is not None:
        total /= n
