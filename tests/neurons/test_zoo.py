"""Every family of the zoo seals a run of neuron_activity and of weight_sparsity, and counts the rows that it should."""

from __future__ import annotations

import pytest
import torch

from analysis.models import subject_from
from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run
from analysis.spec import UserError
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig
from store import Store
from tests import zoo

REAL = 12
"""Real tokens of the zoo's token batches: two sequences of 7, two positions of padding."""
ROWS = {
    "llama": {REAL}, "phi3": {REAL}, "gpt2": {REAL}, "opt": {REAL}, "gpt_neox": {REAL}, "bert": {REAL}, "mamba": {REAL},
    "positions_first": {REAL}, "t5": {REAL, 11}, "t5_gated": {REAL, 11},
    "vit": {2 * 5}, "resnet": {2 * 4 * 4, 2 * 2 * 2}, "mlp": {5}, "odd": {2 * 5},
    "encoder": {5 + 3}, "encoder_norm_first": {5 + 3},
    "lstm": {REAL, 2}, "gru": {REAL, 2},
    "mixtral": None, "mixtral_eager": None, "qwen2_moe": None, "switch": None, "listed_experts": None,
}  # fmt: skip
"""What a site's rows number: real tokens, patches, places of a map, sequences for states; None where experts share them out."""
REFUSED = {"albert": "runs more than once in a forward pass", "linear": "has no FFN site"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_every_family_is_in_one_of_the_lists():
    assert ROWS.keys() | REFUSED.keys() == zoo.ZOO.keys()


@pytest.mark.parametrize("family", ROWS)
def test_neuron_activity_counts_every_real_row_once(store, family):
    model, batch = zoo.ZOO[family]()
    subject = subject_from(model, name=family, data=[batch])
    info = run(NEURON_ACTIVITY, {"model": subject}, NeuronActivityConfig(), store)
    layers, neurons = store.read(info, "layers"), store.read(info, "neurons")
    assert len(neurons) == layers["n_neurons"].sum()
    assert layers["n_nonfinite"].sum() == 0
    if ROWS[family] is not None:
        assert set(layers["n_tokens"]) == ROWS[family]
        assert store.read(info, "experts").empty
    else:
        assert (store.read(info, "expert_layers")["n_tokens"] >= 11).all()


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_counted_is_refused_in_a_sentence(store, family):
    model, batch = zoo.ZOO[family]()
    with pytest.raises(UserError, match=REFUSED[family]):
        run(NEURON_ACTIVITY, {"model": subject_from(model, data=[batch])}, NeuronActivityConfig(), store)


@pytest.mark.parametrize("family", zoo.ZOO)
def test_weight_sparsity_counts_every_weight_once(store, family):
    model, _ = zoo.ZOO[family]()
    info = run(WEIGHT_SPARSITY, {"model": subject_from(model, name=family)}, WeightSparsityConfig(), store)
    totals = store.read(info, "totals").set_index("scope")
    assert totals.loc["all weights", "n_weights"] == sum(p.numel() for p in set(model.parameters()))


def test_channels_are_neurons_over_batch_height_and_width(store):
    model, batch = zoo.resnet()
    maps: list[torch.Tensor] = []
    convolution = model.resnet.encoder.stages[0].layers[0].layer[1].convolution
    handle = convolution.register_forward_pre_hook(lambda m, args: maps.append(args[0]))
    with torch.no_grad():
        model(**batch)
    handle.remove()
    info = run(NEURON_ACTIVITY, {"model": subject_from(model, data=[batch])}, NeuronActivityConfig(), store)
    rows = store.read(info, "neurons", order_by=["neuron"])
    rows = rows[rows["hook_name"] == "resnet.encoder.stages.0.layers.0.layer.1.convolution.hook_in"]
    assert maps[0].shape[1] == len(rows) == 8
    assert (rows["n_tokens"] == maps[0][:, 0].numel()).all()
    assert rows["n_nonzero"].tolist() == (maps[0] != 0).sum((0, 2, 3)).tolist()


def test_text_through_a_recurrent_model_is_seen_at_its_output_and_its_states(store):
    model, _ = zoo.lstm()
    ids = torch.randint(3, 60, (6, 9), generator=torch.Generator().manual_seed(1)).numpy()
    info = run(NEURON_ACTIVITY, {"model": subject_from(model, data=ids)}, NeuronActivityConfig(), store)
    found = store.read(info, "layers").set_index("hook_name")["n_tokens"].to_dict()
    assert found == {"rnn.hook_out": 54, "rnn.hook_hidden": 6, "rnn.hook_cell": 6}
