"""neuron_weights against models whose answer is known by hand, and against plain recomputation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import open_subject, subject_from
from analysis.neurons.directions import Directions, end_of, lens_of
from analysis.neurons.look import look_at
from analysis.neurons.neuron_weights import NEURON_WEIGHTS, NeuronWeightsConfig
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.stats.nearest import nearest, spread, unit_rows
from store import Store
from tests import zoo


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


class TinyLM(nn.Module):
    """Embedding, one residual FFN, a norm with a gain, an unembedding: all of it written by hand in the tests."""

    def __init__(self, vocabulary=5, d=5, width=4, norm=None):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d)
        self.ln = nn.RMSNorm(d, eps=1e-6)
        self.up = nn.Linear(d, width)
        self.down = nn.Linear(width, d)
        self.final = norm or nn.RMSNorm(d, eps=1e-6)
        self.head = nn.Linear(d, vocabulary, bias=False)

    def forward(self, input_ids):
        x = self.embed(input_ids)
        x = x + self.down(torch.relu(self.up(self.ln(x))))
        return self.head(self.final(x))

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.head


def sealed(store, model, data=None, **settings):
    subject = subject_from(model, name="tiny", data=data)
    return run(NEURON_WEIGHTS, {"model": subject}, NeuronWeightsConfig(**settings), store)


def tokens(rows, layer, neuron, side):
    found = rows[(rows["layer"] == layer) & (rows["neuron"] == neuron) & (rows["side"] == side)].sort_values("rank")
    return found["token_id"].tolist(), found["score"].to_numpy()


def ids(vocabulary=5):
    return [{"input_ids": torch.arange(vocabulary)[None].repeat(2, 1)}]


@pytest.mark.parametrize("norm", [nn.RMSNorm(5, eps=1e-6), nn.LayerNorm(5)], ids=["rms", "layer"])
def test_the_lens_of_an_identity_unembedding_is_the_output_direction_times_the_gain(store, norm):
    torch.manual_seed(1)
    model = TinyLM(norm=norm)
    gain = torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0])
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(5))
        model.final.weight.copy_(gain)
        model.down.weight[:, 2] = torch.tensor([0.1, 0.4, 0.9, -0.2, -0.5])
    info = sealed(store, model, ids())
    w = model.down.weight[:, 2].detach()
    expected = (gain * (w - w.mean() if isinstance(norm, nn.LayerNorm) else w)).numpy()
    rows = store.read(info, "neuron_tokens")
    promoted, scores = tokens(rows, 0, 2, "promoted")
    assert promoted == np.argsort(-expected).tolist()
    np.testing.assert_allclose(scores, np.sort(expected)[::-1], rtol=1e-5, atol=1e-7)
    suppressed, scores = tokens(rows, 0, 2, "suppressed")
    assert suppressed == np.argsort(expected).tolist()
    np.testing.assert_allclose(scores, np.sort(expected), rtol=1e-5, atol=1e-7)
    lens = store.read(info, "neuron_lens").sort_values("neuron")
    assert lens["logit_std"].iloc[2] == pytest.approx(expected.std(), rel=1e-5)


def test_driving_tokens_are_those_whose_normalised_embedding_the_input_weights_answer_to(store):
    torch.manual_seed(2)
    model = TinyLM()
    with torch.no_grad():
        model.embed.weight[3] *= 100  # a long embedding is no longer after the norm
        model.ln.weight.copy_(torch.rand(5) + 0.5)
    info = sealed(store, model, ids())
    e = model.embed.weight.detach().double()
    expected = (model.up.weight.detach().double() * model.ln.weight.detach()) @ (e / e.square().mean(1, keepdim=True).sqrt()).T
    rows = store.read(info, "neuron_tokens")
    for neuron in range(4):
        found, scores = tokens(rows, 0, neuron, "driving")
        assert found == expected[neuron].argsort(descending=True).tolist()
        np.testing.assert_allclose(scores, expected[neuron].sort(descending=True).values, rtol=1e-5, atol=1e-6)


def test_what_is_read_through_a_further_layer_is_not_taken_for_logits(store):
    class Transformed(TinyLM):
        def __init__(self):
            super().__init__()
            self.between = nn.Linear(5, 5)

        def forward(self, input_ids):
            x = self.embed(input_ids)
            x = x + self.down(torch.relu(self.up(self.ln(x))))
            return self.head(self.final(self.between(x)))

    torch.manual_seed(0)
    info = sealed(store, Transformed(), ids())
    assert "does not reach" in store.provenance(info)["facts"]["promoted_and_suppressed"]
    assert set(store.read(info, "neuron_tokens")["side"]) == {"driving"}


@pytest.mark.parametrize("make", [zoo.llama, zoo.phi3, zoo.gpt2, zoo.t5, zoo.mixtral], ids=lambda f: f.__name__)
def test_raising_a_neuron_of_the_last_layer_moves_the_logits_as_its_tokens_say(make):
    """The claim behind the lens, tried on whole models: the change of the logits is the lens' scores over the norm's scale."""
    model, batch = make()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or ".ln_" in name:
                parameter.add_(torch.rand_like(parameter))  # gains that are not all one, biases that are not zero
    subject = subject_from(model, data=[batch])
    look = look_at(subject, [end_of(model, "output")[0]])
    directions = Directions(model, look)
    lens = lens_of(model, look, directions)
    assert not isinstance(lens, str), lens
    assert lens.norm is not None and lens.norm.path.rpartition(".")[2] in ("norm", "ln_f", "final_layer_norm")
    site = [s for s in look.sites if s.name in look.read][-1]
    w = directions.out(site)[5]

    def logits(push):
        """With push times w_out added where the final norm reads."""
        norm = model.get_submodule(lens.norm.path)
        handle = norm.register_forward_pre_hook(lambda m, a: (a[0].double().to(a[0]) + push * w, *a[1:]))
        with torch.no_grad():
            out = model(**batch).logits
        handle.remove()
        return out[0, 0].double()

    step = 1e-3 * float(lens.norm.x[0].norm() / w.norm())
    moved = (logits(step) - logits(-step)) / (2 * step)
    scores = (lens.folded(w[None]) @ lens.weight.T)[0].double()
    # Besides, the norm's scale changes, which adds a multiple of the logits themselves.
    basis = torch.stack([scores, logits(0.0) - (model.lm_head.bias if model.lm_head.bias is not None else 0), torch.ones_like(scores)], 1)
    solution = torch.linalg.lstsq(basis[:, : 2 if not lens.norm.centred else 3], moved[:, None]).solution[:, 0]
    left = moved - basis[:, : len(solution)] @ solution
    if not lens.norm.centred:  # a bias of the norm is a direction of its own
        assert float(left.norm() / moved.norm()) < 2e-2
    assert solution[0] > 0
    assert torch.corrcoef(torch.stack([basis[:, : len(solution)] @ solution, moved]))[0, 1] > 0.99


@pytest.mark.parametrize("make", [zoo.llama, zoo.gpt2, zoo.phi3, zoo.mixtral, zoo.mixtral, zoo.bert], ids=lambda f: f.__name__)
def test_directions_are_what_the_neurons_compute_with(make):
    """Input rows reproduce the activation, gate and up told apart; output rows reproduce the FFN's output."""
    model, batch = make()
    look = look_at(subject_from(model, data=[batch]), [])
    directions = Directions(model, look)
    site = next(s for s in look.sites if s.name in look.read)
    reader = look.reader(site.producers[0], site.expert)
    x, a = look.read[reader.name].double(), look.read[site.name].double()
    bias = 0.0
    if len(site.producers) == 1:
        bias = model.get_parameter(site.producers[0].replace("weight", "bias")).detach().double()
    before = x @ directions.into(site).double().T + bias
    act = {"silu": nn.functional.silu, "gelu": nn.functional.gelu, "gelu_tanh": lambda v: nn.functional.gelu(v, approximate="tanh")}
    gate = act[site.activation](before)
    if len(site.producers) == 2:
        up = look.ups[site.name].double()
        gate = gate * up
    torch.testing.assert_close(gate, a, rtol=1e-4, atol=1e-6)


def test_a_copied_neuron_is_its_own_nearest_by_output_and_input_weights(store):
    model, _ = zoo.llama()
    with torch.no_grad():
        for name, row in (("gate_proj", 3), ("up_proj", 3)):
            source = getattr(model.model.layers[0].mlp, name).weight[row]
            getattr(model.model.layers[1].mlp, name).weight[11] = 2 * source
        model.model.layers[1].mlp.down_proj.weight[:, 11] = 0.5 * model.model.layers[0].mlp.down_proj.weight[:, 3]
    rows = store.read(sealed(store, model), "neuron_similar")
    for by in ("output weights", "input weights"):
        first = rows[(rows["by"] == by) & (rows["rank"] == 0)].set_index(["layer", "neuron"])
        for here, there in (((0, 3), (1, 11)), ((1, 11), (0, 3))):
            row = first.loc[here]
            assert (row["other_layer"], row["other_neuron"]) == there
            assert row["other_hook_name"] == f"blocks.{there[0]}.mlp.hook_post"
            assert row["cosine"] == pytest.approx(1, abs=1e-6)
    # Nowhere else: random directions in 16 dimensions are not that alike.
    assert (rows["cosine"] > 0.999).sum() == 4


@pytest.mark.parametrize("make", [zoo.llama, zoo.gpt2], ids=lambda f: f.__name__)
def test_every_cosine_and_token_equals_plain_recomputation(store, make):
    model, _ = make()
    info = sealed(store, model, top_neurons=5, top_tokens=7)
    if make is zoo.llama:
        out = torch.cat([layer.mlp.down_proj.weight.T for layer in model.model.layers])
        into = torch.cat([layer.mlp.gate_proj.weight for layer in model.model.layers])
        gain, width, centred = model.model.norm.weight, 24, False
    else:
        out = torch.cat([h.mlp.c_proj.weight for h in model.transformer.h])
        into = torch.cat([h.mlp.c_fc.weight.T for h in model.transformer.h])
        gain, width, centred = model.transformer.ln_f.weight, 64, True
    similar = store.read(info, "neuron_similar", order_by=["layer", "neuron", "rank"])
    for by, w in (("output weights", out), ("input weights", into)):
        w = nn.functional.normalize(w.detach().double(), dim=1)
        cosine = w @ w.T
        cosine.fill_diagonal_(-2)
        value, index = cosine.topk(5, dim=1)
        rows = similar[similar["by"] == by]
        np.testing.assert_allclose(rows["cosine"], value.flatten(), atol=2e-6)
        assert (rows["other_layer"] * width + rows["other_neuron"]).tolist() == index.flatten().tolist()
    direction = out.detach().double()
    direction = direction - direction.mean(1, keepdim=True) if centred else direction
    logits = (direction * gain.detach()) @ model.lm_head.weight.detach().double().T
    rows = store.read(info, "neuron_tokens", order_by=["layer", "neuron", "rank"])
    promoted, suppressed = rows[rows["side"] == "promoted"], rows[rows["side"] == "suppressed"]
    np.testing.assert_allclose(promoted["score"], logits.topk(7, dim=1).values.flatten(), rtol=1e-4, atol=1e-7)
    assert promoted["token_id"].tolist() == logits.topk(7, dim=1).indices.flatten().tolist()
    assert suppressed["token_id"].tolist() == logits.topk(7, dim=1, largest=False).indices.flatten().tolist()
    lens = store.read(info, "neuron_lens", order_by=["layer", "neuron"])
    np.testing.assert_allclose(lens["logit_std"], logits.std(1, correction=0), rtol=1e-4)
    centre = logits - logits.mean(1, keepdim=True)
    np.testing.assert_allclose(lens["logit_kurtosis"], (centre**4).mean(1) / (centre**2).mean(1) ** 2 - 3, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(lens["logit_skewness"], (centre**3).mean(1) / (centre**2).mean(1) ** 1.5, rtol=1e-3, atol=1e-4)


def test_experts_are_compared_with_experts_and_named(store):
    model, _ = zoo.mixtral()
    with torch.no_grad():
        experts = model.model.layers[1].mlp.experts
        experts.down_proj[2][:, 7] = 3 * experts.down_proj[0][:, 4]
    rows = store.read(sealed(store, model), "neuron_similar")
    assert len(rows) == 2 * 8 * 24 * 8
    found = rows[(rows["by"] == "output weights") & (rows["rank"] == 0) & (rows["cosine"] > 0.9999)].set_index("hook_name")
    first, second = (f"model.layers.1.mlp.experts.down_proj.hook_in[{e}]" for e in (0, 2))
    assert (found.loc[first, "other_hook_name"], found.loc[first, "other_neuron"], found.loc[first, "other_layer"]) == (second, 7, 1)
    assert (found.loc[second, "other_hook_name"], found.loc[second, "other_neuron"]) == (first, 4)


@pytest.mark.parametrize("make", [zoo.bert, zoo.t5, zoo.vit, zoo.resnet, zoo.encoder, zoo.odd, zoo.lstm], ids=lambda f: f.__name__)
def test_other_families_seal_a_run_and_say_what_could_not_be_read(store, make):
    model, batch = make()
    info = sealed(store, model, [batch])
    facts = store.provenance(info)["facts"]
    sides = set(store.read(info, "neuron_tokens")["side"])
    assert sides == {zoo.bert: {"driving"}, zoo.t5: {"promoted", "suppressed", "driving"}}.get(make, set())
    assert ("promoted" in sides) or facts["promoted_and_suppressed"].endswith("so there are no promoted or suppressed tokens.")
    if make is zoo.t5:
        rows = store.read(info, "neuron_tokens")
        assert rows[rows["side"] == "promoted"]["hook_name"].str.startswith("decoder").all(), "encoder neurons do not write to the decoder"


def test_a_silent_direction_has_no_neighbours_and_no_tokens(store):
    model, _ = zoo.llama()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[:, 6] = 0
        model.model.layers[1].mlp.gate_proj.weight[9] = 0
    info = sealed(store, model)
    similar, found = store.read(info, "neuron_similar"), store.read(info, "neuron_tokens")
    assert not len(similar.query("by == 'output weights' and (layer == 0 and neuron == 6 or other_layer == 0 and other_neuron == 6)"))
    assert not len(found.query("layer == 0 and neuron == 6 and side != 'driving'"))
    assert not len(found.query("layer == 1 and neuron == 9 and side == 'driving'"))
    layers = store.read(info, "weight_layers", order_by=["layer"])
    assert layers["n_without_output"].tolist() == [1, 0] and layers["n_without_input"].tolist() == [0, 1]
    assert store.read(info, "neuron_lens").query("layer == 0 and neuron == 6")["logit_kurtosis"].isna().all()


def test_the_answer_does_not_depend_on_data(store):
    model, batch = zoo.llama()
    with_data = subject_from(model, data=[batch])
    without = subject_from(model)
    assert torch.equal(with_data.probe_batch()["input_ids"], without.probe_batch()["input_ids"])
    assert set(without.probe_batch()) == {"input_ids"}
    assert without.probe_batch()["input_ids"].max() < 60


def test_a_module_that_does_not_say_what_it_reads_is_refused_in_a_sentence(store):
    with pytest.raises(IncompatibleSubject, match="must say what it reads"):
        sealed(store, nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))


def test_figures_are_drawn_from_the_stored_rows(store):
    from figures.prepared import prepare

    model, _ = zoo.llama()
    info = sealed(store, model)
    provenance = store.provenance(info)
    for figure in NEURON_WEIGHTS.figures:
        spec = figure.draw(store.read(info, figure.table), provenance)
        prepare(spec)
        assert "48 neurons" in spec.sentence
    shown = NEURON_WEIGHTS.figure("alike_output").draw(store.read(info, "similarity_bins"), provenance).data
    assert shown.groupby("layer")["n_neurons"].sum().tolist() == [24, 24]
    np.testing.assert_allclose(shown.groupby("layer")["share"].sum(), 1)


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


def test_the_nearest_of_blocks_are_the_nearest_of_all(monkeypatch):
    monkeypatch.setattr("analysis.stats.nearest.BLOCK", 64)
    rows, has = unit_rows(torch.randn(37, 6, generator=torch.Generator().manual_seed(0)))
    assert has.all()
    groups = [rows[:20], rows[20:30], rows[30:]]
    value, group, place = nearest(groups[1], groups, 4, own=1)
    scores = groups[1] @ rows.T
    scores[torch.arange(10), torch.arange(20, 30)] = -2
    expected = scores.topk(4, dim=1)
    torch.testing.assert_close(value, expected.values)
    assert torch.equal(torch.tensor([0, 20, 30])[group] + place, expected.indices)


def test_too_few_candidates_leave_minus_infinity_not_a_neighbour():
    rows, _ = unit_rows(torch.eye(2))
    value, _, _ = nearest(rows, [rows], 3, own=0)
    assert value.tolist() == [[0.0, -torch.inf, -torch.inf]] * 2


def test_rows_without_a_length_are_told_and_huge_ones_do_not_overflow():
    rows, has = unit_rows(torch.tensor([[0.0, 0.0], [3e30, 4e30], [3e-30, 4e-30], [torch.inf, 1.0]]))
    assert has.tolist() == [False, True, True, False]
    torch.testing.assert_close(rows, torch.tensor([[0, 0], [0.6, 0.8], [0.6, 0.8], [0, 0]]))


def test_spread_of_a_row_worked_out_by_hand():
    std, skewness, kurtosis = spread(torch.tensor([[0.0, 0.0, 0.0, 4.0], [-1.0, 1.0, -1.0, 1.0]]))
    assert std.tolist() == pytest.approx([3**0.5, 1.0])
    # Centred: -1, -1, -1, 3: m3 = 24 / 4 = 6, m4 = 84 / 4 = 21.
    assert skewness.tolist() == pytest.approx([6 / 3**1.5, 0.0])
    assert kurtosis.tolist() == pytest.approx([21 / 9 - 3, -2.0])


@pytest.mark.models
def test_minilm_has_no_unembedding_and_says_so_but_has_similar_neurons(store):
    subject = open_subject("minilm")
    info = run(NEURON_WEIGHTS, {"model": subject}, NeuronWeightsConfig(), store)
    assert store.provenance(info)["facts"]["promoted_and_suppressed"].startswith("BertModel has no unembedding")
    tokens = store.read(info, "neuron_tokens")
    assert set(tokens["side"]) == {"driving"} and tokens["token"].notna().all()
    assert len(store.read(info, "neuron_similar")) == 2 * 8 * 6 * 1536
