"""Workers of this machine: jobs with them, what becomes of them when the job goes, cores, memory, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import save_file

from analysis import find_analysis
from analysis.__main__ import main
from analysis.executors import Assignment, LocalExecutor
from analysis.executors import threads as cores_of
from analysis.executors.choice import AUTO, Choice, carried, choose
from analysis.executors.local import ROOT
from analysis.executors.threads import Threads, threads_each
from analysis.jobs import Jobs, memory, processes
from analysis.jobs.request import check_workers, checked
from analysis.models.trust import trusting
from analysis.spec import UserError
from store import Store
from store.jobs import LIVE
from tests import executor_cases as cases
from tests.executors.test_contract import begun, gone, squares

PATIENCE_S = 60
SILENT = lambda share: None  # noqa: E731


@pytest.fixture
def jobs(tmp_path):
    desk = Jobs(Store(tmp_path / "results"))
    yield desk
    for job in desk.table.all(LIVE):
        processes.stop(processes.Identity(job.host, job.pid, job.process_start), grace=0)
    desk.store.close()


@pytest.fixture
def weights(tmp_path):
    save_file({"layer.weight": np.ones((4, 6), np.float32)}, tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


def ended(jobs, job):
    end = time.monotonic() + PATIENCE_S
    while (job := jobs.get(job.id)).is_live and time.monotonic() < end:
        time.sleep(0.1)
    return job


def at_work(jobs, job, folder):
    """The processes of both workers, once both have begun a unit."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (folder / "begun").exists() and len(pids := {pid for _, pid in begun(folder)}) == 2:
            return pids
        assert jobs.get(job.id).is_live, jobs.log(job.id)
        time.sleep(0.05)
    raise AssertionError(jobs.log(job.id))


def test_a_job_with_two_workers_is_computed_by_them_and_seals_the_same_run(jobs, weights, tmp_path):
    settings = {"units": 6, "seconds": 0.2, "folder": str(tmp_path)}
    job = ended(jobs, jobs.submit("toy_divided", weights, config=settings, workers="2"))
    assert job.status == "done", job.words
    assert squares(jobs.store, job.run) == [(i, i * i) for i in range(6)]
    pids = {pid for _, pid in begun(tmp_path)}
    assert len(pids) == 2 and job.pid not in pids and gone(pids)
    again = ended(jobs, jobs.submit("toy_divided", weights, config=settings))
    assert again.run == job.run, "one process would have made the same"


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_no_worker_outlives_its_job(jobs, weights, tmp_path, how):
    job = jobs.submit("toy_divided", weights, config={"units": 4, "seconds": 30.0, "folder": str(tmp_path)}, workers=2)
    pids = at_work(jobs, job, tmp_path)
    if how == "cancelled":
        assert jobs.cancel(job.id).status == "cancelled"
    else:
        os.kill(job.pid, signal.SIGKILL)  # it cannot tell its workers
    assert gone({*pids, job.pid})
    assert jobs.get(job.id).status == {"cancelled": "cancelled", "killed": "interrupted"}[how]


def test_the_same_request_with_other_workers_is_the_live_job(jobs, weights, tmp_path):
    job = jobs.submit("toy_divided", weights, config={"seconds": 30.0})
    assert jobs.submit("toy_divided", weights, config={"seconds": 30.0}, workers=2).id == job.id


def test_cells_that_were_announced_and_are_not_wanted_any_more_are_never_begun(tmp_path):
    config = cases.DividedConfig(folder=str(tmp_path), seconds=0.5)
    executor = LocalExecutor(1)
    executor.start(Assignment("toy_divided", config, cases.nothing, {}))
    try:
        executor.submit(["1", "2", "3", "4"])
        assert int(executor.result("1", SILENT)) == 1
        executor.submit(["9"])
        assert int(executor.result("7", SILENT)) == 49, "asked for without having been announced, and before what was"
        assert int(executor.result("9", SILENT)) == 81
        assert executor.status().waiting == 0
        pids = executor.pids
    finally:
        executor.cancel()
    executor.cancel()
    tried = [unit for unit, _ in begun(tmp_path)]
    assert tried[0] == 1 and set(tried) <= {1, 2, 7, 9}, "2 was begun while the first was asked for; 3 and 4 never"
    assert pids and gone(pids)


def test_values_wait_for_whoever_asks_but_not_without_end(tmp_path):
    config = cases.DividedConfig(folder=str(tmp_path))
    executor = LocalExecutor(1)
    executor.start(Assignment("toy_divided", config, cases.nothing, {}))
    try:
        executor.submit([str(i) for i in range(50)])
        end = time.monotonic() + PATIENCE_S
        while executor.status().done < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        assert executor.status().done == 2, "twice as many as there are workers are held in memory"
        assert [int(executor.result(str(i), SILENT)) for i in range(50)] == [i * i for i in range(50)]
    finally:
        executor.cancel()


def test_guesses_that_were_wrong_do_not_keep_workers_from_what_is_wanted():
    executor = LocalExecutor(1)
    executor.start(Assignment("toy_divided", cases.DividedConfig(), cases.nothing, {}))
    try:
        for cells, done in ((["1", "2", "3"], 2), (["5", "6", "7"], 4)):
            executor.submit(cells)
            end = time.monotonic() + PATIENCE_S
            while executor.status().done < done and time.monotonic() < end:
                time.sleep(0.05)
            assert executor.status().done == done, "two ahead of each list"
    finally:
        executor.cancel()


def test_a_worker_killed_while_it_has_nothing_to_do_is_replaced(tmp_path):
    executor = LocalExecutor(1)
    executor.start(Assignment("toy_divided", cases.DividedConfig(), cases.nothing, {}))
    try:
        assert int(executor.result("3", SILENT)) == 9
        (first,) = executor.pids
        os.kill(first, signal.SIGKILL)
        assert int(executor.result("4", SILENT)) == 16
        assert executor.pids != [first] and executor.status().lost == 1
    finally:
        executor.cancel()


def test_workers_that_never_open_the_model_are_given_up(tmp_path):
    executor = LocalExecutor(1)
    executor.start(Assignment("toy_divided", cases.DividedConfig(), cases.dies, {}))
    try:
        with pytest.raises(
            UserError, match=r"^workers must live until they have opened the model, got 3 in a row .* \(killed by SIGKILL\)"
        ):
            executor.result("0", SILENT)
    finally:
        executor.cancel()


def test_cores_are_shared_out_and_never_promised_twice(monkeypatch):
    monkeypatch.setattr(cores_of, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(n) for n in (1, 2, 3, 4, 8)] == [8, 4, 2, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_each(n) for n in (1, 2, 4)] == [3, 3, 2]
    with pytest.raises(UserError, match="^workers must be at most 8, the cores this process may run on, got 9; ask for fewer.$"):
        threads_each(9)


def test_this_process_takes_as_many_threads_as_a_worker_and_gives_them_back():
    torch.set_num_threads(2)
    threads = Threads(1)
    threads.take()
    assert torch.get_num_threads() == 1
    threads.back()
    threads.back()
    assert torch.get_num_threads() == 2
    assert set(threads.environment.values()) == {"1"}


def test_as_many_workers_as_fit_beside_the_process_that_asks(monkeypatch):
    monkeypatch.setattr("analysis.executors.choice.cores", lambda: 8)
    assert [carried(10, room) for room in (5, 10, 29, 30, 45, 1000)] == [1, 1, 1, 2, 3, 8]


def test_the_memory_of_all_processes_is_estimated_before_anything_is_started(monkeypatch, weights):
    alone, shared = (checked("toy_divided", weights, workers=n) for n in (None, 2))
    assert memory.estimate(shared) == 3 * memory.estimate(alone)
    monkeypatch.setenv(memory.ROOM, "2")
    memory.check_machine(alone)
    with pytest.raises(UserError, match=r"^the memory for toy_divided of .* by 3 processes must be about .* ask for fewer workers"):
        memory.check_machine(shared)


def test_what_cannot_be_asked_is_refused_in_a_sentence(weights, capsys):
    divided = find_analysis("toy_divided")
    assert choose(divided) == Choice() and choose(divided, workers="auto").workers == AUTO
    refused = {
        "^workers must be a whole number from 1, or auto, got 'two'": {"workers": "two"},
        "^workers must be a whole number from 1, or auto, got 0": {"workers": 0},
        "^the executor must be local or ray, got 'dask'": {"executor": "dask"},
        "^an address must be given to the executor ray, got 'auto' with local": {"address": "auto"},
        "^workers must be at most ": {"workers": psutil.cpu_count() + 1},
    }
    for words, asked in refused.items():
        with pytest.raises(UserError, match=words):
            choose(divided, **asked)
    with pytest.raises(UserError, match="^weight_sparsity must be run by one process, .* workers can be given to neuron_activity, "):
        choose(find_analysis("weight_sparsity"), workers=2)
    with (
        trusting(),
        pytest.raises(UserError, match="^workers must be given a model that is data, got factory:tests.zoo:llama, which is code"),
    ):
        checked("toy_divided", "factory:tests.zoo:llama", workers=2)
    with pytest.raises(UserError, match="^workers of one machine must compute on its cpu, got cuda"):
        checked("toy_divided", weights, workers=2, device="cuda")
    for device in ("auto", "cuda:1"):
        with pytest.raises(UserError, match=f"^workers of a cluster must compute on cpu or cuda, got {device}; "):
            check_workers(Choice("ray", 2), weights, device)
    assert main(["run", "weight_sparsity", "--model", weights, "--workers", "2"]) == 2
    assert capsys.readouterr().err.startswith("weight_sparsity must be run by one process")


def test_an_opening_that_no_other_process_can_import_is_refused():
    with pytest.raises(UserError, match="^the opening of inputs must be a function that other processes can import, got <function"):
        Assignment("toy_divided", cases.DividedConfig(), lambda: cases.nothing("other"), {}).packed()
    code = (
        "from analysis.executors import Assignment\nfrom analysis.spec import UserError\ndef opening(): return {}\n"
        "try:\n    Assignment('toy', None, opening, {}).packed()\nexcept UserError as error:\n    print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "SPARSESCOPE_EXTRA_ANALYSES"}
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("the opening of inputs must be a function that other processes can import, got <function opening"), said
