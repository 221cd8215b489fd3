"""latent_attribution against the model's own attention: it adds up, agrees with brute force, and refuses what it cannot split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.latents.latent_attribution import LATENT_ATTRIBUTION, LatentAttributionConfig
from analysis.latents.places import places
from analysis.models import subject_from
from analysis.runner import run
from analysis.spec import UserError
from store import Store
from tests import zoo
from tests.latents.saes import made
from tests.latents.test_latent_examples import HEADS, LENGTH, RESIDUAL, activations, dictionary, subject, text


def sealed(path, sae, hook=HEADS, model=None, **settings):
    store = Store(path / "store")
    info = run(
        LATENT_ATTRIBUTION,
        {"model": model or subject(), "sae": dictionary(path / "sae", sae, hook)},
        LatentAttributionConfig(**settings),
        store,
    )
    return store, info


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    model, sae = subject(), made("standard", d_in=16, d_sae=12)
    return model, sae, *sealed(tmp_path_factory.mktemp("heads"), sae, model=model, sources=LENGTH)


def brute(model, sae, window, position, latent):
    """[H, S] from transformers' own eager attention weights and the value projection."""
    config, layer = model.model.config, model.model.model.layers[0]
    ids = torch.from_numpy(text().token_ids[window])[None]
    model.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = model.model(ids, output_attentions=True, output_hidden_states=True)
    finally:
        model.model.set_attn_implementation("sdpa")
    rows = out.attentions[0][0, :, position]
    with torch.no_grad():
        values = layer.self_attn.v_proj(layer.input_layernorm(out.hidden_states[0]))[0]
    groups, n = config.num_key_value_heads, config.num_attention_heads
    values = values.view(LENGTH, groups, -1).repeat_interleave(n // groups, 1)
    encoder = sae.W_enc[:, latent].detach().view(n, -1)
    return rows * torch.einsum("shd,hd->hs", values, encoder)


def test_everything_adds_up_to_the_pre_activation_of_the_latent(heads):
    model, sae, store, info = heads
    rows = store.read(info, "latent_attributions")
    z = activations(model, HEADS)
    assert len(rows)
    for row in rows.itertuples():
        read = z[row.window, row.position]
        pre = (read - (sae.b_dec if sae.cfg.apply_b_dec_to_input else 0)) @ sae.W_enc[:, row.latent] + sae.b_enc[row.latent]
        assert row.total == pytest.approx(row.direct, abs=1e-6)
        assert row.total + row.constant == pytest.approx(pre.item(), abs=1e-5)
        assert row.value == pytest.approx(pre.item(), abs=1e-5), "a standard latent is its pre-activation where it is active"
        assert sum(row.by_head) == pytest.approx(row.total) and row.top_head == int(np.argmax(row.by_head))
        assert row.sources_kept == pytest.approx(1)
    sources = store.read(info, "latent_sources").groupby(["latent", "rank"])["contribution"].sum()
    totals = rows.set_index(["latent", "rank"])["total"]
    assert sources.to_numpy() == pytest.approx(totals.loc[sources.index].to_numpy(), abs=1e-6)
    assert store.provenance(info)["facts"]["largest_gap"] < 1e-5


def test_sources_and_heads_are_those_of_the_models_own_weights(heads):
    model, sae, store, info = heads
    rows, sources = store.read(info, "latent_attributions"), store.read(info, "latent_sources")
    assert model.model.config.num_key_value_heads < model.model.config.num_attention_heads, "values are shared here"
    for row in rows.iloc[::7].itertuples():
        joint = brute(model, sae, row.window, row.position, row.latent)
        assert row.by_head == pytest.approx(joint.sum(1).tolist(), abs=1e-5)
        mine = sources[(sources["latent"] == row.latent) & (sources["rank"] == row.rank)]
        assert mine.set_index("source")["contribution"].sort_index().to_numpy() == pytest.approx(
            joint.sum(0)[: row.position + 1].numpy(), abs=1e-5
        )
        assert (mine["back"] == row.position - mine["source"]).all() and (mine["back"] >= 0).all(), "no token sees what comes"
        first = mine[mine["source_rank"] == 0].iloc[0]
        assert first["head_contribution"] == pytest.approx(joint[int(first["head"]), int(first["source"])].item(), abs=1e-5)


def test_a_gated_sae_is_attributed_along_its_gate(tmp_path):
    sae = made("gated", d_in=16, d_sae=12)
    model = subject()
    store, info = sealed(tmp_path, sae, model=model)
    rows, z = store.read(info, "latent_attributions"), activations(model, HEADS)
    for row in rows.itertuples():
        read = z[row.window, row.position] - (sae.b_dec if sae.cfg.apply_b_dec_to_input else 0)
        assert row.total + row.constant == pytest.approx((read @ sae.W_enc[:, row.latent] + sae.b_gate[row.latent]).item(), abs=1e-5)
        assert row.total + row.constant > 0, "the gate is open where the latent is active"
    assert store.provenance(info)["facts"]["path"] == "gate"


def test_each_head_is_counted_for_the_latents_that_lie_in_it(tmp_path):
    n = subject().model.config.num_attention_heads
    sae = made("standard", d_in=16, d_sae=n + 1)
    width = 16 // n
    with torch.no_grad():
        sae.W_dec.zero_()
        for head in range(n):
            sae.W_dec[head, head * width] = 2.0
        sae.W_dec[n] = 1.0
        sae.b_enc.fill_(10.0)  # all of them are active
    store, info = sealed(tmp_path, sae)
    rows = store.read(info, "head_latents").set_index("head")
    assert rows["n_above"].tolist() == [1] * n and rows["n_top"].sum() == n + 1
    assert rows["mean_share"].tolist() == pytest.approx([(1 + 1 / n) / (n + 1)] * n)
    for head in range(n):
        assert rows.loc[head, "top_latents"][0] == head and rows.loc[head, "top_latents"][1] == n
        assert list(rows.loc[head, "top_shares"][:2]) == pytest.approx([1, 1 / n])
        assert rows.loc[head, "top_similarity"] == pytest.approx(width**-0.5), "the only two with a part here: along e_1 and along 1"
    shares = store.read(info, "latent_heads")
    assert shares.groupby("latent")["share"].sum().tolist() == pytest.approx([1] * (n + 1))
    assert shares["active"].all()


def test_only_the_latents_asked_for_are_attributed(tmp_path):
    sae = made("standard", d_in=16, d_sae=12)
    store, info = sealed(tmp_path, sae, latents="3, 5", examples=2)
    rows = store.read(info, "latent_attributions")
    assert set(rows["latent"]) <= {3, 5} and rows["rank"].max() <= 1 and len(rows)
    assert set(store.read(info, "latent_windows")["window"]) == set(rows["window"])
    with pytest.raises(UserError, match=r"latents must be numbers from 0 to 11 with commas between, got '12'"):
        sealed(tmp_path / "other", sae, latents="1,12")


def test_an_sae_of_the_residual_stream_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"must read the heads' outputs \(hook_z\).*blocks.0.hook_resid_post \(residual\)"):
        sealed(tmp_path, made("standard", d_in=16, d_sae=12), RESIDUAL)


def test_eager_attention_gives_the_same_numbers(tmp_path, heads):
    _, sae, store, info = heads
    model = zoo.llama()[0]
    model.set_attn_implementation("eager")
    other, second = sealed(tmp_path, sae, model=subject_from(model, data=text()), sources=LENGTH)
    one, two = (s.read(i, "latent_attributions").sort_values(["latent", "rank"]) for s, i in ((store, info), (other, second)))
    assert np.stack(list(one["by_head"])) == pytest.approx(np.stack(list(two["by_head"])), abs=1e-5)


def test_every_figure_can_be_drawn(heads):
    _, _, store, info = heads
    provenance = store.provenance(info)
    for figure in LATENT_ATTRIBUTION.figures:
        rows = store.read(info, figure.table)
        spec = figure.draw(rows[list(figure.columns)] if figure.columns else rows, provenance)
        assert len(spec.data) and spec.sentence.endswith(".")


FAMILIES = ("gpt2", "gpt_neox", "bert", "opt", "phi3", "mixtral")


@pytest.mark.parametrize("family", FAMILIES)
def test_it_adds_up_in_every_family(tmp_path, family):
    model = subject_from(getattr(zoo, family)()[0], data=text())
    batch, _ = next(iter(model.data.batches(2)))
    place = next(p for p in places(model.model, batch, names=model.hook_names()) if p.kind == "attention_z")
    sae = made("standard", d_in=place.width, d_sae=12)
    store, info = sealed(tmp_path, sae, place.hook_name, model)
    rows = store.read(info, "latent_attributions")
    assert len(rows) and rows["total"].to_numpy() == pytest.approx(rows["direct"].to_numpy(), abs=1e-5)
    assert store.provenance(info)["facts"]["largest_gap"] < 1e-5
    if family == "bert":
        assert (store.read(info, "latent_sources")["back"] < 0).any(), "an encoder's tokens see what comes"
