"""Jobs: real processes, really killed. What the queue, cancelling, resuming and the catalogue promise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

import analysis
from analysis.__main__ import main
from analysis.jobs import BRIDGE, Jobs, line, memory, processes, reference, why_not
from analysis.jobs.request import JobSpec, checked
from analysis.spec import BadConfig, UnknownName, UserError
from store import JobNotFound, Store
from store.jobs import LIVE
from tests.forking import Forks
from tests.slow import SLOW

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 90
REGISTERED = analysis.ANALYSES
EXTRA = {"SPARSESCOPE_EXTRA_ANALYSES": "tests.slow:SLOW", "HF_HUB_OFFLINE": "1"}
START = processes.start


@pytest.fixture(scope="module")
def forks():
    one = Forks(**EXTRA)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch, forks):
    """A cache folder, and so a queue, of its own; the slow analysis in the registry, here and in child processes."""
    monkeypatch.setenv("SPARSESCOPE_CACHE", str(tmp_path / "cache"))
    for name, value in EXTRA.items():
        monkeypatch.setenv(name, value)
    for module in ("analysis", "analysis.__main__"):
        monkeypatch.setattr(f"{module}.ANALYSES", (*REGISTERED, SLOW))

    def start(arguments, log, environment):
        """A job's process as the product starts it, but with its imports done."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return processes.identity(forks.start(arguments, log, environment=dict(os.environ) | environment, session=True))

    monkeypatch.setattr(processes, "start", start)


@pytest.fixture
def jobs(tmp_path):
    desk = Jobs(Store(tmp_path / "results"))
    yield desk
    for job in desk.table.all(LIVE):
        processes.stop(processes.Identity(job.host, job.pid, job.process_start), grace=0)
    desk.store.close()


@pytest.fixture
def weights(tmp_path):
    """A bare checkpoint: the smallest thing that can be opened."""
    save_file({"layer.weight": np.ones((4, 6), np.float32)}, tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


def until(jobs, job, condition, seconds=PATIENCE_S):
    """The job, once the condition holds; it must before it ends for another reason."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.get(job.id)
        if condition(job):
            return job
        assert job.is_live, f"{job.status}: {job.words}\n{jobs.log(job.id)}"
        time.sleep(0.02)
    raise AssertionError(f"still {job.status}, {job.what} {job.done} of {job.total}\n{jobs.log(job.id)}")


def ended(jobs, job, status="done"):
    return until(jobs, job, lambda one: one.status == status)


def command(*arguments, jobs):
    return [sys.executable, "-m", "analysis", *map(str, arguments), "--store", str(jobs.store.folder)]


def squares(jobs, job):
    rows = jobs.store.read(job.run, "squares")
    return dict(zip(rows["unit"], rows["square"]))


# -- from submission to result ----------------------------------------------------------------------------------------


def test_a_submitted_job_ends_done_with_its_run_its_log_and_the_models_facts(jobs, weights, monkeypatch):
    monkeypatch.setattr(processes, "start", START)
    job = jobs.submit("toy_slow", weights, config={"units": "5"})
    assert (job.status, job.origin, job.config["units"]) == ("queued", "page", 5)
    assert os.getpgid(job.pid) == job.pid != os.getpgid(0)
    job = ended(jobs, job)
    assert squares(jobs, job) == {i: i * i for i in range(5)}
    assert [run.id for run in jobs.store.runs()] == [job.run]
    assert job.started < job.finished
    assert job.share == 1
    log = jobs.log(job.id)
    assert log.index("loading model") < log.index("units 0 of 5") < log.index("sealing") < log.index(" done")
    assert jobs.log(job.id, tail=1) == log.splitlines()[-1]
    (model,) = jobs.store.models()
    assert (model.ref, model.facts["n_parameters"]) == (weights, 24)
    assert model.needs["toy_slow"].words is None
    again = ended(jobs, jobs.submit("toy_slow", weights, config={"units": 5}))
    assert again.id != job.id
    assert again.run == job.run  # answered from the store


def test_asking_twice_for_what_is_already_live_is_one_job(jobs, weights):
    slot = line.take()
    job = jobs.submit("toy_slow", weights, config={"units": 5})
    assert jobs.submit("toy_slow", weights, config={"units": "5"}).id == job.id
    assert jobs.submit("toy_slow", weights, config={"units": 6}).id != job.id
    slot.release()


def test_an_unexpected_error_is_one_sentence_with_its_traceback_in_the_log(jobs, weights):
    job = ended(jobs, jobs.submit("toy_slow", weights, config={"fail_at": 2}), "failed")
    assert job.words == "internal error: ZeroDivisionError: integer division or modulo by zero; the log has the details"
    assert "Traceback" in jobs.log(job.id)
    assert "tests/slow.py" in jobs.log(job.id)
    assert job.run is None
    assert jobs.store.runs() == []
    assert jobs.cancel(job.id) == job  # it has ended: nothing to stop


def test_inspecting_a_model_files_why_each_analysis_cannot_run_on_it(jobs, weights):
    job = ended(jobs, jobs.inspect(weights))
    assert (job.kind, job.run) == ("inspect", None)
    found = {one.slug: why_not(jobs.store, one, weights) for one in analysis.ANALYSES}
    assert found["weight_sparsity"] is None
    assert "tokenizer" in found["neuron_activity"]
    known = jobs.store.known.get(weights)
    assert known.needs.keys() == found.keys()
    assert known.facts[BRIDGE]["verdict"] in ("agrees", "differs", "none")
    assert known.facts[BRIDGE]["words"].startswith("TransformerLens' bridge ")


# -- stopping and going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_cancelled_job_goes_on_where_it_stopped_and_ends_as_an_undisturbed_one(jobs, weights, tmp_path, force):
    trace = tmp_path / "trace"
    config = {"units": 12, "seconds": 0.25, "trace": str(trace)}
    if force:
        first = ended(jobs, jobs.submit("toy_slow", weights, config={**config, "trace": ""}))
    job = jobs.submit("toy_slow", weights, config=config, force=force)
    until(jobs, job, lambda one: trace.exists() and len(trace.read_text().split()) >= 4)
    began = time.monotonic()
    job = jobs.cancel(job.id)
    assert time.monotonic() - began < 4  # by itself, not killed
    assert (job.status, job.run) == ("cancelled", None)
    assert "finished parts are kept" in job.words
    assert not processes.is_alive(processes.Identity(job.host, job.pid, job.process_start))
    assert (job.what, job.total) == ("units", 12)
    assert job.done >= 3
    assert len(jobs.store.runs(current_only=False)) == force  # a partial result is no result
    tried = trace.read_text().split()
    assert 4 <= len(tried) < 12

    resumed = ended(jobs, jobs.resume(job.id))
    assert resumed.resumes == job.id
    assert squares(jobs, resumed) == {i: i * i for i in range(12)}
    assert trace.read_text().split() == [str(i) for i in [*range(len(tried)), *range(len(tried) - 1, 12)]]
    if force:
        assert resumed.run != first.run
    with pytest.raises(UserError, match=f"which is done .its result is run {resumed.run}"):
        jobs.resume(resumed.id)


def test_a_killed_job_is_interrupted_at_the_next_look_and_can_be_resumed(jobs, weights):
    job = jobs.submit("toy_slow", weights, config={"units": 8, "seconds": 0.4})
    job = until(jobs, job, lambda one: one.done >= 1)
    os.kill(job.pid, signal.SIGKILL)
    time.sleep(0.2)
    (job,) = jobs.list()
    assert (job.status, job.run) == ("interrupted", None)
    assert "ended without a word" in job.words
    job = ended(jobs, jobs.resume(job.id))
    assert squares(jobs, job) == {i: i * i for i in range(8)}


def test_a_stubborn_job_is_killed_with_all_its_processes(jobs, weights, tmp_path):
    trace = tmp_path / "helper"
    job = jobs.submit("toy_slow", weights, config={"units": 900, "seconds": 0.1, "stubborn": True, "trace": str(trace)})
    until(jobs, job, lambda one: one.done >= 1)
    helper = int(trace.read_text().split()[0])
    assert psutil.pid_exists(helper)
    job = jobs.cancel(job.id, grace=1)
    assert job.status == "cancelled"
    for pid in (job.pid, helper):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# -- the queue --------------------------------------------------------------------------------------------------------


def test_jobs_run_one_after_the_other_and_a_run_in_the_foreground_is_one_of_them(jobs, weights, forks, tmp_path):
    made = [jobs.submit("toy_slow", weights, config={"units": n, "seconds": 0.3}) for n in (5, 6)]
    run = ["run", "toy_slow", "--model", weights, "--units", 3, "--store", jobs.store.folder]
    terminal = forks.start(run, tmp_path / "out", tmp_path / "err")
    made = [ended(jobs, job) for job in made]
    assert forks.wait(terminal) == 0
    out, err = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    front = jobs.list()[0]
    assert front.origin == "command line"
    assert out.splitlines()[-1] == str(jobs.store.find(front.run).path)
    assert "Waiting for the machine: toy_slow of" in err
    order = [*made, front]
    assert [job.place for job in order] == sorted(job.place for job in order)
    assert all(before.finished <= after.started for before, after in zip(order, order[1:]))


def test_two_slots_let_two_run_at_once(jobs, weights, monkeypatch):
    monkeypatch.setenv("SPARSESCOPE_SLOTS", "2")
    made = [jobs.submit("toy_slow", weights, config={"units": n, "seconds": 1.0}) for n in (20, 21)]
    end = time.monotonic() + PATIENCE_S
    while {jobs.get(job.id).status for job in made} != {"running"}:
        assert time.monotonic() < end
        time.sleep(0.1)
    for job in made:
        jobs.cancel(job.id)


def test_a_job_cancelled_in_the_queue_never_begins(jobs, weights):
    slot = line.take()
    first = jobs.submit("toy_slow", weights, config={"units": 5})
    second = jobs.submit("toy_slow", weights, config={"units": 6})
    until(jobs, second, lambda one: "1 more before this one" in one.words)
    assert jobs.cancel(first.id).status == "cancelled"
    until(jobs, second, lambda one: "another job has it" in one.words and "before" not in one.words)
    assert second.what == "waiting"
    slot.release()
    assert ended(jobs, second).run
    assert jobs.get(first.id).started is None


def test_the_oldest_waiting_job_comes_first_even_where_a_younger_one_looks_more_often(jobs, weights):
    slot = line.take()
    first = jobs.submit("toy_slow", weights, config={"units": 5})
    second = jobs.submit("toy_slow", weights, config={"units": 6})
    until(jobs, second, lambda one: "1 more before this one" in one.words)
    os.kill(first.pid, signal.SIGSTOP)
    slot.release()
    time.sleep(2)
    assert jobs.get(second.id).status == "queued"
    os.kill(first.pid, signal.SIGCONT)
    assert ended(jobs, first).finished <= ended(jobs, second).started


def test_now_does_not_wait(jobs, weights):
    slot = line.take()
    assert ended(jobs, jobs.submit("toy_slow", weights, now=True)).run
    slot.release()


@pytest.mark.parametrize("value", ["0", "many", "-1"])
def test_a_wrong_number_of_slots_is_a_sentence(value, monkeypatch):
    monkeypatch.setenv("SPARSESCOPE_SLOTS", value)
    with pytest.raises(UserError, match="SPARSESCOPE_SLOTS must be between 1 and 64"):
        line.take()


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_job_survives_the_server_that_started_it(jobs, weights):
    program = f"""
import os, signal
from analysis.jobs import Jobs
from store import Store
job = Jobs(Store({str(jobs.store.folder)!r})).submit("toy_slow", {weights!r}, config={{"units": 6, "seconds": 0.2}})
import sys
assert "torch" not in sys.modules and "transformers" not in sys.modules
print(job.id, flush=True)
os.killpg(0, signal.SIGKILL)
"""
    server = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, start_new_session=True, check=False)
    assert server.returncode == -signal.SIGKILL, server.stderr
    job = jobs.get(server.stdout.strip())
    assert job.is_live
    assert squares(jobs, ended(jobs, job))[5] == 25


def test_a_recycled_pid_is_not_mistaken_for_the_job_and_never_signalled(jobs):
    innocent = subprocess.Popen(["sleep", "60"])
    who = processes.identity(innocent.pid)
    spec = JobSpec("toy_slow", "tiny").as_json()
    same = jobs.table.add("aaaa", spec, origin="page", host=who.host, pid=who.pid, process_start=who.start)
    other = jobs.table.add("bbbb", spec, origin="page", host=who.host, pid=who.pid, process_start=who.start - 10)
    for job in (same, other):
        jobs.table.change(job.id, status="running")
    assert jobs.get("aaaa").status == "running"
    assert jobs.get("bbbb").status == "interrupted"
    jobs.table.change("bbbb", only=("interrupted",), status="running")
    processes.stop(processes.Identity(who.host, who.pid, who.start - 10), grace=0)
    assert innocent.poll() is None
    processes.stop(who, grace=1)
    assert innocent.wait(5) == -signal.SIGTERM
    assert jobs.get("aaaa").status == "interrupted"


def test_a_job_of_another_machine_is_judged_by_its_signs_of_life_and_not_stopped_from_here(jobs):
    from datetime import UTC, datetime, timedelta

    spec = JobSpec("toy_slow", "tiny").as_json()
    jobs.table.add("aaaa", spec, origin="page", host="elsewhere", pid=1, process_start=0.0)
    assert jobs.get("aaaa").status == "queued"
    with pytest.raises(UserError, match="runs on elsewhere"):
        jobs.cancel("aaaa")
    jobs.table.change("aaaa", heartbeat=datetime.now(UTC) - timedelta(minutes=5))
    assert jobs.get("aaaa").status == "interrupted"


def test_cancelling_a_run_in_the_foreground_stops_it_alone_and_not_the_script_around_it(jobs, weights):
    run = " ".join(command("run", "toy_slow", "--model", weights, "--units", 900, "--seconds", 0.1, jobs=jobs))
    script = subprocess.Popen(
        ["bash", "-c", f"{run}; echo ended with $?"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + PATIENCE_S
    while not (found := jobs.list(("running",))) or found[0].done < 1:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert jobs.cancel(found[0].id).status == "cancelled"
    out, err = script.communicate(timeout=10)
    assert out == "ended with 130\n"
    assert "what is finished is kept" in err


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(processes, "start", refuse)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"config": {"units": 0}}, BadConfig, "units must be between 1 and 1,000, got 0"),
        ({"config": {"unit": 1}}, BadConfig, "unit is not a setting"),
        ({"slug": "toy"}, UnknownName, "there is no analysis 'toy'"),
        ({"model": "smallm"}, UnknownName, "got 'smallm'"),
        ({"inputs": {"base": "minilm"}}, BadConfig, "toy_slow has no input 'base'"),
        ({"slug": "neuron_activity", "data": "nowhere.txt"}, UserError, "got 'nowhere.txt'"),
    ],
)
def test_what_cannot_be_carried_out_is_a_sentence_before_any_process_starts(jobs, weights, no_process, asked, error, words):
    with pytest.raises(error, match=words):
        jobs.submit(**{"slug": "toy_slow", "model": weights, **asked})
    assert jobs.list() == []


def test_too_little_memory_is_refused_with_what_is_needed_what_is_there_and_what_to_do(jobs, weights, no_process, monkeypatch):
    monkeypatch.setenv("SPARSESCOPE_MEMORY", "0.5")
    with pytest.raises(UserError, match=r"toy_slow of .* must be about 1.0 GB, got 500.0 MB in this machine; use a smaller model"):
        jobs.submit("toy_slow", weights)
    assert jobs.list() == []
    monkeypatch.setenv("SPARSESCOPE_MEMORY", "lots")
    with pytest.raises(UserError, match="SPARSESCOPE_MEMORY must be a number of gigabytes, got 'lots'"):
        jobs.submit("toy_slow", weights)


def test_a_job_that_fits_the_machine_but_not_what_is_free_fails_with_the_sentence(weights, monkeypatch):
    spec = checked("toy_slow", weights)
    memory.check_now(spec)
    free = psutil.virtual_memory()._replace(available=10**8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    memory.check_machine(spec)
    with pytest.raises(UserError, match=r"got 100.0 MB free; close other programs and resume it"):
        memory.check_now(spec)


def test_the_format_asked_for_counts_and_not_that_of_the_files():
    single = [memory.Sizes(weights=4 * 10**9, largest=10**8, numel=10**9)]
    half = [memory.Sizes(weights=2 * 10**9, largest=10**8, numel=10**9)]
    converted = [memory.Sizes(weights=10**9, largest=0, numel=0)]

    def need(sizes, dtype=""):
        return memory.needed(JobSpec("neuron_activity", "x", config={}, dtype=dtype), sizes)

    assert need(single, "bfloat16") == need(half) < need(single)
    assert need(half, "float32") == need(single)
    assert need(converted, "float32") == need(converted), "which only the files tell"


def test_a_static_question_needs_its_largest_tensor_and_any_other_the_whole_model():
    sizes = [memory.Sizes(weights=8 * 10**9, largest=10**8)]
    assert memory.needed(JobSpec("toy_slow", "x", config={}), sizes) == 10**9 + 12 * 10**8
    assert memory.needed(JobSpec("neuron_activity", "x", config={}), sizes) == 10**9 + 10 * 10**9 + 10**9


def test_a_static_question_that_reads_in_slices_is_not_refused_for_one_huge_tensor():
    """Before anything is opened: a tensor of 10^10 weights, 40 GB in 32 bits."""
    sizes = [memory.Sizes(weights=2 * 10**10, largest=10**10, numel=10**10)]
    for slug in ("weight_sparsity", "layer_ratios", "checkpoint_timeline"):
        assert memory.needed(JobSpec(slug, "x", config={}), sizes) <= 2 * 10**9
    assert memory.needed(JobSpec("weight_spectrum", "x", config={}), sizes) > 10**11, "which holds some matrices whole"
    assert memory.needed(JobSpec("neuron_weights", "x", config={}), sizes) > 4 * 10**10, "which holds the weights in 32 bits"


def test_sizes_come_from_headers(weights):
    found = memory.sizes_of_files(weights)
    assert found == memory.Sizes(Path(weights).stat().st_size, largest=24, numel=24)
    assert memory.sizes_of_files("somebody/model") is None


def test_references_mean_the_same_from_everywhere(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reference("tiny.safetensors") == weights
    assert [reference(text) for text in ("minilm", "python-docs", "somebody/model")] == ["minilm", "python-docs", "somebody/model"]


# -- command line and retention ---------------------------------------------------------------------------------------


def test_the_command_line_detaches_lists_cancels_and_resumes(jobs, weights, capsys):
    store = ["--store", str(jobs.store.folder)]
    assert main(["run", "toy_slow", "--model", weights, "--units", "900", "--seconds", "0.1", "--detach", *store]) == 0
    job = jobs.get(capsys.readouterr().out.strip())
    until(jobs, job, lambda one: one.done >= 1)
    assert main(["cancel", job.id[:4], *store]) == 0
    assert main(["resume", job.id, "--detach", *store]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{job.id}  cancelled  stopped while units")
    resumed = until(jobs, jobs.get(out[-1]), lambda one: one.done >= 1)
    assert main(["jobs", *store]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == [resumed.id, "running", "toy_slow"]
    assert second.split()[:3] == [job.id, "cancelled", "toy_slow"]
    assert main(["cancel", "zzzz", *store]) == 2
    assert "got 'zzzz', which fits none" in capsys.readouterr().err


def test_a_live_job_cannot_be_removed_and_an_old_one_is_pruned_with_its_log(jobs):
    from datetime import UTC, datetime, timedelta

    who = processes.identity()
    spec = JobSpec("toy_slow", "tiny").as_json()
    for name in ("live", "old", "new"):
        jobs.table.add(name, spec, origin="page", host=who.host, pid=who.pid, process_start=who.start)
    jobs.table.logs.mkdir()
    jobs.table.log_path("old").write_text("a\nb\n")
    jobs.table.change("old", status="failed", finished=datetime.now(UTC) - timedelta(days=40))
    jobs.table.change("new", status="done", finished=datetime.now(UTC) - timedelta(days=20))
    with pytest.raises(UserError, match="cancel it first"):
        jobs.remove("live")
    assert jobs.prune(30) == 1
    assert {job.id for job in jobs.list()} == {"live", "new"}
    assert not jobs.table.log_path("old").exists()
    jobs.remove("new")
    with pytest.raises(JobNotFound):
        jobs.get("new")
    jobs.table.change("live", status="done")


# -- a real model -----------------------------------------------------------------------------------------------------


@pytest.mark.models
@pytest.mark.slow
def test_a_real_run_cancelled_in_the_middle_ends_as_an_undisturbed_one(jobs, tmp_path, monkeypatch):
    """In the cache folder of all tests, where the model is converted already; at once, for the queue there is everybody's."""
    monkeypatch.delenv("SPARSESCOPE_CACHE")
    job = jobs.submit("weight_sparsity", "smollm2", now=True)
    job = until(jobs, job, lambda one: one.what == "tensors")
    assert jobs.cancel(job.id).status == "cancelled"
    job = ended(jobs, jobs.resume(job.id))
    other = Jobs(Store(tmp_path / "other"))
    undisturbed = ended(other, other.submit("weight_sparsity", "smollm2", now=True))
    for table in ("tensors", "totals"):
        assert jobs.store.read(job.run, table).equals(other.store.read(undisturbed.run, table))
