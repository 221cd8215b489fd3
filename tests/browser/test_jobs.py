"""Jobs in a real browser: real server, real child processes, walked through as a newcomer would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import analysis
from analysis.jobs import Jobs, processes
from store import Store
from store.jobs import LIVE
from tests.browser.conftest import start, stop
from tests.browser.test_first_walk import at_rest
from tests.slow import SLOW
from tests.toy import HOSTILE
from ui.serve import ENTRY, ROOT


class Bench:
    """A store of its own, a queue of its own, and servers that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.desk = Jobs(self.store)
        self.weights = str(folder / "tiny.safetensors")
        save_file({"layer.weight": np.ones((4, 6), np.float32)}, self.weights)
        self._log = open(folder / "server.log", "w+")  # noqa: SIM115 - closed in `close`
        self.serve()

    def serve(self):
        self.process, self.url = start(self.store.folder, self._log, ENTRY)

    def stop(self):
        stop(self.process)

    def close(self):
        self.stop()
        for job in self.desk.table.all(LIVE):
            processes.stop(processes.Identity(job.host, job.pid, job.process_start), grace=0)
        self._log.close()
        self.store.close()

    def form(self, **settings):
        return f"{self.url}/start?" + urllib.parse.urlencode({"analysis": "toy_slow", "model": self.weights} | settings)

    def job(self, status, seconds=60):
        """The newest job, once it has that status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.desk.list(limit=1)
            if found and found[0].status == status:
                return found[0]
            time.sleep(0.1)
        raise AssertionError(f"no {status} job, but {self.desk.list()}")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPARSESCOPE_EXTRA_ANALYSES", "tests.slow:SLOW")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(analysis, "ANALYSES", (*analysis.ANALYSES, SLOW))
    made = Bench(tmp_path)
    yield made
    made.close()


def start_it(page):
    page.get_by_role("button", name=re.compile("Start$")).click()
    page.wait_for_url(re.compile(r"/job\?job="))


def test_the_walk_from_the_form_over_the_progress_to_the_result(bench, page):
    page.goto(bench.form(units=6, seconds=1.0))
    page.get_by_role("heading", name="Start an analysis").wait_for()
    start_it(page)
    page.get_by_role("heading", name="Slow squares").wait_for()
    page.get_by_text(re.compile(r"Units: \d of 6; .* left")).wait_for()
    assert page.get_by_role("link", name="See the result").count() == 0
    page.get_by_text("Done after").wait_for()
    page.get_by_role("link", name="See the result").click()
    page.wait_for_url(re.compile(r"/run\?run="))
    page.get_by_text("Rows 1 to 6 of 6 rows.").wait_for()


def test_a_job_is_cancelled_after_a_question_and_resumed_where_it_stopped(bench, page):
    trace = bench.folder / "trace"
    page.goto(bench.form(units=8, seconds=0.7, trace=trace))
    start_it(page)
    page.get_by_text(re.compile(r"Units: [2-8] of 8")).wait_for()
    page.get_by_role("button", name=re.compile("Cancel")).click()
    page.get_by_role("button", name="Stop it").click()
    page.get_by_text("It has no result.").wait_for()
    assert bench.job("cancelled").run is None
    page.get_by_role("button", name=re.compile("Resume")).click()
    page.get_by_text("Done after").wait_for()
    begun = trace.read_text().split()
    assert len(begun) <= 9, f"finished units were done again: {begun}"
    rows = bench.store.read(bench.job("done").run, "squares")
    assert sorted(rows["square"]) == [i * i for i in range(8)]


def test_a_reload_and_a_new_server_in_the_middle_show_the_same_job_going_on(bench, new_page):
    page = new_page(expect=("ERR_CONNECTION", "WebSocket", "Failed to", "disconnected", "reaching server", "not responding"))
    page.goto(bench.form(units=40, seconds=0.5))
    start_it(page)
    page.get_by_text(re.compile(r"Units: \d+ of 40")).wait_for()
    page.reload()
    page.get_by_text(re.compile(r"Units: \d+ of 40")).wait_for()
    job = bench.job("running")
    bench.stop()
    bench.serve()
    page.goto(f"{bench.url}/job?job={job.id}")
    page.get_by_text(re.compile(r"Units: \d+ of 40")).wait_for()
    assert (bench.job("running").id, bench.job("running").pid) == (job.id, job.pid)
    page.get_by_role("button", name=re.compile("Cancel")).click()
    page.get_by_role("button", name="Stop it").click()
    page.get_by_text("It has no result.").wait_for()


def test_two_browsers_and_a_command_line_run_do_not_disturb_each_other(bench, new_page):
    one, other = new_page(), new_page()
    one.goto(bench.form(units=6, seconds=1.0))
    start_it(one)
    one.get_by_text(re.compile(r"Units: \d of 6")).wait_for()
    command = [sys.executable, "-m", "analysis", "run", "toy_slow", "--model", bench.weights, "--units", "3", "--store", bench.store.folder]
    line = subprocess.Popen([*map(str, command)], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    other.goto(bench.form(units=2))
    start_it(other)
    other.get_by_text(re.compile("Waiting: (first|second) in line, behind Slow squares")).wait_for()
    other.goto(f"{bench.url}/runs")
    other.get_by_role("heading", name="At work").wait_for()
    one.get_by_text("Done after").wait_for()
    assert line.wait(60) == 0, line.stderr.read()
    other.get_by_text("Nothing is running or waiting.").wait_for()
    assert {run.config["units"] for run in bench.store.runs()} == {6, 3, 2}
    assert {job.status for job in bench.desk.list()} == {"done"}


def test_home_shows_a_job_of_the_command_line_and_its_result_without_being_touched(bench, page):
    page.goto(bench.url)
    page.get_by_role("button", name=re.compile("Analyse the bundled model")).wait_for()
    at_rest(page)
    bench.desk.submit("toy_slow", bench.weights, config={"units": 8, "seconds": 1.0}, origin="command line")
    page.get_by_role("heading", name="At work").wait_for()
    page.get_by_text(re.compile(r"Units: \d of 8")).wait_for()
    page.get_by_role("heading", name="tiny").wait_for()
    page.get_by_role("heading", name="At work").wait_for(state="hidden")
    page.get_by_role("link", name="Slow squares").first.wait_for()


def test_a_bad_setting_is_answered_beside_the_form_and_nothing_is_lost(bench, page):
    page.goto(bench.form())
    page.get_by_label("seconds (seconds)").fill("7")
    page.get_by_label("units", exact=True).fill("many")
    page.get_by_role("button", name=re.compile("Start$")).click()
    page.get_by_text("units must be between 1 and 1,000, got 'many'").wait_for()
    assert page.get_by_label("units", exact=True).input_value() == "many"
    assert page.get_by_label("seconds (seconds)").input_value() == "7"
    assert bench.desk.list() == []


def test_a_log_and_a_model_name_are_text(bench, page):
    hostile = bench.folder / f"{HOSTILE.replace('/', '')}.safetensors"
    Path(bench.weights).rename(hostile)
    job = bench.desk.submit("toy_slow", str(hostile), config={"units": 1})
    bench.job("done")
    for view in (f"job?job={job.id}", "runs?show=Jobs+that+ended", "start?" + urllib.parse.urlencode({"model": HOSTILE}), ""):
        page.goto(f"{bench.url}/{view}")
        page.get_by_text("onerror").or_(page.locator("input[value*=onerror]")).first.wait_for()
        at_rest(page)
        assert page.locator("img[src='x']").count() == 0
        assert page.locator("[onerror]").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_on_the_pages_around_jobs(bench, new_page, axe, dark):
    page = new_page(dark=dark)
    failed = bench.desk.submit("toy_slow", bench.weights, config={"units": 2, "fail_at": 1})
    bench.job("failed")
    running = bench.desk.submit("toy_slow", bench.weights, config={"units": 100, "seconds": 1.0})
    bench.job("running")
    views = ["/", "/runs", "/runs?show=Jobs+that+ended", f"/job?job={failed.id}", f"/job?job={running.id}", bench.form()[len(bench.url) :]]
    faults = []
    for view in views:
        page.goto(bench.url + view)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(1500)
        faults += [f"{view}: {fault}" for fault in axe(page)]
    assert not faults, "\n".join(faults)


@pytest.mark.models
def test_a_newcomers_walk_on_a_real_model(bench, page):
    page.goto(bench.url)
    page.get_by_role("button", name=re.compile("Analyse the bundled model")).wait_for()
    page.goto(f"{bench.url}/start?analysis=weight_sparsity&model=minilm")
    start_it(page)
    page.get_by_text("Done after").wait_for(timeout=180_000)
    page.get_by_role("link", name="See the result").click()
    page.locator(".js-plotly-plot").first.wait_for()
    page.goto(bench.url)
    page.get_by_role("heading", name="minilm").wait_for()
    assert "Bar code over 6 layers" in page.locator("img[alt*='Bar code']").first.get_attribute("alt")
    page.get_by_role("link", name="Neuron activity").first.wait_for()
