"""Numbers of the user's own that are measured beside a task's loss: what one is, and the difference of two logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.tasks import TaskBatch


class Metric(Protocol):
    """A number per example, the user's own."""

    @property
    def name(self) -> str:
        """In the store; not ``loss``, ``kl`` or ``accuracy``."""
        ...

    @property
    def unit(self) -> str:
        """Of its mean."""
        ...

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Sum and count of each example [examples], float64 and int64."""
        ...


@dataclass(frozen=True)
class LogitDifference:
    """Logit of one token (or class) minus that of another, at the last position of each example that is not padding."""

    one: int
    other: int
    name: str = "logit difference"
    unit: str = "logits"

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """One number per example."""
        import torch

        from analysis.tasks.objectives import answer_of

        logits = answer_of(output)
        if max(self.one, self.other) >= logits.shape[-1]:
            raise UserError(
                f"the logits to compare must be below {logits.shape[-1]}, got {self.one} and {self.other}; name others of the model's."
            )
        if logits.ndim == 3:
            mask = batch.inputs.get("attention_mask") if isinstance(batch.inputs, Mapping) else None
            last = torch.full((len(logits),), logits.shape[1] - 1, device=logits.device)
            if mask is not None and mask.shape == logits.shape[:2]:
                last = (mask.long() * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1)
            logits = logits[torch.arange(len(logits), device=logits.device), last]
        return (logits[:, self.one] - logits[:, self.other]).double(), torch.ones(len(logits), dtype=torch.int64, device=logits.device)
