"""Kills, full disks and neighbours: the claims about several processes, tried with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from store import NoSpace, RunLocked, Store

WHOLE = {"units": 2, "rows": 500}


def whole_and_alone(store, key, reference, harness) -> None:
    """What is visible after a kill is nothing or the whole run; finishing it gives the rows of an undisturbed one."""
    seen = [name for name in os.listdir(store.runs_folder) if name.endswith(".duckdb") and name.startswith(key)]
    assert seen in ([], [f"{key}-1.duckdb"])
    if seen:
        assert store.read(store.runs_folder / seen[0], "neurons").equals(reference)
    path = harness.work(store, key, **WHOLE)
    assert path.name == f"{key}-1.duckdb"
    assert store.read(path, "neurons").equals(reference)
    assert store.find(key).status == "sealed"
    with store.begin(key, harness.RECORD):
        pass  # a begin tidies what a kill after publication left
    assert [name for name in os.listdir(store.runs_folder) if key in name] == [path.name]


@pytest.fixture(scope="module")
def reference(harness, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("reference"))
    return store.read(harness.work(store, "whole", **WHOLE), "neurons")


@pytest.mark.slow
def test_a_kill_at_any_durable_step_leaves_nothing_half_and_a_resume_finishes(store, harness, trial, reference):
    step, status = 0, signal.SIGKILL
    while status:
        step += 1
        status, _ = trial(store.folder, f"step{step}x", **WHOLE, kill_at=step)
        assert status in (0, -signal.SIGKILL)
        if status:
            whole_and_alone(store, f"step{step}x", reference, harness)
    assert step > 25  # parts, sealing, publishing and tidying all have durable steps
    assert len(store.runs()) == step


@pytest.mark.slow
def test_a_kill_at_twelve_moments_leaves_nothing_half_and_a_resume_finishes(store, harness, trial, reference):
    trial(store.folder, "warm", **WHOLE)
    status, seconds = trial(store.folder, "undisturbed", **WHOLE)
    assert status == 0
    killed = 0
    for i in range(12):
        status, _ = trial(store.folder, f"moment{i}x", **WHOLE, kill_at=seconds * (i + 0.5) / 12)
        killed += status != 0
        whole_and_alone(store, f"moment{i}x", reference, harness)
    assert killed >= 4  # the last ones may finish in time, and more of them when the machine gets less busy


LIMITED = """
import resource, sys
import harness
from store import NoSpace, Store
folder, limit, units, rows = sys.argv[1], *map(int, sys.argv[2:])
store = Store(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    harness.work(store, "k1", units=units, rows=rows)
except NoSpace as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limit", "units", "rows", "kept"),
    [(300_000, 3, 20_000, 3), (60_000, 2, 20_000, 0), (60_000, 1, 20_000, 0), (600_000, 30, 20_000, 30)],
)
def test_no_space_is_a_sentence_and_the_next_run_finishes(store, harness, child, limit, units, rows, kept):
    out, err = child(LIMITED, store.folder, limit, units, rows).communicate()
    assert "must have room for about" in out, err
    assert "free" in out
    assert [name for name in os.listdir(store.runs_folder) if "tmp" in name or name.endswith(".duckdb")] == []
    with store.begin("k1", harness.RECORD) as attempt:
        assert len(attempt.done()) == kept
    path = harness.work(store, "k1", units=units, rows=rows)
    assert store.count(path, "neurons") == units * rows


def test_no_space_in_the_middle_keeps_the_units_before(store, harness, monkeypatch):
    import errno

    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 0", harness.unit_rows(0, 5))

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(NoSpace, match="the 1 finished units are kept"):
            patch.setattr("store.attempt.write_synced", full)
            attempt.commit("layer 1", harness.unit_rows(1, 5))
        attempt.commit("layer 1", harness.unit_rows(1, 5))
        assert attempt.rows("neurons") == 10


HOLD = """
import sys
import harness
from store import Store
with Store(sys.argv[1]).begin("k1", harness.RECORD) as attempt:
    attempt.commit("layer 2", harness.unit_rows(2, 50))
    print("holding", flush=True)
    sys.stdin.readline()
"""


def test_the_second_process_on_a_key_is_told_who_has_it_and_since_when(store, harness, child):
    holder = child(HOLD, store.folder)
    assert holder.stdout.readline() == "holding\n"
    with pytest.raises(RunLocked, match=rf"run k1 .* process {holder.pid} since {time.strftime('%Y-%m-%d')}"):
        store.begin("k1", harness.RECORD)
    with store.begin("k2", harness.RECORD):
        pass  # other keys are free
    holder.kill()
    holder.wait()
    with store.begin("k1", harness.RECORD) as attempt:
        assert attempt.done() == {"layer 2"}
    for stream in (holder.stdin, holder.stdout, holder.stderr):
        stream.close()


def test_of_several_that_begin_at_once_exactly_one_works(store, harness, child):
    program = HOLD.replace("with Store", "store = Store(sys.argv[1]); sys.stdin.readline()\nwith Store")
    children = [child(program, store.folder) for _ in range(4)]
    time.sleep(1.5)
    for one in children:
        one.stdin.write("go\n")
        one.stdin.flush()
    deadline = time.monotonic() + 30
    while sum(one.poll() is None for one in children) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    (winner,) = [one for one in children if one.poll() is None]
    errors = [one.communicate()[1] for one in children if one is not winner]
    assert all("RunLocked: run k1 must be free" in error for error in errors), errors
    winner.communicate("done\n")
    assert winner.returncode == 0


def test_the_same_process_cannot_begin_a_key_twice(store, harness):
    with store.begin("k1", harness.RECORD), pytest.raises(RunLocked, match=f"process {os.getpid()} since"):
        store.begin("k1", harness.RECORD)


READ = """
import sys
from store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
answers = set()
for _ in range(60):
    answers.add((store.count("first", "neurons"), store.read("first", "neurons", columns=["layer"]).layer.sum().item()))
    assert all(store.count(run, "neurons") == 150 for run in store.runs())
print(answers, flush=True)
"""


def test_readers_in_other_processes_are_not_disturbed_by_sealing(store, harness, child):
    harness.work(store, "first")
    readers = [child(READ, store.folder) for _ in range(2)]
    for one in readers:
        assert one.stdout.readline() == "ready\n", one.stderr.read()
    sealed = 0
    while any(one.poll() is None for one in readers) and sealed < 40:
        harness.work(store, f"other{sealed}")
        sealed += 1
    for one in readers:
        out, err = one.communicate()
        assert out == "{(150, 150)}\n", err
    assert sealed > 1


def test_many_processes_may_make_the_store_at_once(tmp_path, child):
    program = "import sys\nfrom store import Store\nsys.stdin.readline()\nprint(len(Store(sys.argv[1]).runs()))"
    children = [child(program, tmp_path / "new") for _ in range(4)]
    time.sleep(1)
    assert [one.communicate("go\n") for one in children] == [("0\n", "")] * 4


def test_a_forked_child_reads_with_connections_of_its_own(store, harness):
    path = harness.work(store, "k1")
    assert store.count(path, "neurons") == 150
    program = os.fork()
    if program == 0:
        right = len(store.read(path, "neurons", order_by=["density"])) == 150
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]) == 0


def test_importing_the_store_loads_no_heavy_library(child):
    program = "import sys, store\nprint([m for m in ('duckdb', 'pandas', 'pyarrow', 'numpy', 'torch', 'analysis') if m in sys.modules])"
    process: subprocess.Popen[str] = child(program)
    assert process.communicate() == ("[]\n", "")
