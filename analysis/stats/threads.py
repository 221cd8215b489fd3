"""Work on several cores at once: compiled loops and numpy's sorts release Python's lock, so plain threads do.

They need no second pool of spinning workers beside torch's, survive a fork, and may be used from several threads at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

Job = Callable[[int], None]
"""Does one piece of work; is told which worker (0 to threads - 1) it runs on."""


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparsescope-kernel")


def run(jobs: list[Job], threads: int) -> None:
    """Do the jobs, in any order, on this thread and up to threads - 1 others."""
    waiting = deque(jobs)

    def drain(worker: int) -> None:
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            job(worker)

    others = [_pool(threads - 1).submit(drain, worker) for worker in range(1, min(threads, len(jobs)))]
    drain(0)
    for other in others:
        other.result()
