"""neuron_correlation against planted links, independent noise, and plain recomputation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import TextWindows, subject_from
from analysis.neurons.neuron_correlation import NEURON_CORRELATION, NeuronCorrelationConfig
from analysis.neurons.observing import neuron_sites
from analysis.neurons.sampling import TEXT, Sample
from analysis.runner import run
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.correlation import chance_levels, correlation_threshold, heaviness, orders_for, shuffled, spread_sample, standardised
from store import Store
from tests import zoo


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def text(n_windows=6, window=16, vocabulary=60, documents=3, seed=0, **more):
    ids = np.random.default_rng(seed).integers(3, vocabulary, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows, **more)


def sealed(store, model, data, *, force=False, **settings):
    subject = subject_from(model, name="tiny", data=data)
    return run(NEURON_CORRELATION, {"model": subject}, NeuronCorrelationConfig(**settings), store, force=force)


class Passes(nn.Module):
    """Neuron i is relu(x_i) or its square: neurons are as independent as the inputs are."""

    def __init__(self, d, power=1):
        super().__init__()
        self.power, self.read = power, nn.Linear(d, d, bias=False)
        nn.init.eye_(self.read.weight)

    def forward(self, x):
        return self.read(torch.relu(x) ** self.power)


def test_a_copied_neuron_correlates_perfectly_and_is_found_first(store):
    model, _ = zoo.gpt2()
    with torch.no_grad():
        mlp = model.transformer.h[0].mlp
        mlp.c_fc.weight[:, 5], mlp.c_fc.bias[5] = mlp.c_fc.weight[:, 40], mlp.c_fc.bias[40]
    info = sealed(store, model, text(n_windows=20))
    rows = store.read(info, "neuron_correlated")
    first = rows[(rows["layer"] == 0) & (rows["rank"] == 0)].set_index("neuron")
    for here, there in ((5, 40), (40, 5)):
        row = first.loc[here]
        assert (row["other_layer"], row["other_hook_name"], row["other_neuron"]) == (0, "blocks.0.mlp.hook_post", there)
        assert row["correlation"] == pytest.approx(1, abs=1e-5) and row["above_noise"]


def test_every_correlation_equals_plain_recomputation(store):
    model, _ = zoo.llama()
    data = text()
    info = sealed(store, model, data, n_sample=50, top_neurons=6)
    seen = []
    hooks = [layer.mlp.down_proj.register_forward_pre_hook(lambda m, a: seen.append(a[0].numpy())) for layer in model.model.layers]
    with torch.no_grad():
        model(torch.from_numpy(data.token_ids))
    for hook in hooks:
        hook.remove()
    slots = Sample(data, NeuronCorrelationConfig(n_sample=50)).slots((TEXT, 16))
    assert len(slots.window) == 50 and (slots.position > 0).all()
    values = np.concatenate([a[slots.window, slots.position] for a in seen], axis=1)
    expected = np.corrcoef(values.T.astype(np.float64))
    np.fill_diagonal(expected, -2)
    order = np.argsort(-expected, axis=1)[:, :6]
    rows = store.read(info, "neuron_correlated", order_by=["layer", "neuron", "rank"])
    np.testing.assert_allclose(rows["correlation"], np.take_along_axis(expected, order, 1).ravel(), atol=2e-6)
    assert (rows["other_layer"] * 24 + rows["other_neuron"]).tolist() == order.ravel().tolist()
    facts = store.provenance(info)["facts"]
    assert (facts["n_tokens"], facts["n_documents"], facts["n_pairs"]) == (50, 3, 48 * 47 // 2)
    assert facts["threshold"] == pytest.approx(correlation_threshold(50, 48 * 47 // 2))
    above = rows["correlation"] > np.maximum(rows["chance"], facts["threshold"])
    assert rows["above_noise"].tolist() == above.tolist()


@pytest.mark.parametrize("batch_tokens", [16, 48])
def test_batches_and_units_change_nothing(store, monkeypatch, batch_tokens):
    model, _ = zoo.llama()
    one = store.read(sealed(store, model, text(), n_sample=40), "neuron_correlated", order_by=["layer", "neuron", "rank"])
    monkeypatch.setattr("analysis.neurons.neuron_correlation.UNIT_TOKENS", 32)
    info = sealed(store, model, text(), n_sample=40, batch_tokens=batch_tokens, force=True)
    many = store.read(info, "neuron_correlated", order_by=["layer", "neuron", "rank"])
    np.testing.assert_allclose(one["correlation"], many["correlation"], atol=1e-4)
    np.testing.assert_allclose(one["chance"], many["chance"], atol=1e-4)


@pytest.mark.parametrize("power", [1, 6], ids=["light tails", "heavy tails"])
def test_independent_noise_has_no_correlation_above_noise(store, power):
    """With heavy tails the normal bound fails, and the random orders must hold."""
    made = torch.Generator().manual_seed(3)
    noise = torch.randn(600, 200, generator=made)
    info = sealed(store, Passes(200, power), [noise], n_sample=600)
    rows, facts = store.read(info, "neuron_correlated"), store.provenance(info)["facts"]
    assert len(rows) == 200 * 8
    first = rows[rows["rank"] == 0]
    if power == 1:
        assert not rows["above_noise"].any()
    else:
        assert facts["n_chance"] > 100 and (first["correlation"] > facts["threshold"]).sum() > 100
        # 1 in 100 of neurons without a partner, two of 200; a pair counts twice.
        assert first["above_noise"].sum() <= 8


def test_the_level_of_chance_follows_how_heavy_tailed_a_unit_is():
    """Two kinds of units: the level of each is the quantile of its own kind, whatever the other does."""
    heavy = np.tile([3.0, 100.0], 3000)
    random = np.random.default_rng(0)
    chance = np.where(heavy > 10, 0.5, 0.1) + random.uniform(0, 0.1, (2, 6000))
    levels = chance_levels(heavy, chance)
    off = levels - np.where(heavy > 10, 0.599, 0.199)
    assert off.min() > -5e-3, "next to heavier units a level is too high, never too low"
    assert (np.abs(off) < 5e-3).mean() > 0.95
    assert chance_levels(np.array([3.0]), np.array([[0.25]])).tolist() == [0.25]


def test_heaviness_of_a_normal_unit_is_3_and_of_a_single_spike_n():
    spike = torch.zeros(2000)
    spike[7] = 1
    rows, _ = standardised(torch.stack([torch.randn(2000, generator=torch.Generator().manual_seed(0)), spike], 1))
    assert heaviness(rows) == pytest.approx([3, 2000], rel=0.1)
    assert (orders_for(46080), orders_for(4000), orders_for(48)) == (1, 1, 84)


def test_a_true_link_in_noise_is_above_noise(store):
    made = torch.Generator().manual_seed(4)
    noise = torch.randn(600, 60, generator=made)
    noise[:, 7] = 0.6 * noise[:, 19] + 0.8 * noise[:, 7]
    rows = store.read(sealed(store, Passes(60), [noise], n_sample=600), "neuron_correlated")
    found = rows[rows["above_noise"]]
    assert sorted(zip(found["neuron"], found["other_neuron"])) == [(7, 19), (19, 7)]


def test_constant_neurons_have_no_rows_and_are_nobodys_partner(store):
    model, _ = zoo.gpt2()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[:, 8] = 0
    info = sealed(store, model, text())
    rows = store.read(info, "neuron_correlated")
    assert not len(rows.query("layer == 1 and neuron == 8 or other_layer == 1 and other_neuron == 8"))
    assert rows["correlation"].notna().all()
    assert store.provenance(info)["facts"]["n_constant"] == 1
    assert store.read(info, "correlation_layers", order_by=["layer"])["n_constant"].tolist() == [0, 1]


def test_position_0_and_special_tokens_are_left_out_unless_wanted():
    special = np.zeros((6, 16), bool)
    special[:, 15] = True
    data = text(special=special)
    default = Sample(data, NeuronCorrelationConfig(n_sample=1000)).slots((TEXT, 16))
    assert set(default.position) == set(range(1, 15)) and len(default.window) == 6 * 14
    both = Sample(data, NeuronCorrelationConfig(n_sample=1000, include_first=True, include_special=True)).slots((TEXT, 16))
    assert len(both.window) == 6 * 16


def test_a_token_not_sent_to_an_expert_counts_as_zero_there(store):
    model, _ = zoo.mixtral()
    data = text(n_windows=8)
    rows = store.read(sealed(store, model, data, n_sample=100), "neuron_correlated", order_by=["layer", "hook_name", "neuron", "rank"])
    slots = Sample(data, NeuronCorrelationConfig(n_sample=100)).slots((TEXT, 16))
    names = {s.hook_name: s.layer for s in neuron_sites(subject_from(model, data=data))}
    assert set(rows["other_hook_name"]) <= set(names)
    assert (rows["other_layer"] == rows["other_hook_name"].map(names)).all()
    # Computed by hand: every expert on every token, times whether the token was sent there.
    values = {}
    with torch.no_grad():
        for i, layer in enumerate(model.model.layers):
            kept = {}
            layer.mlp.register_forward_pre_hook(lambda m, a, kept=kept: kept.__setitem__("x", a[0]))
            layer.mlp.gate.register_forward_hook(lambda m, a, o, kept=kept: kept.__setitem__("chosen", o[-1]))
            model(torch.from_numpy(data.token_ids))
            x = kept["x"].reshape(-1, 16)
            for e in range(4):
                gate, up = (x @ layer.mlp.experts.gate_up_proj[e].T).chunk(2, dim=1)
                sent = (kept["chosen"].reshape(len(x), -1) == e).any(1)
                a = nn.functional.silu(gate) * up * sent[:, None]
                name = f"model.layers.{i}.mlp.experts.down_proj.hook_in[{e}]"
                values[name] = a.reshape(8, 16, -1).numpy()[slots.window, slots.position]
    for row in rows.sample(60, random_state=0).itertuples():
        pair = values[row.hook_name][:, row.neuron], values[row.other_hook_name][:, row.other_neuron]
        assert row.correlation == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-4)


@pytest.mark.parametrize("make", [zoo.bert, zoo.t5, zoo.vit, zoo.resnet, zoo.lstm], ids=lambda f: f.__name__)
def test_other_families_seal_a_run(store, make):
    model, batch = make()
    info = sealed(store, model, [batch, batch])
    rows = store.read(info, "neuron_correlated")
    assert len(rows)
    if make is zoo.t5:
        assert (rows["hook_name"].str[:7] == rows["other_hook_name"].str[:7]).all(), "encoder and decoder tokens are not the same ones"


def test_a_model_without_inputs_and_a_sample_too_small_are_refused_in_sentences(store):
    model, _ = zoo.llama()
    with pytest.raises(IncompatibleSubject, match="has no inputs"):
        sealed(store, model, None)
    with pytest.raises(UserError, match="the sample must hold at least 4 tokens, got 3"):
        sealed(store, model, text(n_windows=3, window=2))


def test_figures_are_drawn_from_the_stored_rows(store):
    from figures.prepared import prepare

    model, _ = zoo.llama()
    info = sealed(store, model, text())
    for figure in NEURON_CORRELATION.figures:
        spec = figure.draw(store.read(info, figure.table), store.provenance(info))
        prepare(spec)
        assert "48 neurons" in spec.sentence and "90 tokens from 3 documents" in spec.sentence


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


def test_standardised_rows_multiply_to_pearson_correlations():
    values = torch.tensor([[1.0, 2.0, 5.0, 1.0], [2.0, 4.0, 5.0, torch.nan], [3.0, 0.0, 5.0, 2.0]])
    rows, defined = standardised(values)
    assert defined.tolist() == [True, True, False, False]
    # Centred: (-1, 0, 1) and (0, 2, -2): -2 / sqrt(2 * 8).
    assert float(rows[0] @ rows[1]) == pytest.approx(-0.5)
    assert rows[2:].abs().max() == 0


def test_a_large_mean_does_not_hide_a_correlation():
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    rows, _ = standardised(torch.cat([x + 1000, x], 1))
    assert float(rows[0] @ rows[1]) == pytest.approx(1, abs=1e-6)


def test_the_threshold_worked_out_by_hand():
    # One pair, one-sided 5 %: z = 1.6449; n = 103: tanh(1.6449 / 10).
    assert correlation_threshold(103, 1) == pytest.approx(math.tanh(0.164485), abs=1e-6)
    assert correlation_threshold(1024, 1_061_660_160) == pytest.approx(0.19994, abs=1e-4)
    assert correlation_threshold(3, 10) == 1.0
    with pytest.raises(ValueError, match="at least 1"):
        correlation_threshold(10, 0)


def test_the_threshold_is_exceeded_by_the_highest_of_all_pairs_in_about_one_of_twenty_samples():
    made = torch.Generator().manual_seed(0)
    limit, hits = correlation_threshold(50, 30 * 29 // 2), 0
    for _ in range(400):
        rows, _ = standardised(torch.randn(50, 30, generator=made))
        hits += bool((rows @ rows.T).fill_diagonal_(-1).max() > limit)
    assert 6 <= hits <= 36  # 20 expected, less what Bonferroni gives away


def test_shuffling_keeps_each_rows_values_and_breaks_their_order():
    rows = torch.arange(20.0).reshape(2, 10)
    mixed = shuffled(rows, 1)
    assert torch.equal(mixed.sort(1).values, rows)
    assert not torch.equal(mixed[0], rows[0]) and not torch.equal(mixed[0], mixed[1] - 10)
    assert torch.equal(mixed, shuffled(rows, 1)) and not torch.equal(mixed, shuffled(rows, 2))


def test_the_sample_is_spread_evenly_over_documents():
    document = np.repeat([0, 1, 2], [100, 3, 10])
    chosen = spread_sample(document, 18, 0)
    assert (np.diff(chosen) > 0).all()
    # Three rounds of three documents, then two documents take turns: nine more, odd, so one gets one more.
    counts = np.bincount(document[chosen])
    assert counts[1] == 3 and sorted(counts[[0, 2]]) == [7, 8]
    assert spread_sample(document, 1000, 0).tolist() == list(range(113))
    assert spread_sample(document, 18, 1).tolist() != chosen.tolist()
    assert spread_sample(np.zeros(0, np.int64), 5, 0).tolist() == []
