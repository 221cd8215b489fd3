"""Task: the examples of one split, what a model is given of them, and what its answer costs.

1. `batches` yields what to run the model on, with the right answers.
2. `score` turns the model's output into losses of the examples in the batch; run the model as you like in between.
3. `losses` does both for a model, batch by batch: memory is one batch's logits and one piece of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from analysis.stats.losses import IGNORED
from analysis.tasks.losses import Losses

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.models import Data

OWN = "own"
"""Name of the task of a model that came with a loss."""
LOGIT_BYTES = 2**28
"""Of one batch: batches are made smaller where the vocabulary is large."""


@dataclass(frozen=True)
class TaskBatch:
    """What to run a model on, and the right answers."""

    inputs: Any
    """A mapping of named arguments, or the only argument."""
    targets: Tensor | None
    """int64, -100 where there is no answer to give; None where the reference's output is the answer."""
    positions: slice
    """Of the examples among the task's own."""
    reference: Any = None
    """The dense model's output on these inputs, which a divergence is measured from."""


@dataclass(frozen=True)
class Given:
    """A batch as the data give it, for an objective to make answers of."""

    inputs: Any
    windows: np.ndarray
    """int64: the examples' numbers in the whole data."""
    data: Data
    positions: slice

    @property
    def ids(self) -> Tensor:
        """Token ids [examples, positions]."""
        return self.inputs["input_ids"] if isinstance(self.inputs, Mapping) else self.inputs

    def content(self) -> Tensor:
        """The ids, `IGNORED` where special or padding; a batch may be cut shorter than the data's rows."""
        special = self.data.special
        if special is None:
            return self.ids.clone()
        return self.ids.masked_fill(tensor_like(special[self.positions, : self.ids.shape[1]], self.ids), IGNORED)


def tensor_like(values: np.ndarray, like: Tensor) -> Tensor:
    """The array as a tensor where that tensor is."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)


class Objective(Protocol):
    """How a kind of task makes answers and scores them."""

    @property
    def name(self) -> str:
        """As the user names it."""
        ...

    @property
    def unit(self) -> str:
        """Of the loss."""
        ...

    @property
    def words(self) -> str:
        """What the loss is, as a sentence without its stop."""
        ...

    @property
    def is_divergence(self) -> bool:
        """Whether it needs a reference."""
        ...

    def prepare(self, given: Given) -> tuple[Any, Tensor | None]:
        """What the model is given, and the answers."""
        ...

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, whether the first choice was right, and whether it counts, of each position: [examples, positions] each."""
        ...


@dataclass(frozen=True)
class Task:
    """A model's task on one split of its data."""

    objective: Objective
    data: Data = field(repr=False)
    """The examples of this split only."""
    examples: np.ndarray = field(repr=False)
    """int64 [n]: their numbers in the whole data."""
    split: str
    seed: int
    device: str
    facts: dict[str, Any]
    """As JSON: task, unit, split, counts, and what was left out."""
    vocabulary: int | None = None

    @property
    def name(self) -> str:
        """``own``, ``causal-lm``, ``masked-lm``, ``seq2seq``, ``classification`` or ``divergence``."""
        return self.objective.name

    @property
    def unit(self) -> str:
        """Of the loss."""
        return self.objective.unit

    @property
    def knows_right(self) -> bool:
        """Whether it is known which first choices are right: not of a loss that came with the model."""
        return self.name != OWN

    @property
    def is_divergence(self) -> bool:
        """Whether the loss is a distance from a reference's output: it has an axis of its own."""
        return self.objective.is_divergence

    @property
    def tokens_per_example(self) -> int:
        """Of one example; 1 where examples are not tokens."""
        return 1 if self.data.token_ids is None else int(self.data.token_ids.shape[1])

    def batch_size(self, batch_tokens: int) -> int:
        """Examples that are at most so many tokens, and whose logits take at most `LOGIT_BYTES`."""
        n = batch_tokens // self.tokens_per_example
        if self.vocabulary is not None and self.data.token_ids is not None:
            n = min(n, LOGIT_BYTES // (4 * self.vocabulary * self.tokens_per_example))
        return max(1, n)

    def batches(self, batch_size: int, within: slice | None = None) -> Iterator[TaskBatch]:
        """What to run the model on; of all examples, or of one of ``data.parts``."""
        for inputs, positions in self.data.batches(batch_size, self.device, within):
            given, targets = self.objective.prepare(Given(inputs, self.examples[positions], self.data, positions))
            yield TaskBatch(given, targets, positions)

    def score(self, output: Any, batch: TaskBatch) -> Losses:
        """Losses of a batch's examples from the model's output."""
        import torch

        with torch.no_grad():
            loss, right, counts = self.objective.score(output, batch)
            endless = counts & ~loss.isfinite()
            total = torch.where(counts & ~endless, loss, 0.0).sum(dim=1)
        number = lambda mask: mask.sum(dim=1).cpu().numpy().astype(np.int64)  # noqa: E731
        return Losses(
            self.examples[batch.positions],
            self.data.document[batch.positions],
            number(counts),
            total.double().cpu().numpy(),
            number(right & counts),
            number(endless),
        )

    def losses(
        self,
        model: nn.Module,
        batch_size: int = 8,
        *,
        reference: nn.Module | None = None,
        within: slice | None = None,
        report: Callable[[float], None] = lambda share: None,
    ) -> Losses:
        """Losses of the model on every example; ``reference`` is the dense model, which a divergence needs.

        The model is run in eval mode, without gradients, its fast paths off as during capture.
        """
        from analysis.capture.fitting import Fitting
        from analysis.capture.running import observable, run

        if self.is_divergence and reference is None:
            raise ValueError("a divergence is measured from a reference; give the dense model as reference.")
        within = within or slice(0, len(self.examples))

        def measured(size: int) -> Losses:
            parts = []
            for batch in self.batches(size, within):
                with observable(model):
                    output = run(model, batch.inputs)
                if reference is not None:
                    with observable(reference):
                        batch = replace(batch, reference=run(reference, batch.inputs))
                parts.append(self.score(output, batch))
                report((batch.positions.stop - within.start) / max(1, within.stop - within.start))
            return Losses.joined(parts)

        return Fitting(batch_size)(measured)
