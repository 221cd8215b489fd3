"""Ways between neurons, heads and tensors of one model, over real sealed runs of a small seeded one; and what removing them does."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis import find_analysis
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.spec import make_config
from store import Filter, Store
from tests import zoo
from tests.ui.test_pages import links_of, words_of
from ui import data
from ui.attention.heads import places_of
from ui.neighbours import matrices, places_around
from ui.removal import GROUP, HEAD, candidate, level_words, measured
from ui.serve import STORE_VARIABLE

HEAD_PAGE, NEURON, TENSOR = "pages/head.py", "pages/neuron.py", "pages/tensor.py"
ASKED = {
    "weight_sparsity": {},
    "head_sparsity": {},
    "neuron_activity": {"n_tokens": 240},
    "matrix_sensitivity": {"units": "heads, ffn", "group_levels": "0.5, 1", "refine": 0, "ffn_groups": 2},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The runs of one model, by analysis."""
    store = Store(tmp_path_factory.mktemp("neighbours") / "store")
    ids = np.random.default_rng(0).integers(0, 50, (60, 12))
    subject = subject_from(zoo.llama()[0], name="tiny", data=TextWindows.from_ids(ids, document=np.arange(60) // 2))
    return store, {
        slug: run(found := find_analysis(slug), {"model": subject}, make_config(found.config, asked), store)
        for slug, asked in ASKED.items()
    }


@pytest.fixture
def shown(made, monkeypatch):
    store, runs = made
    monkeypatch.setenv(STORE_VARIABLE, str(store.folder))
    return runs


@pytest.fixture
def only(made, store):
    """Some of the runs, in a store of their own."""

    def of(*slugs):
        for slug in slugs:
            path = store.folder / "runs" / made[1][slug].path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made[1][slug].path, path)
            store.register(path)

    return of


def head_of(runs, layer, head):
    place = next(one for one in places_of(runs["head_sparsity"]) if one.layer == layer)
    return {"run": runs["head_sparsity"].id, "layer": str(layer), "hook": place.hook_name, "head": str(head)}


def neuron_of(runs, layer, neuron):
    return {"run": runs["neuron_activity"].id, "layer": str(layer), "neuron": str(neuron)}


def said_of(at):
    return re.sub(r"[\\\u2060]", "", words_of(at))


def queries_of(at, page):
    return [link.query_string for link in links_of(at) if link.page == page]


# -- matrices ---------------------------------------------------------------------------------------------------------


def test_a_head_leads_to_the_four_matrices_it_is_part_of(shown, open_page):
    found = queries_of(open_page(HEAD_PAGE, **head_of(shown, 1, 2)), "tensor")
    assert sorted(re.search(r"tensor=.*\.(\w)_proj", query)[1] for query in found) == ["k", "o", "q", "v"]
    assert all(f"run={shown['weight_sparsity'].id}" in query and ".1." in query for query in found)


def test_a_neuron_leads_to_the_matrices_it_is_part_of(shown, open_page):
    found = queries_of(open_page(NEURON, **neuron_of(shown, 0, 3)), "tensor")
    assert sorted(re.search(r"mlp\.(\w+)_proj", query)[1] for query in found) == ["down", "gate", "up"]
    assert all(".0." in query for query in found)


def test_an_attention_matrix_leads_to_every_head_of_its_layer_and_to_their_page(shown, open_page):
    run_ = shown["weight_sparsity"]
    at = open_page(TENSOR, run=run_.id, tensor="model.layers.1.self_attn.q_proj.weight")
    heads = queries_of(at, "head")
    assert [re.search(r"head=(\d+)", query)[1] for query in heads] == [str(i) for i in range(len(heads))] and len(heads) > 1
    assert all("layer=1" in query and shown["head_sparsity"].id in query for query in heads)
    [layer] = [query for query in queries_of(at, "attention") if "site" in query]
    assert "site=1" in layer


def test_without_measured_weights_a_head_says_how_to_measure_them(only, made, open_page):
    only("head_sparsity")
    at = open_page(HEAD_PAGE, **head_of(made[1], 0, 0))
    assert "The matrices themselves show once the model's weights have been measured." in said_of(at)
    assert any("analysis=weight_sparsity" in query for query in queries_of(at, "start"))
    assert queries_of(at, "tensor") == []


def test_matrices_are_those_of_the_hooks_own_module_where_its_name_is_told(shown):
    home = shown["weight_sparsity"]
    own = matrices(home, "attention", 1, "model.layers.1.self_attn.hook_out_sdpa")
    assert len(own) == 4 and own == matrices(home, "attention", 1, "blocks.1.attn.hook_z")
    assert matrices(home, "attention", 7, "model.layers.7.self_attn.hook_out") == []


def test_of_two_attentions_in_a_layer_a_matrix_belongs_to_the_one_it_lies_in():
    def place(name):
        return type("Place", (), {"layer": 2, "hook_name": name})()

    own, cross = place("decoder.2.self.hook_out"), place("decoder.2.cross.hook_out")
    assert places_around([own, cross], 2, "decoder.2.cross.v.weight") == [cross]
    assert places_around([own, cross], 2, "other.names.weight") == [own, cross]
    assert places_around([own, cross], 1, "decoder.2.cross.v.weight") == []


# -- if removed -------------------------------------------------------------------------------------------------------


def test_a_head_shows_the_measured_loss_of_its_own_removal_at_every_level(shown, open_page):
    at = open_page(HEAD_PAGE, **head_of(shown, 1, 2))
    where = (Filter("kind", "=", "head"), Filter("tensor", "=", "model.layers.1.self_attn head 2"))
    rows = data.rows(shown["matrix_sensitivity"], "matrix_points", where=where).sort_values("level").to_dict("records")
    assert [row["level"] for row in rows] == [0.5, 1.0]
    said = said_of(at)
    for row in rows:
        assert f"loss {row['delta']:+.3g} [{row['low']:+.3g} to {row['high']:+.3g}] {row['unit']}" in said
    assert f"All of its {rows[1]['n_weights']:,} weights removed" in said
    [query] = [query for query in queries_of(at, "sensitivity") if "matrix=" in query]
    assert "kind=head" in query and "head+2" in query


def test_a_neuron_shows_the_loss_without_its_group_and_that_it_was_not_removed_alone(shown, open_page):
    n = int(shown["neuron_activity"].summaries["layers"][0]["n_neurons"])
    first, last = (said_of(open_page(NEURON, **neuron_of(shown, 0, i))) for i in (0, n - 1))
    assert f"its group was: `model.layers.0.mlp neurons 0 to {n // 2 - 1}`" in first
    assert f"its group was: `model.layers.0.mlp neurons {n // 2} to {n - 1}`" in last
    assert "If removed" in first and "is not in this version" not in first


def test_what_was_not_removed_is_said_with_the_way_to_do_it(only, made, open_page):
    only("head_sparsity", "neuron_activity")
    for page, asked, units in ((HEAD_PAGE, head_of(made[1], 0, 0), "heads"), (NEURON, neuron_of(made[1], 0, 0), "ffn")):
        at = open_page(page, **asked)
        assert "has not been measured on this model." in said_of(at)
        assert any(f"--units {units}" in code.value and "run matrix_sensitivity" in code.value for code in at.code)
        assert any("analysis=matrix_sensitivity" in query and f"units={units}" in query for query in queries_of(at, "start"))


def test_the_link_to_all_that_were_measured_opens_that_head_there(shown, open_page):
    at = open_page("pages/sensitivity.py", model="tiny", kind="head", matrix="model.layers.1.self_attn head 2")
    assert "model.layers.1.self_attn head 2" in said_of(at)


def test_only_a_run_on_the_same_weights_that_removed_such_units_tells_of_them(shown):
    of = shown["head_sparsity"]
    assert measured(of, HEAD).id == shown["matrix_sensitivity"].id
    assert measured(of, "matrix") is None, "that run measured heads and groups of neurons"
    other = replace(of, provenance=of.provenance | {"fingerprints": {"model": {"weights": "other"}}})
    assert measured(other, HEAD) is None


def ranking(*names, kind=GROUP, layer=0):
    return [{"kind": kind, "tensor": name, "layer": layer} for name in names]


def test_a_unit_is_found_by_the_module_of_its_hook_else_by_its_layer_alone_and_never_guessed():
    groups = ranking("m.0.mlp neurons 0 to 9", "m.0.mlp neurons 10 to 19")
    assert candidate(groups, GROUP, 0, "blocks.0.mlp.hook_post", 9) == "m.0.mlp neurons 0 to 9"
    assert candidate(groups, GROUP, 0, "blocks.0.mlp.hook_post", 10) == "m.0.mlp neurons 10 to 19"
    assert candidate(groups, GROUP, 0, "blocks.0.mlp.hook_post", 20) is None
    assert candidate(groups, GROUP, 1, "blocks.1.mlp.hook_post", 0) is None
    two = ranking("d.0.self head 1", "d.0.cross head 1", kind=HEAD)
    assert candidate(two, HEAD, 0, "d.0.cross.hook_out", 1) == "d.0.cross head 1"
    assert candidate(two, HEAD, 0, "blocks.0.attn.hook_z", 1) is None
    assert candidate(ranking("d.0.self head 11", kind=HEAD), HEAD, 0, "d.0.self.hook_out", 1) is None


def test_a_level_that_noise_hides_or_that_breaks_the_model_is_said_to():
    row = {"level": 0.5, "n_weights": 1000, "delta": 0.01, "low": -0.02, "high": 0.04, "unit": "nats per token", "resolved": False}
    apart = "; not to be told apart from no change on so much data."
    assert level_words(row) == f"50.0 % of its 1,000 weights removed: loss +0.01 [-0.02 to +0.04] nats per token{apart}"
    assert not level_words(row | {"resolved": True}).endswith(apart)
    assert level_words(row | {"delta": None, "level": 1.0}) == "All of its 1,000 weights removed: the loss is infinite or no number."


# -- from the cards ---------------------------------------------------------------------------------------------------


def test_home_leads_to_the_tensors_the_neurons_and_the_heads_of_a_model(shown, open_page):
    at = open_page()
    for page, slug in (("weights", "weight_sparsity"), ("neurons", "neuron_activity"), ("attention", "head_sparsity")):
        assert f"run={shown[slug].id}" in queries_of(at, page)


def test_a_run_leads_to_the_page_of_its_units(shown, open_page):
    assert f"run={shown['head_sparsity'].id}" in queries_of(open_page("pages/run.py", run=shown["head_sparsity"].id), "attention")
