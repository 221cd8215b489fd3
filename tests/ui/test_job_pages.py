"""The pages around jobs, over a real catalogue: no process is started here, so every state can be set up by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

import analysis
from analysis.jobs import Jobs, processes
from tests.slow import SLOW
from tests.toy import HOSTILE, TOY, make_run
from tests.ui.test_pages import links_of, words_of
from ui import jobs

REGISTERED = (*analysis.ANALYSES, TOY, SLOW)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Slow and toy analyses registered; jobs are entered, but no process is started: this one stands for all of them."""
    monkeypatch.setenv("SPARSESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(analysis, "ANALYSES", REGISTERED)
    for module in ("ui.forms", "ui.cards", "ui.watching"):
        monkeypatch.setattr(f"{module}.ANALYSES", REGISTERED)
    monkeypatch.setattr(processes, "start", lambda *_: processes.identity())
    monkeypatch.setattr(processes, "stop", lambda *_: None)


@pytest.fixture
def weights(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"layer.weight": np.ones((4, 6), np.float32)}, tmp_path / "tiny.safetensors")
    return str(tmp_path / "tiny.safetensors")


@pytest.fixture
def desk(store):
    return Jobs(store)


@pytest.fixture
def job(desk, weights):
    return desk.submit("toy_slow", weights, config={"units": 7})


def unescaped(at):
    return words_of(at).replace("\\", "").replace("\u2060", "")


def errors(at):
    return [one.value.replace("\\", "").replace("\u2060", "") for one in at.error]


# -- states in words --------------------------------------------------------------------------------------------------


def test_each_state_of_a_job_is_a_sentence(desk, job, weights):
    table = desk.table
    assert jobs.state_words(table.get(job.id), [job]) == "About to begin."
    second = desk.submit("toy_slow", weights, config={"units": 8})
    table.change(job.id, status="running", started=datetime.now(UTC), what="units", done=3.0, total=7.0, seconds_left=75.2)
    live = jobs_of(desk)
    assert re.fullmatch(r"Units: 3 of 7; \S+ s passed, about 1 min 15 s left\.", jobs.state_words(live[0]))
    waiting = jobs.state_words(second, live)
    assert waiting == f"Waiting: first in line, behind Slow squares of {weights}. It begins by itself."
    table.change(job.id, status="failed", words="internal error: it broke; the log has the details", finished=datetime.now(UTC))
    assert jobs.state_words(table.get(job.id)).endswith("Internal error: it broke; the log has the details.")


def jobs_of(desk):
    return sorted(desk.list(("queued", "running")), key=lambda one: one.place)


# -- the job page -----------------------------------------------------------------------------------------------------


def test_a_live_job_shows_its_progress_its_log_and_a_way_to_stop_it(desk, job, open_page):
    desk.table.change(job.id, status="running", started=datetime.now(UTC), what="units", done=2.0, total=8.0)
    desk.table.logs.mkdir(exist_ok=True)
    desk.table.log_path(job.id).write_text(f"loading\n{HOSTILE}\n**bold**\n")
    at = open_page("pages/job.py", job=job.id)
    assert at.title[0].value == "Slow squares"
    bar = at.get("progress")[0].proto
    assert (bar.value, "2 of 8" in bar.text) == (25, True)
    assert any(HOSTILE in one.value and "**bold**" in one.value for one in at.code), "a log is shown as text"
    assert "run" not in {link.page for link in links_of(at)}, "a partial result is never offered as a finished one"
    at.button(key=f"stop-{job.id}").click().run()
    assert desk.get(job.id).status == "cancelled"
    assert "Cancelled" in unescaped(at)


def test_what_was_stopped_says_that_it_has_no_result_and_can_be_resumed(desk, job, open_page):
    desk.cancel(job.id)
    at = open_page("pages/job.py", job=job.id)
    assert "It has no result." in unescaped(at)
    at.button(key=f"resume-{job.id}").click().run()
    (again,) = desk.list(("queued",))
    assert again.resumes == job.id


def test_a_finished_job_leads_to_its_run_and_says_so_when_that_was_deleted(store, desk, job, open_page):
    run = make_run(store)
    desk.table.change(job.id, status="done", run=run.id, finished=datetime.now(UTC))
    at = open_page("pages/job.py", job=job.id)
    assert f"run={run.id}" in {link.query_string for link in links_of(at)}
    store.remove(run.id)
    assert "deleted since" in words_of(open_page("pages/job.py", job=job.id))


@pytest.mark.parametrize("reference", ["", "nosuch", HOSTILE, "../../etc/passwd"])
def test_an_unknown_job_is_a_sentence_with_a_way_on(store, open_page, reference):
    at = open_page("pages/job.py", job=reference)
    assert at.title[0].value in ("No such job", "No job chosen")
    assert "runs" in {link.page for link in links_of(at)}


# -- the form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", REGISTERED, ids=lambda a: a.slug)
def test_every_analysis_has_a_form_with_every_setting_its_meaning_and_its_default(store, open_page, weights, one):
    from analysis.spec import settings_of

    at = open_page("pages/start.py", analysis=one.slug, model=weights)
    text = unescaped(at)
    shown = {w.key: w.value for kind in (at.text_input, at.text_area, at.selectbox, at.checkbox) for w in kind}
    for setting in settings_of(one.config):
        assert str(shown[f"{one.slug}-{setting.name}"]) == str(setting.default)
        assert setting.help in text, setting.name
        if setting.type in (float, str) and not setting.choices:
            assert f"default {'empty' if setting.default == '' else setting.default}" in text, setting.name
    assert ("data" in shown) == one.reads_data


def test_the_form_starts_the_job_that_was_filled_in_and_goes_to_its_page(desk, open_page, weights):
    at = open_page("pages/start.py", analysis="toy_slow", model=weights, units="5")
    at.text_input(key="toy_slow-seconds").set_value("0.5")
    at.button[-2].click().run()
    (job,) = desk.list()
    assert (job.slug, job.model, job.config["units"], job.config["seconds"], job.origin) == ("toy_slow", weights, 5, 0.5, "page")
    assert at.title[0].value == "Slow squares"


def test_a_setting_outside_its_bounds_is_its_sentence_and_nothing_typed_is_lost(desk, open_page, weights):
    at = open_page("pages/start.py", analysis="toy_slow", model=weights)
    at.text_input(key="toy_slow-units").set_value("many")
    at.text_input(key="toy_slow-seconds").set_value("7")
    at.button[-2].click().run()
    assert errors(at) == ["units must be between 1 and 1,000, got 'many'; give another value (the default is 4)."]
    assert (at.text_input(key="toy_slow-units").value, at.text_input(key="toy_slow-seconds").value) == ("many", "7")
    assert desk.list() == []


def test_a_model_that_is_not_there_or_may_not_be_opened_is_a_sentence(desk, open_page, tmp_path):
    at = open_page("pages/start.py", analysis="toy_slow", model=str(tmp_path / "nowhere"))
    at.button[-2].click().run()
    assert "nowhere" in errors(at)[0]
    at = open_page("pages/start.py", analysis="toy_slow", model="/nowhere/model")
    assert "must lie inside of the folders" in errors(at)[0] and "/nowhere/model" in errors(at)[0] and not at.button
    assert desk.list() == []


def test_checking_shows_memory_and_the_command_and_starts_nothing(desk, open_page, weights):
    at = open_page("pages/start.py", analysis="toy_slow", model=weights, units="5")
    at.button[-1].click().run()
    assert "Needs about 1" in unescaped(at)
    (command,) = [one.value for one in at.code if one.value.startswith("python ")]
    assert command.startswith(f"python -m analysis run toy_slow --model {weights} --units 5 --store ")
    assert desk.list() == []


def test_opening_an_address_starts_nothing(desk, open_page, weights):
    for page in ("pages/start.py", "pages/runs.py", "pages/job.py", "pages/home.py"):
        open_page(page, analysis="toy_slow", model=weights, units="5", start="1", force="1")
    assert desk.list() == []


def test_why_an_analysis_cannot_run_is_said_before_anything_is_asked(store, open_page, weights):
    from analysis.jobs import reference

    store.known.add(reference(weights), name="tiny", label="tiny", source=weights, task=None, dtype="f", fingerprints={}, facts={})
    store.known.add_need(reference(weights), "toy_slow", 1, "it has no squares; give one that has.")
    at = open_page("pages/start.py", analysis="toy_slow", model=weights)
    assert "cannot be run on this model: it has no squares; give one that has." in unescaped(at)
    assert not at.text_input
    assert "cannot be run: it has no squares" in unescaped(open_page())


def test_a_model_nobody_has_opened_can_be_looked_at_first(desk, open_page, weights):
    at = open_page("pages/start.py", analysis="toy_slow", model=weights)
    next(b for b in at.button if b.label == "Look at this model first").click().run()
    (job,) = desk.list()
    assert (job.kind, job.model) == ("inspect", weights)


def test_the_command_of_a_hostile_model_is_one_word_to_a_shell(store):
    import shlex

    from ui import data

    assert shlex.split(data.command("x", "a; rm -rf /"))[5:7] == ["--model", "a; rm -rf /"]


# -- lists ------------------------------------------------------------------------------------------------------------


def test_the_first_action_on_an_empty_store_starts_the_quick_analyses(desk, open_page):
    at = open_page()
    at.button[0].click().run()
    assert not errors(at), errors(at)
    assert [(job.slug, job.model) for job in desk.list()] == [("neuron_activity", "smollm2"), ("weight_sparsity", "smollm2")]
    assert len(at.get("progress")) == 2


def test_a_job_asked_for_elsewhere_is_noticed_while_it_works_and_even_if_it_is_over_by_then(desk, weights, store):
    from ui.jobs import jobs_seen

    before = jobs_seen()
    assert before == jobs_seen() and not before.live
    job = desk.submit("toy_slow", weights, config={"units": 9}, origin="command line")
    working = jobs_seen()
    assert working != before and working.live == {job.id}
    desk.cancel(job.id)
    assert jobs_seen() != working and jobs_seen() != before and not jobs_seen().live


def test_runs_shows_what_is_at_work_first_then_filters_what_has_ended(store, desk, job, open_page):
    runs = [make_run(store), make_run(store, name="other")]
    at = open_page("pages/runs.py")
    assert len(at.get("progress")) == 1
    assert {f"run={run.id}" for run in runs} <= {link.query_string for link in links_of(at)}
    at.selectbox(key="model").select("other").run()
    shown = {link.query_string for link in links_of(at)}
    assert f"run={runs[1].id}" in shown
    assert f"run={runs[0].id}" not in shown


def test_a_long_list_is_paged(store, open_page):
    for i in range(23):
        make_run(store, n_layers=1, n_coins=1, seed=i)
    at = open_page("pages/runs.py")
    assert sum(link.page == "run" for link in links_of(at)) == 20
    assert "1 to 20 of 23 runs." in words_of(at)


def test_a_result_is_deleted_by_its_button_only(store, open_page):
    run, other = make_run(store), make_run(store, name="other")
    at = open_page("pages/runs.py", delete=run.id)
    assert run.path.exists()
    at.button(key=f"delete-{run.path.name}").click().run()
    assert not run.path.exists()
    assert [one.id for one in store.runs()] == [other.id]


def test_old_jobs_are_forgotten_after_so_many_days(desk, job, open_page, weights):
    desk.cancel(job.id)
    desk.table.change(job.id, only=("cancelled",), finished=datetime.now(UTC) - timedelta(days=40))
    fresh = desk.submit("toy_slow", weights, config={"units": 9})
    desk.cancel(fresh.id)
    at = open_page("pages/runs.py")
    next(b for b in at.button if b.label == "Forget old jobs").click().run()
    assert [one.id for one in desk.list()] == [fresh.id]


def test_an_ended_job_shows_how_it_ended(desk, job, open_page):
    desk.cancel(job.id)
    at = open_page("pages/runs.py", show="Jobs that ended")
    assert "Cancelled" in unescaped(at)
    assert f"job={job.id}" in {link.query_string for link in links_of(at)}
    at.button(key=f"forget-{job.id}").click().run()
    assert desk.list() == []


def test_two_models_of_one_name_with_other_weights_are_two_cards(store, open_page):
    from ui.library import library

    make_run(store)
    store.known.add("/b", name="toy-model", label="b", source="/b", task=None, dtype="f", fingerprints={"weights": "other"}, facts={})
    assert [entry.ref for entry in library(store.runs(), store.models())] == ["/b", "made in the test"]


def test_data_outside_of_the_allowed_folders_are_not_read(desk, open_page, weights, tmp_path):
    from analysis.spec import UserError
    from ui.folders import check_data

    (tmp_path / "own.txt").write_text("mine")
    assert check_data("python-docs") == "python-docs" and check_data(str(tmp_path / "own.txt")) == str(tmp_path / "own.txt")
    for outside in ("/etc/passwd", "/etc/passwd?split=train", str(tmp_path / ".." / ".." / "x.txt"), "~/x.txt"):
        with pytest.raises(UserError, match="must lie inside of the folders"):
            check_data(outside)
