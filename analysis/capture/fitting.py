"""How many examples a pass takes at a time: as many as were asked for, or half, or a quarter of them, as memory allows.

Nobody knows beforehand what fits into a GPU beside a model and its accumulators, so it is tried: work that runs out of memory is done
anew, from its beginning, with half the examples, and what fitted once is kept for the work that follows. The work must therefore start from
nothing each time it is called. Sums may differ in their last bits from those of another division into batches.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Self, TypeVar

from analysis.spec import UserError

Made = TypeVar("Made")


class Fitting:
    """A number of examples that shrinks where memory runs out."""

    def __init__(self, size: int) -> None:
        """``size``: examples at a time, to begin with."""
        self.size = size

    @classmethod
    def windows(cls, batch_tokens: int, data: Any) -> Self:
        """Windows of these data: at most so many tokens, and one at least; where the data are no tokens an example counts as one."""
        return cls(max(1, batch_tokens // (1 if data.token_ids is None else data.token_ids.shape[1])))

    def __call__(self, work: Callable[[int], Made]) -> Made:
        """What the work gives with as many examples at a time as fit. Raises `UserError` where one alone does not."""
        import torch

        while True:
            try:
                return work(self.size)
            except torch.OutOfMemoryError as error:
                if self.size <= 1:
                    raise UserError(
                        f"one example at a time must fit into the memory of the device, got {str(error).splitlines()[0].rstrip('.')}; "
                        "use shorter windows, --dtype bfloat16, --device auto, or --device cpu."
                    ) from error
                self.size //= 2
            gc.collect()  # outside of the handler: its traceback held what the pass had made
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
