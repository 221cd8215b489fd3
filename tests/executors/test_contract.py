"""One contract for every executor: the rows of one process, whatever dies, and nothing left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from analysis import find_analysis
from analysis.executors import LocalExecutor
from analysis.runner import run
from analysis.spec import UserError, make_config
from store import Store
from tests import executor_cases as cases

PATIENCE_S = 60
SWEEPS = {
    "matrix_sensitivity": {"levels": "0.3, 0.6", "units": "matrices, heads", "proxies": "output", "refine": 1},
    "essential_sparsity": {"methods": "magnitude, wanda", "kl_positions": 16, "levels": "adaptive", "resolution": 0.05, "eps": "0.01, 0.1"},
    "sparsity_plane": {"interventions": "magnitude, magnitude-2-of-4, ffn-topk, magnitude + ffn-topk@0.6", "levels": "0.3, 0.6"},
    "neuron_activity": {"examples": 3},
    "head_sparsity": {},
}


@pytest.fixture(params=["local", "ray"])
def make(request):
    """What makes an executor of two workers."""
    if request.param == "local":
        return lambda: LocalExecutor(2, threads=1)
    from analysis.executors.cluster import RayExecutor

    address = request.getfixturevalue("cluster").address
    return lambda: RayExecutor(2, address, threads=1)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def sealed(store, slug, opening, executor=None, progress=None, **settings):
    found = find_analysis(slug)
    return run(found, opening(), make_config(found.config, settings), store, executor=executor, opening=opening, progress=progress)


def squares(store, info):
    rows = store.read(info, "squares")
    return list(zip(rows["unit"], rows["square"]))


def begun(folder):
    """Pairs of unit and process, in the order they were begun."""
    return [tuple(map(int, line.split())) for line in Path(folder, "begun").read_text().splitlines()]


def gone(pids, seconds=10):
    """Whether all those processes end within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def one_thread():
    """As many threads in this process as in each worker: the last bits of a float32 sum hang on how many shared it."""
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("slug", SWEEPS)
def test_two_workers_give_the_rows_of_one_process_bit_for_bit(store, tmp_path, make, slug):
    alone = sealed(store, slug, cases.llama, **SWEEPS[slug])
    other = Store(tmp_path / "other")
    shared = sealed(other, slug, cases.llama, make(), **SWEEPS[slug])
    assert shared.key == alone.key, "who computes is no part of the key"
    for table in find_analysis(slug).tables:
        one, two = (place.read(info, table.name) for place, info in ((store, alone), (other, shared)))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert len(store.read(alone, find_analysis(slug).tables[0].name))


def test_both_workers_compute_and_this_process_does_not(store, tmp_path, make):
    info = sealed(store, "toy_divided", cases.nothing, make(), folder=str(tmp_path), seconds=0.2, units=8)
    assert squares(store, info) == [(i, i * i) for i in range(8)]
    done = begun(tmp_path)
    assert sorted(unit for unit, _ in done) == list(range(8)), "each once"
    assert len({pid for _, pid in done}) == 2 and os.getpid() not in {pid for _, pid in done}


def test_a_worker_killed_in_the_middle_costs_time_and_no_result(store, tmp_path, make):
    info = sealed(store, "toy_divided", cases.nothing, make(), folder=str(tmp_path), seconds=0.1, units=8, die_at=3)
    assert squares(store, info) == [(i, i * i) for i in range(8)]
    tried = [unit for unit, _ in begun(tmp_path)]
    assert tried.count(3) == 2 and sorted(set(tried)) == list(range(8))


def test_a_unit_that_kills_every_worker_is_named_and_what_was_finished_is_kept(store, tmp_path, make):
    settings = {"folder": str(tmp_path), "units": 5, "die_at": 2}
    with pytest.raises(UserError, match=r"^a worker must live through 2, got 3 that did not \(.+\); give fewer workers"):
        sealed(store, "toy_divided", cases.nothing, make(), deaths=100, **settings)
    info = sealed(store, "toy_divided", cases.nothing, deaths=0, **settings)
    assert squares(store, info) == [(i, i * i) for i in range(5)]
    here = [unit for unit, pid in begun(tmp_path) if pid == os.getpid()]
    assert here == [2, 3, 4], "units 0 and 1 were committed before"


def test_what_a_worker_cannot_do_arrives_as_its_one_sentence(store, tmp_path, make):
    with pytest.raises(UserError, match="^unit 2 must be measurable, got one that is not; leave it out.$"):
        sealed(store, "toy_divided", cases.nothing, make(), folder=str(tmp_path), refuse_at=2)
    with pytest.raises(ZeroDivisionError) as caught:
        sealed(store, "toy_divided", cases.nothing, make(), folder=str(tmp_path), fail_at=4)
    assert str(caught.value) == "division of a unit by zero"
    with pytest.raises(UserError, match="^the model must be on this machine, got none; copy it there.$"):
        found = find_analysis("toy_divided")
        run(found, cases.nothing(), found.config(), store, executor=make(), opening=cases.no_model)


def test_a_worker_that_reads_another_model_is_refused(store, make):
    found = find_analysis("neuron_activity")
    with pytest.raises(UserError, match="^every worker must read the same model, got other weights than the process that asked"):
        run(found, cases.llama(), found.config(), store, executor=make(), opening=cases.another_llama)


def test_cancelling_ends_every_worker_at_once_and_what_is_finished_is_kept(store, tmp_path, make):
    def stop(progress):
        if progress.what == "units" and progress.done >= 2:
            raise KeyboardInterrupt

    settings = {"folder": str(tmp_path), "seconds": 1.0, "units": 6}
    with pytest.raises(KeyboardInterrupt):
        sealed(store, "toy_divided", cases.nothing, make(), stop, **settings)
    pids = {pid for _, pid in begun(tmp_path)}
    assert os.getpid() not in pids and gone(pids)
    before = len(begun(tmp_path))
    info = sealed(store, "toy_divided", cases.nothing, make(), **settings)
    assert squares(store, info) == [(i, i * i) for i in range(6)]
    assert {unit for unit, _ in begun(tmp_path)[before:]} == {2, 3, 4, 5}
