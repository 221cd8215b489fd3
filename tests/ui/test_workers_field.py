"""Who computes, in the form of a question: offered where the question can be divided, checked in a sentence, told as a command."""

from __future__ import annotations

import pytest

from analysis import find_analysis
from analysis.executors.choice import CLUSTER
from analysis.spec import UserError
from ui.forms import Filled, checked, told


def command(spec, monkeypatch):
    shown = []
    monkeypatch.setattr("ui.forms.st.code", lambda text, **_: shown.append(text))
    told(spec)
    return shown[0]


def test_the_field_is_there_where_the_question_can_be_divided_and_nowhere_else(store, open_page):
    at = open_page("pages/start.py", analysis="matrix_sensitivity", model="smollm2", workers="2")
    assert next(one for one in at.text_input if one.key == "workers").value == "2"
    at = open_page("pages/start.py", analysis="weight_sparsity", model="smollm2")
    assert "workers" not in [one.key for one in at.text_input]
    assert "executor" not in [one.key for one in at.selectbox]


def test_a_cluster_is_offered_only_where_whoever_serves_has_named_one(store, open_page, monkeypatch):
    monkeypatch.setenv(CLUSTER, "10.0.0.5:6379")
    at = open_page("pages/start.py", analysis="matrix_sensitivity", model="smollm2")
    assert next(one for one in at.selectbox if one.key == "executor").options == ["This machine", "The Ray cluster"]


def test_the_command_that_asks_for_the_same_names_the_workers(store, monkeypatch):
    analysis = find_analysis("matrix_sensitivity")
    alone, shared, most = (command(checked(analysis, "smollm2", Filled(workers=n)), monkeypatch) for n in ("1", "2", "auto"))
    assert "--workers" not in alone
    assert shared.endswith(" --executor local --workers 2")
    assert most.endswith(" --executor local --workers auto")


def test_what_is_no_number_of_workers_is_refused_in_a_sentence(store):
    with pytest.raises(UserError, match="^workers must be a whole number from 1, or auto, got 'many'; leave it out for one process.$"):
        checked(find_analysis("matrix_sensitivity"), "smollm2", Filled(workers="many"))
