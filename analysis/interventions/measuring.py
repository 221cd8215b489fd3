"""One task measured on one model again and again: the same batches each time, the dense model's outputs kept where they are needed.

1. `Evaluation.dense` measures the model as it is, and keeps what later measurements are compared with.
2. `Evaluation.measure` measures it in whatever state an intervention has put it.
3. Beside the task's loss: KL to the dense model at a seeded sample of scored positions, and metrics of the user's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.tasks import Losses, Task, TaskBatch

if TYPE_CHECKING:
    from torch import nn

    from analysis.interventions.metrics import Metric

LOSS, KL = "loss", "kl"
KEPT_BYTES = 2**30
"""Of dense outputs, and of batches, held in memory; beyond, the dense model is copied and run beside the other."""

Report = Callable[[float], None]


@dataclass(frozen=True)
class Tokens:
    """What the scored positions of one example lost."""

    position: np.ndarray
    """int64: where the model gave its answer."""
    token: np.ndarray
    """int64: the id that was the right answer."""
    loss: np.ndarray
    """float64, nats; infinite where it is."""


@dataclass(frozen=True)
class Measured(Mapping[str, Losses]):
    """What one state of the model gave: sums per example, by metric.

    Of ``kl``, ``n_right`` counts positions whose first choice stayed that of the dense model.
    """

    metrics: Mapping[str, Losses]
    tokens: Mapping[int, Tokens] = field(default_factory=dict)
    """Of the few examples that are shown position by position: by their place in the task."""

    def __getitem__(self, name: str) -> Losses:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)


class Evaluation:
    """A task on a model, measured as often as wanted."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        batch_size: int,
        *,
        kl_positions: int = 0,
        metrics: Sequence[Metric] = (),
        shown: int = 0,
        seed: int = 0,
    ) -> None:
        """``kl_positions``: about how many scored positions KL to the dense model is measured on; 0 for none. ``shown``: of how many
        examples, spread evenly, the loss is kept position by position, where examples are text."""
        from analysis.capture.fitting import Fitting

        self._model, self._task, self._fitting = model, task, Fitting(batch_size)
        self._batch_size = batch_size
        """Examples in the batches of the dense model, by which what is kept of it is kept."""
        self._metrics, self._seed = tuple(metrics), seed
        n = len(task.examples) * task.tokens_per_example
        has_answers = task.knows_right and not task.is_divergence
        self._kl_share = min(1.0, kl_positions / max(1, n)) if has_answers else 0.0
        by_token = has_answers and task.tokens_per_example > 1
        self._shown = set(np.linspace(0, len(task.examples) - 1, shown if by_token else 0).astype(int).tolist())
        self._batches: list[TaskBatch] | None = None
        self._outputs: dict[int, Any] = {}
        """By the first example of a batch, of each of its examples: the dense model's output (divergence), or its logits at the sampled
        positions."""
        self._reference: nn.Module | None = None

    @property
    def needs_dense(self) -> bool:
        """Whether `measure` compares with outputs of the dense model, so that `dense` must have run in this process."""
        return self._task.is_divergence or self._kl_share > 0

    def dense(self, report: Report = lambda share: None) -> Measured:
        """Measure the model as it is now: the baseline of all that follows."""

        def measured(size: int) -> Measured:
            """From the beginning: what is kept of the dense model is kept by batch."""
            if size != self._batch_size:
                self._batch_size, self._batches = size, None
            self._outputs.clear()
            self._reference = None
            return self._pass(report, is_dense=True)

        return self._fitting(measured)

    def measure(self, report: Report = lambda share: None, again: Callable[[], object] = lambda: None) -> Measured:
        """Measure the model in its present state. ``again`` is called before what ran out of memory is begun anew: it sets back what is
        counted while the model runs."""
        if self.needs_dense and not self._outputs and self._reference is None:
            raise ValueError("a state is measured against the dense model; call dense first.")
        before = self._fitting.size

        def measured(size: int) -> Measured:
            if size != before:
                again()
            return self._pass(report, is_dense=False)

        return self._fitting(measured)

    def _pass(self, report: Report, is_dense: bool) -> Measured:
        from analysis.capture.running import observable, run

        found: dict[str, list[Losses]] = {}
        tokens: dict[int, Tokens] = {}
        n = max(1, len(self._task.examples))
        for batch in self._each():
            with observable(self._model):
                output = run(self._model, batch.inputs)
            for name, losses in self._score(output, batch, is_dense).items():
                found.setdefault(name, []).append(losses)
            tokens |= self._by_token(output, batch)
            report(batch.positions.stop / n)
        return Measured({name: Losses.joined(parts) for name, parts in found.items()}, tokens)

    def _each(self) -> Iterator[TaskBatch]:
        """The batches, in parts where less fits than when the dense model ran; held in memory after the first pass where they fit."""
        if self._fitting.size < self._batch_size:
            for start in range(0, len(self._task.examples), self._batch_size):
                whole = slice(start, min(start + self._batch_size, len(self._task.examples)))
                yield from self._task.batches(self._fitting.size, whole)
            return
        if self._batches is not None:
            yield from self._batches
            return
        held: list[TaskBatch] | None = []
        size = 0
        for batch in self._task.batches(self._batch_size):
            size += sum(tensor.nbytes for tensor in _tensors(batch.inputs))
            held = None if held is None or size > KEPT_BYTES else [*held, batch]
            yield batch
        self._batches = held

    def _score(self, output: Any, batch: TaskBatch, is_dense: bool) -> Mapping[str, Losses]:
        found: dict[str, Losses] = {}
        if self._task.is_divergence:
            batch = replace(batch, reference=self._dense_output(output, batch, is_dense))
        found[LOSS] = self._task.score(output, batch)
        if self._kl_share:
            found[KL] = self._divergence(output, batch, is_dense)
        for metric in self._metrics:
            sums, counts = (values.cpu().numpy() for values in metric.score(output, batch))
            endless = ~np.isfinite(sums)
            zero = np.zeros(len(sums), np.int64)
            found[metric.name] = replace(found[LOSS], n=counts, total=np.where(endless, 0.0, sums), n_right=zero, n_endless=zero + endless)
        return found

    def _by_token(self, output: Any, batch: TaskBatch) -> dict[int, Tokens]:
        """The loss position by position of the examples that are shown."""
        import torch

        from analysis.tasks.objectives import answer_of

        start = batch.positions.start
        rows = [place - start for place in self._shown if start <= place < batch.positions.stop]
        if not rows or batch.targets is None:
            return {}
        few = replace(batch, targets=batch.targets[rows])
        with torch.no_grad():
            loss, _, counts = self._task.objective.score(answer_of(output)[rows], few)
        assert few.targets is not None
        found = {}
        for row, values, targets, kept in zip(rows, loss.cpu().numpy(), few.targets.cpu().numpy(), counts.cpu().numpy()):
            at = np.flatnonzero(kept)
            found[start + row] = Tokens(at, targets[at], values[at])
        return found

    def _dense_output(self, output: Any, batch: TaskBatch, is_dense: bool) -> Any:
        """What the dense model gave for this batch: kept, or had anew from a copy where all of it would not fit."""
        from analysis.capture.running import observable, run
        from analysis.tasks.objectives import answer_of

        key = batch.positions.start
        if is_dense:
            answer = answer_of(output).detach()
            examples = max(1, batch.positions.stop - batch.positions.start)
            if self._reference is None and answer.nbytes / examples * len(self._task.examples) > KEPT_BYTES:
                self._reference = copy.deepcopy(self._model)
            if self._reference is None:
                self._outputs[key] = answer.clone()
            return answer
        if self._reference is None:
            return self._kept(batch)
        with observable(self._reference):
            return run(self._reference, batch.inputs)

    def _kept(self, batch: TaskBatch) -> Any:
        """What is kept of the dense model of these examples, which are a batch of its, or a part of one."""
        at = batch.positions
        if self._fitting.size >= self._batch_size:
            return self._outputs[at.start]
        first = max(start for start in self._outputs if start <= at.start)
        return self._outputs[first][at.start - first : at.stop - first]

    def _divergence(self, output: Any, batch: TaskBatch, is_dense: bool) -> Losses:
        """KL(dense || this) at the sampled positions of this batch, summed by example."""
        import torch

        from analysis.stats.losses import IGNORED, kl_divergence
        from analysis.tasks.objectives import answer_of

        targets, logits = batch.targets, answer_of(output)
        assert targets is not None
        logits = logits.reshape(*targets.shape, logits.shape[-1])
        # Seeded by example, so that the size of batches changes no number.
        numbers = [np.random.default_rng([self._seed, i]).random(targets.shape[1]) for i in self._task.examples[batch.positions].tolist()]
        drawn = torch.from_numpy(np.stack(numbers) < self._kl_share).to(logits.device)
        kept = drawn & (targets.to(logits.device) != IGNORED)
        rows = logits[kept]
        if is_dense:
            self._outputs[batch.positions.start] = rows.clone().split(kept.sum(1).tolist())
        dense = torch.cat(tuple(self._kept(batch)))
        loss, same = kl_divergence(dense, rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device))
        example = kept.nonzero()[:, 0].cpu().numpy()
        values, finite = loss.cpu().numpy(), np.isfinite(loss.cpu().numpy())
        count = lambda weights: np.bincount(example, weights=weights, minlength=len(targets))  # noqa: E731
        whole = lambda weights: count(weights).astype(np.int64)  # noqa: E731
        at = batch.positions
        return Losses(
            self._task.examples[at],
            self._task.data.document[at],
            whole(np.ones(len(example))),
            count(np.where(finite, values, 0.0)),
            whole(same.cpu().numpy().astype(float)),
            whole((~finite).astype(float)),
        )


def _tensors(value: Any) -> Iterator[Any]:
    from analysis.capture.operators import tensors_in

    return tensors_in(value)
