"""The field for an SAE: a path must lie in an allowed folder; runs and releases are no paths; the command says what was typed."""

from __future__ import annotations

import pytest

from analysis import find_analysis
from analysis.given_sae import SAE, SAE_WORDS
from analysis.models.files.header import quoted
from analysis.spec import UserError
from tests.latents.saes import saved
from tests.latents.test_given_sae import READER
from ui.forms import Filled, checked, told
from ui.serve import FOLDERS_VARIABLE


@pytest.fixture
def reader(monkeypatch):
    import analysis

    every = (*analysis.ANALYSES, READER)
    monkeypatch.setattr(analysis, "ANALYSES", every)
    monkeypatch.setattr("ui.forms.ANALYSES", every)
    return find_analysis(READER.slug)


def test_an_sae_outside_of_the_allowed_folders_is_not_looked_at(store, reader, tmp_path, monkeypatch):
    inside, outside = saved(tmp_path / "mine" / "sae"), saved(tmp_path / "theirs" / "sae")
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "mine"))
    assert checked(reader, "minilm", Filled(inputs={SAE: str(inside)})).inputs == {SAE: str(inside)}
    refusals = set()
    for path in (outside, tmp_path / "theirs" / "gone"):
        with pytest.raises(UserError) as caught:
            checked(reader, "minilm", Filled(inputs={SAE: str(path)}))
        refusals.add(str(caught.value).replace(quoted(str(path)), "X"))
    assert len(refusals) == 1  # whether or not anything is there


def test_runs_and_releases_are_no_paths(store, reader):
    for ref in ("0123abcd-1", "gpt2-small-res-jb:blocks.8.hook_resid_pre"):
        assert checked(reader, "minilm", Filled(inputs={SAE: ref})).inputs == {SAE: ref}


def test_the_command_that_asks_for_the_same_names_the_sae(store, reader, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("ui.forms.st.code", lambda text, **_: shown.append(text))
    folder = saved(tmp_path / "my sae")
    told(checked(reader, "minilm", Filled(inputs={SAE: str(folder)})))
    assert f"--with 'sae={folder}'" in shown[0]


def test_the_form_has_a_field_for_an_sae(store, reader, open_page, tmp_path):
    folder = saved(tmp_path / "sae")
    at = open_page("pages/start.py", analysis=READER.slug, model="minilm", sae=str(folder))
    field = next(one for one in at.text_input if one.key == "input-sae")
    assert (field.value, field.help) == (str(folder), SAE_WORDS)
