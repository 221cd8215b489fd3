"""Work on several cores at once: compiled loops and numpy's sorts release Python's lock, so plain threads do.

They need no second pool of spinning workers beside torch's, survive a fork, and may be used from several threads at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

Made = TypeVar("Made")
Job = Callable[[int], None]
"""Does one piece of work; is told which worker (0 to threads - 1) it runs on."""


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparsescope-kernel")


def run(jobs: list[Job], threads: int) -> None:
    """Do the jobs, in any order, on this thread and up to threads - 1 others; an error ends it once the jobs under way are done.

    A job may not call this with more than one thread itself: the workers it waited for could all be waiting, too.
    """
    waiting = deque(jobs)

    def drain(worker: int) -> None:
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            try:
                job(worker)
            except BaseException:
                waiting.clear()
                raise

    others = [_pool(threads - 1).submit(drain, worker) for worker in range(1, min(threads, len(jobs)))]
    try:
        drain(0)
    finally:
        wait(others)
    for other in others:
        other.result()


def in_order(jobs: Iterable[tuple[Callable[[], Made], bool]], threads: int) -> Iterator[Made]:
    """What the jobs give, one after the other; up to ``threads`` are under way at once, each with one thread of torch.

    A job that comes with False is too large for that: it runs alone, with all threads. Jobs behind the one waited for are begun early, and
    dropped where nobody asks on.
    """
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Made]] = deque()
        try:
            for job, is_small in jobs:
                while begun and (len(begun) >= 2 * threads or not is_small):
                    yield begun.popleft().result()
                if is_small:
                    begun.append(pool.submit(_on_one_thread, job))
                else:
                    yield job()
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()


def _on_one_thread(job: Callable[[], Made]) -> Made:
    with one_thread():
        return job()


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread within it: for many small steps, whose threads would wait for each other. On a busy machine that costs ten
    times the work itself, and on a free one it gains little, since reading is as slow."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
