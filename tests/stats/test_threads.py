"""Work shared out among threads: all of it is done, and an error is told and ends it."""

from __future__ import annotations

import threading
import time

import pytest

from analysis.stats.threads import in_order, one_thread, run


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_job_is_done_once(threads):
    done: list[int] = []
    run([lambda worker, i=i: done.append(i) for i in range(50)], threads)
    assert sorted(done) == list(range(50))


def test_jobs_run_side_by_side():
    """Each waits for the other: one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)
    workers: list[int] = []

    def job(worker):
        both.wait()
        workers.append(worker)

    run([job, job], 2)
    assert sorted(workers) == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_told_and_ends_the_work(threads):
    done: list[int] = []

    def fail(worker):
        raise ValueError("the disk is gone")

    with pytest.raises(ValueError, match="the disk is gone"):
        run([fail, *(lambda worker, i=i: done.append(i) for i in range(10_000))], threads)
    assert len(done) < 10_000


def test_torch_keeps_to_one_thread_and_gets_its_own_back():
    import torch

    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


# ---------------------------------------------------------------------------------------------------------------------
# In order


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_what_comes_back_is_in_order_whatever_is_done_first(threads):
    def job(i):
        time.sleep(0.02 if i % 3 == 0 else 0.0)
        return i

    assert list(in_order([(lambda i=i: job(i), i % 7 != 5) for i in range(30)], threads)) == list(range(30))


def test_small_jobs_run_beside_each_other_with_one_thread_each_and_a_large_one_alone():
    import torch

    both, before, under_way = threading.Barrier(2, timeout=30), torch.get_num_threads(), []

    def small():
        both.wait()
        under_way.append(1)
        found = torch.get_num_threads()
        both.wait()
        under_way.pop()
        return found

    def large():
        return torch.get_num_threads(), len(under_way)

    jobs = [(small, True), (small, True), (large, False), (small, True), (small, True)]
    assert list(in_order(jobs, 2)) == [1, 1, (before, 0), 1, 1]
    assert torch.get_num_threads() == before


def test_an_error_comes_in_its_place_and_nothing_behind_it_is_begun_that_nobody_asked_for():
    begun = []

    def job(i):
        begun.append(i)
        if i == 2:
            raise ValueError("no such file")
        return i

    found = in_order([(lambda i=i: job(i), True) for i in range(100)], 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="no such file"):
        next(found)
    assert len(begun) <= 8


def test_who_stops_asking_stops_the_work():
    begun = []
    found = in_order([(lambda i=i: begun.append(i), True) for i in range(100)], 2)
    next(found)
    found.close()
    assert len(begun) <= 6
