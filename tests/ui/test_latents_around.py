"""From latents to their neighbours and back: neurons, heads, the tokens of their examples, and the point on the sensitivity page."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

from analysis.attention.head_sparsity import HEAD_SPARSITY, HeadSparsityConfig
from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run
from store import Filter, Store
from tests.latent_run import HEADS, WINDOW, make_saes, subject
from tests.sensitivity_run import sealed
from ui.latents.examples import rows_of
from ui.latents.followed import fed_by, followers
from ui.latents.saes import saes
from ui.latents.together import beside
from ui.tables import shown_text

NEURON_SITE = "blocks.1.mlp.hook_post"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An SAE of heads with all that can be asked of it, and neurons, heads and curves of the same model."""
    kept = Store(tmp_path_factory.mktemp("around") / "store")
    make_saes(kept, place=HEADS)
    inputs = {"model": subject()}
    run(NEURON_ACTIVITY, inputs, NeuronActivityConfig(window=WINDOW), kept)
    run(HEAD_SPARSITY, inputs, HeadSparsityConfig(window=WINDOW), kept)
    sealed(kept, subject(), methods="magnitude")
    yield kept
    kept.close()


@pytest.fixture
def around(store, made):
    """The same runs in the store of the pages, newest of each analysis."""
    shutil.copytree(made.folder, store.folder, dirs_exist_ok=True)
    return {found.slug: found for found in reversed(store.runs())}


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def links_of(at):
    """Label and address of every link on the page."""
    return {re.sub(r"[\\\u2060]", "", one.proto.label): one.proto.query_string for one in at.get("page_link")}


def values(drawn):
    """Numbers of a trace, which Plotly may have packed."""
    if isinstance(drawn, dict):
        return np.frombuffer(base64.b64decode(drawn["bdata"]), drawn["dtype"]).tolist()
    return drawn


def test_a_neuron_leads_to_the_latents_that_follow_it_and_they_lead_back(store, around, open_page):
    partners = store.read(around["latent_examples"], "latent_partners", where=[Filter("kind", "=", "neuron")])
    best = partners[partners["above_noise"]].sort_values("correlation", ascending=False).iloc[0]
    at = open_page(
        "pages/neuron.py", run=around["neuron_activity"].id, layer=str(best["layer"]), hook=best["hook_name"], neuron=str(best["unit"])
    )
    label = f"Latent {best['latent']} · {best['correlation']:.2f}"
    assert "Latents that follow it" in words_of(at) and f"latent={best['latent']}" in links_of(at)[label]
    back = open_page("pages/latent.py", run=around["sae_train"].id, latent=str(best["latent"]))
    [query] = [query for label, query in links_of(back).items() if label.startswith(f"Neuron {best['layer']}:{best['unit']} ·")]
    assert f"neuron={best['unit']}" in query and around["neuron_activity"].id in query


def test_only_what_is_beyond_chance_is_named_and_the_closest_first(store, around):
    partners = store.read(around["latent_examples"], "latent_partners", where=[Filter("kind", "=", "neuron")])
    [sae] = saes().values()
    for unit, rows in partners.groupby("unit"):
        known = rows[(rows["hook_name"] == NEURON_SITE) & rows["above_noise"]].sort_values("correlation", ascending=False)
        assert [one["latent"] for one in followers(sae, "neuron", 1, NEURON_SITE, int(unit))] == known["latent"].tolist()[:8]
    assert not partners["above_noise"].all(), "else nothing was left out"


def test_a_head_leads_to_the_latents_that_it_feeds(store, around, open_page):
    shares = store.read(around["latent_attribution"], "latent_heads", where=[Filter("head", "=", 2), Filter("active", "=", True)])
    [sae] = saes().values()
    found = fed_by(sae, 1, 2)
    assert [one["share"] for one in found] == sorted(shares["share"], reverse=True)[:8]
    assert fed_by(sae, 0, 2) == [], "the SAE reads another layer"
    at = open_page("pages/head.py", run=around["head_sparsity"].id, layer="1", head="2")
    tasks = next(row for row in around["latent_attribution"].summaries["head_latents"] if row["head"] == 2)
    said = words_of(at)
    assert "Latents that it feeds" in said
    assert f"the largest head of {tasks['n_top']} of {tasks['n_latents']} active latents" in said
    assert f"have in it: {tasks['top_similarity']:.2f};" in said
    assert any(label.startswith(f"Latent {found[0]['latent']} · ") for label in links_of(at))
    back = links_of(open_page("pages/latent.py", run=around["sae_train"].id, latent=str(found[0]["latent"])))
    ways = [query for label, query in back.items() if label.startswith("Head 1:2 ·")]
    assert ways and all("head=2" in query and around["head_sparsity"].id in query for query in ways)
    other = words_of(open_page("pages/head.py", run=around["head_sparsity"].id, layer="0", head="2"))
    assert "Latents that it feeds" not in other and "Latents that follow it" in other


def test_a_model_without_an_sae_has_no_word_of_latents_on_its_neurons(store, made, open_page):
    kept = next(one for one in made.runs() if one.slug == "neuron_activity")
    shutil.copy(kept.path, store.folder / "runs")
    store.register(store.folder / "runs" / kept.path.name)
    at = open_page("pages/neuron.py", run=kept.id, layer="1", hook=NEURON_SITE, neuron="0")
    assert "Latents that" not in words_of(at)


def test_latents_that_peak_on_the_same_token_are_named_beside_the_example(store, around, open_page):
    info = around["latent_examples"]
    top = store.read(info, "latent_examples", where=[Filter("kind", "=", "top")])
    places = top.groupby(["window", "position"])["latent"].agg(list)
    shared = next(one for one in places if len(one) > 1)
    own = rows_of(info, shared[0])
    own = own[own["kind"] == "top"]
    found = beside(info, shared[0], own)
    expected = {(w, p, o) for w, p in zip(own["window"], own["position"]) for o in places[w, p] if o != shared[0]}
    assert set(zip(found["window"], found["position"], found["latent"])) == expected and shared[1] in set(found["latent"])
    at = open_page("pages/latent.py", run=info.id, latent=str(shared[0]))
    text = words_of(at)
    assert "Also peaking there" in text and "**Top 1**" in text


def test_a_token_of_another_blank_is_no_empty_cell():
    assert [shown_text(one) for one in ("\xa0", " ", " a", "\n\n", "a\xa0b")] == ["\\u00a0", "␣", "␣a", "↵↵", "a\xa0b"]


def test_what_was_left_out_of_examples_is_said_in_words(store, around, open_page):
    text = words_of(open_page("pages/latent.py", run=around["latent_examples"].id, latent="0"))
    assert "No example peaks where the run did not look: position 0." in text


def test_the_effect_on_all_logits_is_drawn_beside_the_tokens(store, around, open_page):
    info = around["latent_examples"]
    at = open_page("pages/latent.py", run=info.id, latent="0")
    counts = store.read(info, "latents", where=[Filter("latent", "=", 0)])["logit_counts"].iloc[0]
    assert f"Histogram over all {sum(counts):,} tokens of the vocabulary of what latent 0 of" in words_of(at)


def test_the_reconstruction_stands_on_the_sensitivity_page_with_its_l0(store, around, open_page):
    points = store.read(around["sae_quality"], "curve_points", where=[Filter("metric", "=", "loss")])
    [own] = points[points["method"].str.contains(around["sae_train"].id, regex=False)].to_dict("records")
    assert own["kind"] == "point" and own["native_value"] == 4.0, "k of the training"
    at = open_page("pages/sensitivity.py", run=around["essential_sparsity"].id)
    assert "Reconstructions: loss over L0" in words_of(at) and "Browse its latents" in links_of(at)
    drawn = json.loads(next(one.proto.spec for one in at.get("plotly_chart") if "L0" in str(one.proto.spec)))
    [trace] = [one for one in drawn["data"] if one["name"] == "SAE"]
    assert values(trace["x"]) == [4.0] and values(trace["y"]) == pytest.approx([own["delta"]])


def test_an_sae_of_a_model_without_curves_is_on_the_sensitivity_page_too(store, made, open_page):
    kept = next(one for one in made.runs() if one.slug == "sae_quality")
    shutil.copy(kept.path, store.folder / "runs")
    store.register(store.folder / "runs" / kept.path.name)
    assert "Reconstructions: loss over L0" in words_of(open_page("pages/sensitivity.py"))
    assert "Reconstructions" not in words_of(open_page("pages/sensitivity.py", model="minilm"))
