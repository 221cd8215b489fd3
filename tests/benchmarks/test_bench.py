"""`make bench`: results as lines, what a page says of them, and going on after an interruption."""

from __future__ import annotations

import importlib.util
import json
import time

import pytest

from benchmarks import __main__ as bench
from benchmarks import report, words
from benchmarks.listed import BENCHMARKS, QUICK_MINUTES, Benchmark
from benchmarks.peers import PEERS, Found, Peer, found
from benchmarks.results import FILE, Result, emit, in_turns
from benchmarks.running import Outcome, keep, kept, run

OURS = [(1.0, 2.0), (3.0, 2.0), (2.0, 2.0)]
OTHERS = [(2.0, 1.0), (2.0, 1.0), (2.0, 1.0)]


def row(**more):
    """A result as it comes back from its file."""
    return json.loads(json.dumps(vars(in_turns("work", "ours", "theirs", OURS, OTHERS, **more))))


def test_a_ratio_is_of_each_round_and_its_median_decides_whether_the_target_is_met():
    found_ = in_turns("work", "ours", "floor", OURS, OTHERS, 1.0)
    assert found_.wall == (1.0, 0.5, 1.5) and found_.processor == (2.0, 2.0, 2.0)
    assert found_.met is True and in_turns("work", "ours", "floor", OURS, OTHERS, 0.99).met is False
    assert in_turns("work", "ours", "floor", OURS, OTHERS).met is None, "no target, nothing to meet"


def test_results_are_lines_in_the_file_the_environment_names_and_go_nowhere_without(tmp_path, monkeypatch):
    monkeypatch.delenv(FILE, raising=False)
    emit(Result("a", "b"))
    monkeypatch.setenv(FILE, str(tmp_path / "out"))
    emit(Result("a", "b", seconds=1.5))
    emit(Result("c", "d"))
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [(one["what"], one["seconds"]) for one in lines] == [("a", 1.5), ("c", None)]


@pytest.mark.parametrize(("value", "said"), [(2.5, "2.5 s"), (0.25, "250 ms"), (0.0123, "12.3 ms"), (1.9e-9, "1.9 ns"), (250.0, "250 s")])
def test_seconds_come_in_the_unit_that_fits(value, said):
    assert words.seconds(value) == said


def test_a_peer_that_is_faster_is_named_and_a_floor_is_no_rival():
    slower = row(peer=True) | {"wall": [1.3, 1.1, 1.4]}
    assert words.slower(slower) and "slower than theirs: 1.30 x (1.10 to 1.40)" in words.shortfall(slower)
    assert not words.slower(row(peer=False) | {"wall": [1.3, 1.1, 1.4]}), "the bare pass is always faster: that is no defeat"
    assert words.shortfall(row(limit=1.0)) == ""
    assert "misses its target" in words.shortfall(row(limit=0.9))


def test_every_listed_benchmark_is_a_module_whose_peers_are_known_and_all_fit_into_the_time_of_quick():
    peers = {peer.name for peer in PEERS}
    for one in BENCHMARKS:
        assert importlib.util.find_spec(f"benchmarks.{one.module}") is not None, one.name
        assert set(one.peers) <= peers
    assert sum(one.minutes for one in BENCHMARKS if one.quick is not None) <= QUICK_MINUTES
    assert len({one.name for one in BENCHMARKS}) == len(BENCHMARKS)


def test_a_peer_that_cannot_be_had_is_a_sentence_and_no_error(tmp_path):
    gone = found(Peer("Nobody", "no-such-package", "no_such_module"), tmp_path)
    assert gone.python == "" and "not installed" in gone.reason


def test_what_was_done_before_an_interruption_is_taken_over_and_not_done_again(tmp_path, monkeypatch):
    going = tmp_path / "results.jsonl"
    keep(going, Outcome("first", "done", arguments=("--rounds", "3"), seconds=60.0, results=(row(),)))
    ran = []
    monkeypatch.setattr(bench, "_one", lambda one, *_: ran.append(one.name) or Outcome(one.name, "done"))
    chosen = [Benchmark(name, "sweep", "", (), (), 1) for name in ("first", "second")]
    outcomes = bench._all(chosen, "quick", {}, going)
    assert ran == ["second"] and [one.name for one in outcomes] == ["first", "second"]
    assert [one.name for one in kept(going)] == ["first", "second"]
    assert kept(going)[0].results[0]["wall"] == [1.0, 0.5, 1.5]


def test_quick_leaves_out_what_no_longer_fits_and_says_so():
    long = Benchmark("long", "sweep", "", (), (), 10)
    assert "used up" in bench._one(long, "quick", {}, 60 * (QUICK_MINUTES - 1)).reason
    never = Benchmark("never", "sweep", "", None, (), 10)
    assert bench._one(never, "quick", {}, 0).status == "left out"


def test_a_child_that_hangs_is_stopped_and_what_it_had_found_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("benchmarks.running.ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "hangs.py").write_text(
        "import os, time\nopen(os.environ['SPARSESCOPE_BENCH_RESULTS'], 'w').write('{\"what\": \"half\"}\\n')\ntime.sleep(60)\n"
    )
    (tmp_path / "benchmarks" / "fails.py").write_text("raise SystemExit('the model must be there, got none; name another.')\n")
    began = time.monotonic()
    hung = run(Benchmark("hangs", "hangs", "", (), (), 1), (), {}, tmp_path, 2.0)
    assert time.monotonic() - began < 20 and hung.status == "failed" and hung.results[0]["what"] == "half"
    failed = run(Benchmark("fails", "fails", "", (), (), 1, ("X",)), (), {"X": Found("X", "", "", "is gone")}, tmp_path, 30.0)
    assert failed.status == "failed" and "the model must be there" in failed.reason


def test_the_page_has_a_row_for_each_result_and_says_what_is_missed_left_out_and_without_a_peer(tmp_path):
    asked = vars(Result("table of neurons", "the page's questions", seconds=0.2, worst_seconds=0.9, target="at most 300 ms", met=True))
    outcomes = [
        Outcome("capture", "done", results=(row(limit=0.9, peak_mb=100.0, beside_peak_mb=50.0),), arguments=("--rounds", "3"), seconds=60),
        Outcome("pages", "done", results=(asked,)),
        Outcome("sweep", "failed", "ended with exit status 1: no"),
    ]
    report.write(tmp_path / "benchmarks.md", outcomes, {"W": Found("WeightWatcher", "", "", "could not be installed: no network")}, "quick")
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| work | ours | theirs | 2 s | 2 s | 1.00 x (0.50 to 1.50) | 2.00 x | 100 / 50 |" in page
    assert "200 ms, p99 900 ms" in page and "1 of 2 targets are met" in page
    assert "make profile WHAT=capture" in page and "sweep: failed" in page and "no network" in page and "kernel: not reached" in page
    for name in ("ratios", "memory", "queries"):
        assert "<svg" in (tmp_path / f"benchmarks-{name}.svg").read_text() and f"benchmarks-{name}.svg" in page
