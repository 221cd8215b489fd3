"""SAEs of the bundled SmolLM2 at three places: trained small, judged, looked into; every number of them is one."""

from __future__ import annotations

import math

import pytest

from store import Store
from tests.latent_run import make_smollm2, smollm2

PLACES = {
    "blocks.15.hook_resid_post": "residual",
    "blocks.15.hook_mlp_out": "mlp_out",
    "blocks.15.hook_attn_out": "attention_out",
}


@pytest.fixture(scope="module")
def model():
    return smollm2(256)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "kind"), PLACES.items())
def test_an_sae_of_each_place_is_trained_judged_and_looked_into(model, tmp_path, place, kind):
    store = Store(tmp_path)
    trained, judged, looked = make_smollm2(store, model, place)
    row = trained.summaries["saes"][0]
    assert (row["kind"], row["width"], row["hook_name"]) == (kind, 576, place)
    assert row["l0"] == pytest.approx(8, abs=1.5), "top-k, and what is 0 of it"
    found = {(one["measure"], one["tokens"], one["variant"]): one["value"] for one in judged.summaries["sae_quality"]}
    assert all(math.isfinite(value) for value in found.values() if value is not None)
    increase = found["loss_increase", "scored", "ours"]
    assert -0.5 < increase < 12
    assert kind == "attention_out" or increase > 0, "64 latents do not hold a stream; what one layer's attention adds is hardly missed"
    assert found["explained_variance", "judged", "ours"] > 0, "better than the mean, which it begins at"
    assert judged.provenance["facts"]["preflight"][0].startswith("None of these documents trained the SAE")
    latents, examples = store.read(looked, "latents"), store.read(looked, "latent_examples")
    assert len(latents) == row["n_latents"] == 64
    active = latents[latents["n_active"] > 0]
    assert len(active) > 8
    assert active["max"].gt(0).all()
    assert set(examples["latent"]) == set(active["latent"])
    assert examples["value"].map(math.isfinite).all()
