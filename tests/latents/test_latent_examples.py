"""latent_examples against brute force: the same peaks, tokens, neighbours and partners recomputed from the model's own activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.latents.dictionary import open_dictionary
from analysis.latents.latent_examples import LATENT_EXAMPLES, LatentExamplesConfig
from analysis.latents.places import place_named, places, reading
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from store import Store
from tests import zoo
from tests.latents.saes import made, perfect

LENGTH = 9
RESIDUAL, HEADS, INNER, OUT = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z", "blocks.0.mlp.hook_post", "blocks.0.hook_mlp_out"


def text(n=40):
    ids = torch.randint(3, 60, (n, LENGTH), generator=torch.Generator().manual_seed(0)).numpy()
    return TextWindows.from_ids(ids, document=np.arange(n) // 2)


def subject(n=40, **more):
    return subject_from(zoo.llama()[0], data=text(n), **more)


def dictionary(path, sae, hook=RESIDUAL):
    from sae_lens.saes.sae import SAEMetadata

    sae.cfg.metadata = SAEMetadata(hook_name=hook, context_size=LENGTH)
    sae.save_model(path)
    return open_dictionary(path)


def sealed(path, sae, hook=RESIDUAL, model=None, **settings):
    store = Store(path / "store")
    info = run(
        LATENT_EXAMPLES,
        {"model": model or subject(), "sae": dictionary(path / "sae", sae, hook)},
        LatentExamplesConfig(**{"n_sample": 128, **settings}),
        store,
    )
    return store, info


def activations(model, hook):
    """[windows, positions, width] at a place."""
    batch, _ = next(iter(model.data.batches(1000)))
    place = place_named(places(model.model, batch, names=model.hook_names()), hook)
    found = []
    with reading(model.model, [place], lambda _, values, rows: found.append(values.clone())) as session:
        session.run(batch)
    return found[0].reshape(-1, LENGTH, place.width)


@pytest.fixture(scope="module")
def topk(tmp_path_factory):
    sae = made("topk", d_in=16, d_sae=40)
    store, info = sealed(tmp_path_factory.mktemp("topk"), sae)
    with torch.no_grad():
        return store, info, sae.encode(activations(subject(), RESIDUAL).reshape(-1, 16)).to_dense().reshape(-1, LENGTH, 40).numpy()


def test_the_first_example_of_each_latent_is_its_highest_token(topk):
    store, info, f = topk
    rows = store.read(info, "latent_examples")
    first = rows[(rows["kind"] == "top") & (rows["rank"] == 0)].set_index("latent")
    ranked = f.copy()
    ranked[:, 0] = 0
    for latent in range(40):
        assert (latent in first.index) == (ranked[..., latent].max() > 0)
        if latent in first.index:
            row = first.loc[latent]
            assert row["value"] == pytest.approx(ranked[..., latent].max(), rel=1e-5)
            assert f[row["window"], row["position"], latent] == pytest.approx(row["value"], rel=1e-5)
            assert row["strip"][row["position"] - row["first"]] == round(1000 * row["value"] / f[row["window"], :, latent].max())
    assert set(rows["kind"]) == {"top", "quantile"}
    tops = rows[rows["kind"] == "top"]
    assert not tops.duplicated(["latent", "window"]).any(), "at most one example per window"
    assert tops.sort_values("rank").groupby("latent")["value"].agg(lambda v: v.is_monotonic_decreasing).all()


def test_quantile_examples_come_from_windows_in_which_the_latent_is_active(topk):
    store, info, f = topk
    rows = store.read(info, "latent_examples").query("kind == 'quantile'")
    ranked = f.copy()
    ranked[:, 0] = 0
    peaks = ranked.max(1)
    for row in rows.itertuples():
        assert row.value == pytest.approx(peaks[row.window, row.latent], rel=1e-5) and row.value > 0
    few = [latent for latent in range(40) if 0 < (peaks[:, latent] > 0).sum() <= 10]
    for latent in few:
        mine = rows[rows["latent"] == latent]
        assert len(mine) == (peaks[:, latent] > 0).sum(), "all of them where there are at most ten"
        assert mine["quantile"].max() == 1.0
    assert few


def test_counts_are_those_of_the_activations(topk):
    store, info, f = topk
    rows = store.read(info, "latents").set_index("latent")
    assert (rows["n_active"] == (f > 0).sum((0, 1))).all(), "position 0 counts, it is only not ranked"
    assert rows["max"].fillna(0).to_numpy() == pytest.approx(f.max((0, 1)), rel=1e-5)
    assert [sum(c) for c in rows["counts"]] == rows["n_active"].tolist()
    facts = store.provenance(info)["facts"]
    assert facts["n_tokens"] == 360 == facts["n_coactive_tokens"] and facts["n_documents"] == 20


def test_examples_point_into_stored_windows(topk):
    store, info, _ = topk
    rows, windows = store.read(info, "latent_examples"), store.read(info, "latent_windows").set_index("window")
    assert set(rows["window"]) == set(windows.index)
    assert list(windows.loc[3, "token_ids"]) == text().token_ids[3].tolist()


def test_coactive_latents_are_those_active_on_the_same_tokens(topk):
    store, info, f = topk
    on = (f > 0).reshape(-1, 40)
    rows = store.read(info, "latent_neighbours").query("by == 'co-activation'")
    for row in rows.itertuples():
        a, b = on[:, row.latent], on[:, row.other]
        assert row.value == pytest.approx((a & b).sum() / (a | b).sum()) and row.latent != row.other
    latent = int(on.sum(0).argmax())
    best = max((on[:, latent] & on[:, j]).sum() / (on[:, latent] | on[:, j]).sum() for j in range(40) if j != latent)
    assert rows[(rows["latent"] == latent) & (rows["rank"] == 0)]["value"].item() == pytest.approx(best)


def test_the_most_similar_decoder_is_the_one_of_the_latents_row(topk):
    store, info, _ = topk
    rows = store.read(info, "latent_neighbours").query("by == 'decoder cosine' and rank == 0").set_index("latent")
    latents = store.read(info, "latents").set_index("latent")
    assert rows["value"].to_numpy() == pytest.approx(latents["max_decoder_cosine"].to_numpy(), abs=1e-6)
    assert (rows["other"] == latents["most_similar"]).all()


@pytest.mark.parametrize("hook", [RESIDUAL, HEADS, INNER, OUT])
def test_promoted_tokens_are_those_of_the_direction_in_the_stream(tmp_path, hook):
    model = subject()
    layer = model.model.model.layers[0]
    through = {HEADS: layer.self_attn.o_proj.weight.T, INNER: layer.mlp.down_proj.weight.T}.get(hook)
    d = 16 if through is None else len(through)
    sae = made("standard", d_in=d, d_sae=12)
    store, info = sealed(tmp_path, sae, hook, model, n_sample=0, top_tokens=5)
    with torch.no_grad():
        written = sae.W_dec if through is None else sae.W_dec @ through
        logits = (written * model.model.model.norm.weight) @ model.model.lm_head.weight.T
    best = logits.topk(5, 1)
    worst = (-logits).topk(5, 1)
    rows = store.read(info, "latent_tokens").sort_values(["latent", "rank"])
    for side, (score, token) in (("promoted", best), ("suppressed", (-worst.values, worst.indices))):
        mine = rows[rows["side"] == side]
        assert mine["score"].to_numpy().reshape(12, 5) == pytest.approx(score.numpy(), rel=1e-4, abs=1e-6)
        assert (mine["token_id"].to_numpy().reshape(12, 5) == token.numpy()).all()
    spread = store.read(info, "latents")["logit_std"].to_numpy()
    assert spread == pytest.approx(logits.std(1, correction=0).numpy(), rel=1e-4)
    latents = store.read(info, "latents")
    assert latents["logit_high"].to_numpy() == pytest.approx(best.values[:, 0].numpy(), rel=1e-4)
    assert latents["logit_low"].to_numpy() == pytest.approx(-worst.values[:, 0].numpy(), rel=1e-4)
    assert {sum(row) for row in latents["logit_counts"]} == {logits.shape[1]}
    assert store.read(info, "latent_partners").empty


def test_a_latent_that_is_a_neuron_finds_that_neuron_and_no_other_beyond_it(tmp_path):
    model = subject(200)
    width = model.model.config.intermediate_size
    store, info = sealed(tmp_path, perfect(width), INNER, model, n_sample=600, partners=3)
    rows = store.read(info, "latent_partners").query("kind == 'neuron' and rank == 0").set_index("latent")
    values = activations(model, INNER).reshape(-1, width)
    for latent in range(width):
        row = rows.loc[latent]
        both = torch.corrcoef(torch.stack([values[:, latent].clamp(min=0), values[:, latent]]))[0, 1]
        assert (row["hook_name"], row["unit"], row["layer"]) == (INNER, latent, 0)
        assert row["correlation"] == pytest.approx(float(both), abs=0.15)
    assert rows.loc[: width - 1, "above_noise"].all()


def test_a_latent_that_reads_one_head_follows_its_norm(tmp_path):
    model = subject(100)
    heads = model.model.config.num_attention_heads
    sae = perfect(16)
    store, info = sealed(tmp_path, sae, HEADS, model, n_sample=800, partners=heads * 2)
    z = activations(model, HEADS)[:, 1:].reshape(-1, 16)
    norms = z.unflatten(1, (heads, -1)).norm(dim=2)
    rows = store.read(info, "latent_partners").query("kind == 'head'")
    mine = rows[(rows["latent"] == 0) & (rows["hook_name"] == HEADS)].set_index("unit")
    for head in range(heads):
        expected = torch.corrcoef(torch.stack([z[:, 0].clamp(min=0), norms[:, head]]))[0, 1]
        assert mine.loc[head, "correlation"] == pytest.approx(float(expected), abs=1e-4)


def test_a_killed_run_goes_on_and_finds_the_same(tmp_path, monkeypatch):
    from analysis.latents import studying

    sae, model = made("topk", d_in=16, d_sae=40), subject(64)
    whole_store, whole = sealed(tmp_path / "whole", sae, model=model)
    monkeypatch.setattr(studying, "UNIT_TOKENS", 8 * LENGTH)
    windows = studying.Study.windows
    calls = []

    def dies(self, within, report=lambda share: None):
        calls.append(within)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return windows(self, within, report)

    monkeypatch.setattr(studying.Study, "windows", dies)
    with pytest.raises(KeyboardInterrupt):
        sealed(tmp_path / "cut", sae, model=model)
    store, info = sealed(tmp_path / "cut", sae, model=model)
    assert len(calls) == 4 + 5 + 8, "three units were kept; eight are read again for the examples"
    for table in LATENT_EXAMPLES.tables:
        keys = list(table.key)
        one = whole_store.read(whole, table.name).sort_values(keys).reset_index(drop=True)
        other = store.read(info, table.name).sort_values(keys).reset_index(drop=True)
        for name in one:
            if one[name].dtype.kind in "if":
                np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-5, err_msg=f"{table.name}.{name}")
            else:
                assert one[name].map(str).tolist() == other[name].map(str).tolist(), (table.name, name)


def test_every_figure_can_be_drawn(topk):
    from figures.spec import NothingToDraw

    store, info, _ = topk
    provenance = store.provenance(info)
    drawn = 0
    for figure in LATENT_EXAMPLES.figures:
        rows = store.read(info, figure.table)
        try:
            spec = figure.draw(rows[list(figure.columns)] if figure.columns else rows, provenance)
        except NothingToDraw:
            continue
        drawn += 1
        assert len(spec.data) and spec.sentence.endswith(".")
    assert drawn == len(LATENT_EXAMPLES.figures)
