"""neuron_activity against models whose answer is known, and against plain recomputation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import TextWindows, subject_from
from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.histogram import from_lists
from store import Filter, Store
from tests import zoo

NEVER, NO_WAY_IN, NO_WAY_OUT, ALWAYS_SAME = (3, 17, 40), (5, 6), (9,), (11,)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture(scope="module")
def relu_model():
    """A digits classifier, trained, with neurons that are dead for known reasons."""
    torch.manual_seed(0)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    accuracy = (model(images).argmax(1) == labels).float().mean()
    assert accuracy > 0.9
    first, last = model[0], model[2]
    with torch.no_grad():
        first.bias[list(NEVER)] = -1e3
        first.weight[list(NO_WAY_IN)], first.bias[list(NO_WAY_IN)] = 0, -0.5
        last.weight[:, list(NO_WAY_OUT)] = 0
        first.weight[list(ALWAYS_SAME)], first.bias[list(ALWAYS_SAME)] = 0, 2.0
    return model.eval()


def text(n_windows=6, window=16, vocabulary=60, documents=3, seed=0):
    ids = np.random.default_rng(seed).integers(3, vocabulary, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows)


def sealed(store, model, data, *, name="tiny", force=False, **settings):
    subject = subject_from(model, name=name, data=data)
    return run(NEURON_ACTIVITY, {"model": subject}, NeuronActivityConfig(**settings), store, force=force)


def test_known_dead_neurons_of_a_trained_relu_model_are_reported_exactly(relu_model, store):
    images, _ = digits()
    info = sealed(store, relu_model, list(images.split(300)), rare=1e-2)
    rows = store.read(info, "neurons", order_by=["neuron"])
    hidden = torch.relu(relu_model[0](images)).detach().numpy()
    silent = np.flatnonzero((hidden == 0).all(0))
    assert set(NEVER) | set(NO_WAY_IN) <= set(silent)
    # Dead: never non-zero (all of them, whatever the reason), or unable to matter.
    assert set(rows["neuron"][rows["class"] == "dead"]) == set(silent) | set(NO_WAY_OUT)
    assert set(rows["neuron"][rows["static_class"] == "dead_in"]) == set(NO_WAY_IN)
    assert set(rows["neuron"][rows["static_class"] == "dead_out"]) == set(NO_WAY_OUT)
    assert set(rows["neuron"][rows["static_class"] == "constant"]) == set(ALWAYS_SAME)
    assert set(rows["neuron"][rows["constant"]]) == set(np.flatnonzero(hidden.max(0) == hidden.min(0)))
    np.testing.assert_array_equal(rows["n_nonzero"], (hidden > 0).sum(0))
    layer = store.read(info, "layers").iloc[0]
    assert layer["n_static_dead"] == len(NO_WAY_IN) + len(NO_WAY_OUT)
    live = np.setdiff1d(np.arange(48), NO_WAY_IN + NO_WAY_OUT)
    assert layer["lazy_percent"] == pytest.approx(100 * (hidden > 0).mean())
    assert layer["dynamic_dead_rate"] == pytest.approx((hidden[:, live] == 0).sum() / hidden.size)


def test_too_few_tokens_make_silent_neurons_undecided_not_dead(relu_model, store):
    images, _ = digits()
    info = sealed(store, relu_model, [images[:200]])
    rows = store.read(info, "neurons")
    assert set(rows["class"][rows["neuron"].isin(NEVER)]) == {"undecided"}
    assert set(rows["class"][rows["neuron"].isin(NO_WAY_IN)]) == {"dead"}, "weights alone decide, whatever n is"


def test_every_number_of_a_gated_model_equals_plain_recomputation(store):
    model, _ = zoo.llama()
    data = text()
    info = sealed(store, model, data)
    seen = {}
    for i, layer in enumerate(model.model.layers):
        layer.mlp.down_proj.register_forward_hook(
            lambda m, a, o, i=i: seen.__setitem__(i, (a[0].reshape(-1, 24).double().numpy(), o.reshape(-1, 16).double().numpy()))
        )
    with torch.no_grad():
        model(torch.from_numpy(data.token_ids))
    for i, layer in enumerate(model.model.layers):
        a, out = seen[i]
        weight = layer.mlp.down_proj.weight.detach().double().numpy()
        contribution = np.abs(a) * np.linalg.norm(weight, axis=0) / np.linalg.norm(out, axis=1)[:, None]
        active = contribution > 0.01
        rows = store.read(info, "neurons", where=[Filter("layer", "=", i)], order_by=["neuron"])
        np.testing.assert_array_equal(rows["n_active"], active.sum(0))
        by_document = active.reshape(3, -1, 24).any(1).sum(0)
        np.testing.assert_array_equal(rows["documents_active"], by_document)
        np.testing.assert_array_equal(rows["windows_active"], active.reshape(6, -1, 24).any(1).sum(0))
        np.testing.assert_allclose(rows["contribution"], contribution.mean(0), rtol=1e-5)
        np.testing.assert_allclose(rows["mean"], a.mean(0), rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(rows["second_moment"], (a**2).mean(0), rtol=1e-9)
        centred = a - a.mean(0)
        np.testing.assert_allclose(rows["kurtosis"], (centred**4).mean(0) / (centred**2).mean(0) ** 2 - 3, rtol=1e-7)
        np.testing.assert_array_equal(rows["max"], a.max(0))
        np.testing.assert_array_equal(rows["min"], a.min(0))
        np.testing.assert_allclose(rows["out_norm"], np.linalg.norm(weight, axis=0), rtol=1e-12)
        np.testing.assert_allclose(rows["in_norm"], layer.mlp.gate_proj.weight.detach().double().norm(dim=1), rtol=1e-12)
        np.testing.assert_allclose(rows["gate_mean"] * 1, _gate(model, data, i).mean(0), rtol=1e-6, atol=1e-12)
        histogram = store.read(info, "neuron_histograms", where=[Filter("layer", "=", i)], order_by=["neuron"])
        counts = from_lists(histogram["bins"].tolist(), histogram["counts"].tolist())
        assert (counts.sum(1) == len(a)).all()
        reached = store.read(
            info, "neuron_densities", where=[Filter("layer", "=", i), Filter("threshold", "=", 2.0**-9)], order_by=["neuron"]
        )
        np.testing.assert_array_equal(reached["n_active"], (np.abs(a) >= 2.0**-9).sum(0))


def _gate(model, data, layer):
    found = []
    hook = model.model.layers[layer].mlp.act_fn.register_forward_hook(lambda m, a, o: found.append(o.reshape(-1, 24).double().numpy()))
    with torch.no_grad():
        model(torch.from_numpy(data.token_ids))
    hook.remove()
    return found[0]


def test_examples_point_at_the_peaks_and_their_strips_hold_the_activations(store):
    model, _ = zoo.llama()
    data = text(n_windows=8, window=40)
    info = sealed(store, model, data)
    values = []
    hook = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda m, a: values.append(a[0].numpy()))
    with torch.no_grad():
        model(torch.from_numpy(data.token_ids))
    hook.remove()
    a = values[0]
    examples = store.read(info, "neuron_examples", where=[Filter("layer", "=", 1), Filter("neuron", "=", 7)], order_by=["kind", "rank"])
    top = examples[examples["kind"] == "top"]
    assert top["window"].is_unique
    best = a[:, 1:, 7].max(1)
    np.testing.assert_allclose(top["value"], np.sort(best)[::-1], rtol=1e-6)
    for row in examples.itertuples():
        around = a[row.window, row.first : row.first + len(row.strip), 7]
        assert row.value == pytest.approx(a[row.window, row.position, 7], rel=1e-6)
        np.testing.assert_allclose(np.array(row.strip) / 1000 * np.abs(around).max(), around, atol=np.abs(around).max() / 1900)
    assert (examples["position"] > 0).all(), "position 0 is left out of rankings"
    windows = store.read(info, "windows")
    assert windows["token_ids"].iloc[0].tolist() == data.token_ids[int(windows["window"].iloc[0])].tolist()


@pytest.mark.parametrize("batch_tokens", [16, 48, 4096])
def test_the_batch_size_changes_no_count(store, batch_tokens):
    """Same key, since it changes speed only; so the runs are forced."""
    model, _ = zoo.gpt2()
    data = text(n_windows=5)
    reference = store.read(sealed(store, model, data), "neurons", order_by=["layer", "neuron"])
    other = store.read(sealed(store, model, data, batch_tokens=batch_tokens, force=True), "neurons", order_by=["layer", "neuron"])
    counts = ["n_active", "documents_active", "windows_active", "class", "n_tokens"]
    # Another batch size is another matrix product: values may differ in the last bits, counts near the threshold by a token.
    assert (reference[counts[0]] - other[counts[0]]).abs().max() <= 1
    assert reference["n_tokens"].equals(other["n_tokens"])
    np.testing.assert_allclose(reference["mean"], other["mean"], atol=1e-6)


def test_units_do_not_change_the_result(store, monkeypatch):
    model, _ = zoo.llama()
    data = text(n_windows=7)
    one = store.read(sealed(store, model, data, batch_tokens=16), "neurons", order_by=["layer", "neuron"])
    monkeypatch.setattr("analysis.neurons.neuron_activity.UNIT_TOKENS", 32)
    many = store.read(sealed(store, model, data, batch_tokens=16, force=True), "neurons", order_by=["layer", "neuron"])
    exact = [c for c in one.columns if one[c].dtype != "float64"]
    for column in exact:
        assert one[column].equals(many[column]), column
    np.testing.assert_allclose(one["kurtosis"], many["kurtosis"], rtol=1e-8)


def test_experts_see_only_their_tokens(store):
    model, _ = zoo.mixtral()
    data = text()
    info = sealed(store, model, data)
    layers = store.read(info, "layers")
    n_experts, chosen = model.config.num_local_experts, model.config.num_experts_per_tok
    tokens = layers.groupby("layer")["n_tokens"].sum()
    assert (tokens == chosen * data.token_ids.size).all()
    missing = store.provenance(info)["facts"]["sites_without_rows"]
    assert len(layers) + len(missing) == n_experts * model.config.num_hidden_layers
    assert (layers["n_windows"] == data.n_windows).all(), "windows without a token of the expert were read all the same"


@pytest.mark.parametrize("make", [zoo.bert, zoo.t5, zoo.vit, zoo.resnet, zoo.lstm], ids=lambda f: f.__name__)
def test_other_families_seal_a_run(store, make):
    model, batch = make()
    batch = {k: v for k, v in batch.items() if k != "attention_mask"} if isinstance(batch, dict) else batch
    info = sealed(store, model, [batch])
    assert len(store.read(info, "neurons")) > 0


def test_a_model_without_ffn_is_refused_in_a_sentence(store):
    with pytest.raises(IncompatibleSubject, match="has no FFN site"):
        sealed(store, nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), [torch.ones(3, 4)])


def test_a_model_without_inputs_is_refused_in_a_sentence(store):
    subject = subject_from(nn.Linear(2, 2), name="tiny")
    with pytest.raises(IncompatibleSubject, match="has no inputs"):
        run(NEURON_ACTIVITY, {"model": subject}, NeuronActivityConfig(), store)


def test_a_shared_layer_is_refused_in_a_sentence(store):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))

        def forward(self, x):
            return self.block(self.block(x))

    with pytest.raises(UserError, match="more than once"):
        sealed(store, Shared(), [torch.ones(3, 4)])
