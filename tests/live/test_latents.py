"""Latents of an SAE, asked of a reader in this process: their activations are the SAE's own, and what is no latent is a sentence."""

from __future__ import annotations

import pytest
import torch

from analysis.given_sae import given_sae
from analysis.latents.places import place_named, places, reading
from analysis.live.latents import Latents
from analysis.live.question import Question
from analysis.spec import UserError
from store import Store
from tests.latent_run import HEADS, make_saes, subject

IDS = torch.tensor([[3, 5, 8, 13, 21, 34, 55]])


@pytest.fixture(scope="module", params=["blocks.1.hook_resid_post", HEADS])
def trained(request, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("latents") / "store")
    found = make_saes(store, place=request.param)[0]
    yield store, found
    store.close()


def question(ref, *latents):
    return Question("words", ("not looked at",), latents, sae=ref)


def test_a_latent_does_on_a_text_what_its_sae_says_of_what_flows_there(trained):
    store, run = trained
    model, dictionary = subject(), given_sae(store, run.id)
    place = place_named(places(model.model, {"input_ids": IDS}, names=model.hook_names()), run.config["place"])
    seen = []
    with reading(model.model, [place], lambda _, values, rows: seen.append(values.clone())) as session:
        session.run({"input_ids": IDS})
    expected = dictionary.encode(seen[0])
    active = int(expected.sum(0).argmax())
    units = Latents(model, str(store.folder)).units(question(run.id, active, 0), {"input_ids": IDS}, 7)
    assert [unit["neuron"] for unit in units] == [active, 0]
    assert units[0]["activations"] == pytest.approx(expected[:, active].tolist(), rel=1e-5)
    assert units[0]["active"] == [value != 0 for value in expected[:, active].tolist()] and any(units[0]["active"])
    assert units[0]["hook_name"] == run.config["place"] and "not exactly zero" in units[0]["rule"]


def test_a_latent_or_an_sae_that_is_not_there_is_refused_in_a_sentence(trained):
    store, run = trained
    latents = Latents(subject(), str(store.folder))
    with pytest.raises(UserError, match="latent must be between 0 and 39, got 40"):
        latents.check(question(run.id, 40))
    with pytest.raises(UserError, match="id of a run of sae_train"):
        latents.check(question("feedbeef-1", 0))


def test_a_question_names_its_sae_and_comes_back_from_json_as_it_was():
    asked = question("0123abcd-1", 3)
    assert Question.from_json(asked.as_json()) == asked
    assert Question.from_json({**asked.as_json(), "sae": ""}).sae == ""
    for wrong in (7, "x" * 5000, None):
        with pytest.raises(UserError, match="the SAE must be named in at most"):
            Question.from_json({**asked.as_json(), "sae": wrong})
