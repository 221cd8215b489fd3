"""Cores and threads: so many for each worker that together they have no more than there are.

OMP_NUM_THREADS, where it is set, is the most that one worker takes. The process that asks takes as many as a worker while they work, so
that all numbers of a run are sums of the same parts: the last bits of a float32 sum hang on how many threads shared it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from analysis.spec import UserError

_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores() -> int:
    """Those this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """Threads of each of so many workers on this machine. Raises `UserError` where there are more workers than cores."""
    if workers > cores():
        raise UserError(f"workers must be at most {cores()}, the cores this process may run on, got {workers}; ask for fewer.")
    return min(most_threads(), max(1, cores() // workers))


def most_threads() -> int:
    """What OMP_NUM_THREADS says, or all cores."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) else cores()


@dataclass
class Threads:
    """So many threads: for workers by their environment, for this process while they work."""

    n: int
    _before: int = field(default=0, init=False)

    @property
    def environment(self) -> dict[str, str]:
        """For a worker."""
        return dict.fromkeys(_NAMES, str(self.n))

    def take(self) -> None:
        """For this process."""
        import torch

        self._before = torch.get_num_threads()
        torch.set_num_threads(self.n)

    def back(self) -> None:
        """As it was."""
        import torch

        if self._before:
            torch.set_num_threads(self._before)
            self._before = 0
