"""head_weights on maps worked out by hand, on a head that copies, on models of every kind, and on what it cannot answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analysis.attention.head_weights import HEAD_WEIGHTS, HeadWeightsConfig
from analysis.models import subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.stats.ov_directions import ov_directions
from store import Store
from tests import zoo
from tests.attention.planted import Planted

D = 8


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


class OneLayer(nn.Module):
    """Embedding, one layer of attention, one FFN, a norm, an unembedding."""

    def __init__(self, heads: int = 1, width: int = D, vocabulary: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, D)
        self.before = nn.RMSNorm(D)
        self.q, self.k, self.v = (nn.Linear(D, heads * width, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * width, D, bias=False)
        self.up, self.down = nn.Linear(D, 16), nn.Linear(16, D)
        self.final = nn.RMSNorm(D)
        self.head = nn.Linear(D, vocabulary, bias=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        q, k, v = (part(self.before(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        x = x + self.down(torch.relu(self.up(x)))
        return self.head(self.final(x))

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def ids(vocabulary=12):
    return [{"input_ids": torch.arange(vocabulary)[None].repeat(2, 1)}]


def sealed(store, model, data=None, *, resume=False, force=False, **settings):
    subject = subject_from(model.eval(), name="tiny", data=data)
    return run(HEAD_WEIGHTS, {"model": subject}, HeadWeightsConfig(**settings), store, resume=resume, force=force)


def test_a_head_that_copies_promotes_the_very_tokens_it_reads(store):
    model = OneLayer()
    with torch.no_grad():
        for part in (model.v, model.o):
            part.weight.copy_(torch.eye(D))
        rows = F.normalize(model.embed.weight, dim=1) * D**0.5  # what the norm before the values makes of them
        model.embed.weight.copy_(rows)
        model.head.weight.copy_(rows)
    info = sealed(store, model, ids(), top_tokens=5)
    order = ["direction", "rank"]
    tokens = store.read(info, "head_tokens", order_by=order)
    sides = {side: found for side, found in tokens.groupby("side")}
    for read, written in (("read", "promoted"), ("reversed", "suppressed")):
        assert sides[read]["token_id"].tolist() == sides[written]["token_id"].tolist()
        np.testing.assert_allclose(sides[read]["score"], sides[written]["score"], rtol=1e-5)
    np.testing.assert_allclose(store.read(info, "heads_ov")["energy_share"], 1 / D, rtol=1e-6)


def test_a_head_that_works_against_its_tokens_suppresses_what_it_reads(store):
    model = OneLayer()
    with torch.no_grad():
        model.v.weight.copy_(torch.eye(D))
        model.o.weight.copy_(-torch.eye(D))
        model.embed.weight.copy_(F.normalize(model.embed.weight, dim=1) * D**0.5)
        model.head.weight.copy_(model.embed.weight)
    tokens = store.read(sealed(store, model, ids()), "head_tokens", order_by=["direction", "rank"])
    sides = {side: found["token_id"].tolist() for side, found in tokens.groupby("side")}
    assert sides["read"] == sides["suppressed"] != sides["promoted"] == sides["reversed"]


def test_a_map_of_rank_one_worked_out_by_hand(store):
    """Head 1: W_V = a c^T, W_O = e b^T, so W_OV = (c . e) a b^T; head 0 moves nothing and has no rows."""
    model = OneLayer(heads=2, width=3)
    a = torch.tensor([3.0, 0, 4, 0, 0, 0, 0, 0])
    b = torch.tensor([0, 0, 0, 1.0, -2, 0, 2, 0])
    c, e = torch.tensor([1.0, 2, 0]), torch.tensor([2.0, 1, 5])  # c . e = 4; |a| = 5, |b| = 3
    before, final = torch.arange(1.0, 9), torch.tensor([1.0, 1, 1, 2, 3, 1, 0.5, 1])
    with torch.no_grad():
        model.v.weight.zero_()
        model.v.weight[3:] = torch.outer(c, a)
        model.o.weight.zero_()
        model.o.weight[:, 3:] = torch.outer(b, e)
        model.before.weight.copy_(before)
        model.final.weight.copy_(final)
    info = sealed(store, model, ids(), top_tokens=12)
    ov, tokens = store.read(info, "heads_ov"), store.read(info, "head_tokens")
    assert ov[["head", "direction"]].values.tolist() == [[1, 0]]
    assert ov["singular_value"][0] == pytest.approx(4 * 5 * 3) and ov["energy_share"][0] == pytest.approx(1)
    read, written = -a / 5, -b / 3  # the largest entry of what is written, -2, is made positive
    logits = (60 * written * final) @ model.head.weight.detach().T
    rows = model.embed.weight.detach()
    along = (rows / rows.square().mean(1, keepdim=True).sqrt()) @ (read * before)
    expected = {"promoted": (logits, True), "suppressed": (logits, False), "read": (along, True), "reversed": (along, False)}
    for side, (scores, descending) in expected.items():
        found = tokens[tokens["side"] == side].sort_values("rank")
        best = scores.sort(descending=descending)
        assert found["token_id"].tolist() == best.indices.tolist(), side
        np.testing.assert_allclose(found["score"], best.values, rtol=1e-4, atol=1e-5)


def test_directions_take_the_map_apart_and_their_sign_is_fixed():
    made = torch.Generator().manual_seed(0)
    values, output = torch.randn(9, 4, generator=made), torch.randn(4, 7, generator=made)
    found = ov_directions(values, output, 10)
    assert len(found.value) == 4 and float(found.energy.sum()) == pytest.approx(1)
    product = found.read.T @ torch.diag(found.value) @ found.written
    torch.testing.assert_close(product, values.double() @ output.double())
    torch.testing.assert_close(found.value, torch.linalg.svdvals(values.double() @ output.double())[:4])
    assert (found.written.gather(1, found.written.abs().argmax(1, keepdim=True)) > 0).all()
    turned = ov_directions(-values, -output, 10)
    torch.testing.assert_close(turned.written, found.written)
    torch.testing.assert_close(turned.read, found.read)
    assert not len(ov_directions(torch.zeros(9, 4), output, 3).value), "a map that is zero has no directions"


def _llama(model, layer):
    attention = model.model.layers[layer].self_attn
    wide = attention.v_proj.weight.T.unflatten(1, (-1, attention.head_dim)).transpose(0, 1)
    return wide.repeat_interleave(attention.num_key_value_groups, 0), attention.o_proj.weight.T


def _phi3(model, layer):
    attention = model.model.layers[layer].self_attn
    n = attention.num_key_value_heads * attention.head_dim
    wide = attention.qkv_proj.weight[-n:].T.unflatten(1, (-1, attention.head_dim)).transpose(0, 1)
    return wide.repeat_interleave(attention.num_key_value_groups, 0), attention.o_proj.weight.T


def _gpt2(model, layer):
    attention = model.transformer.h[layer].attn
    return attention.c_attn.weight.chunk(3, 1)[2].unflatten(1, (attention.num_heads, -1)).transpose(0, 1), attention.c_proj.weight


def _gpt_neox(model, layer):
    attention = model.gpt_neox.layers[layer].attention
    heads = model.config.num_attention_heads
    wide = attention.query_key_value.weight.unflatten(0, (heads, 3, -1))[:, 2].transpose(1, 2)
    return wide, attention.dense.weight.T


@pytest.mark.parametrize(("family", "weights"), [("llama", _llama), ("phi3", _phi3), ("gpt2", _gpt2), ("gpt_neox", _gpt_neox)])
def test_values_are_found_in_one_matrix_or_three_and_for_grouped_queries(store, family, weights):
    model, _ = zoo.ZOO[family]()
    found = store.read(sealed(store, model), "heads_ov", order_by=["layer", "head", "direction"])
    expected = []
    for layer in range(found["layer"].max() + 1):
        values, output = weights(model, layer)
        for value, rows in zip(values, output.unflatten(0, (len(values), -1)), strict=True):
            expected += torch.linalg.svdvals((value @ rows).detach().double())[:3].tolist()
    assert found["layer"].max() == 1
    np.testing.assert_allclose(found["singular_value"], expected, rtol=1e-4)


def test_a_decoder_beside_an_encoder_has_rows_of_the_decoder_alone(store):
    model, batch = zoo.t5()
    info = sealed(store, model, [batch])
    tokens = store.read(info, "head_tokens")
    assert tokens["hook_name"].str.startswith("decoder").all()
    crossing = store.provenance(info)["facts"]["places_without_tokens_read"]
    assert crossing and set(tokens[tokens["hook_name"].isin(crossing)]["side"]) == {"promoted", "suppressed"}
    assert any("encoder" in name for name in store.provenance(info)["facts"]["places_left_out"])


@pytest.mark.parametrize(("make", "says"), [(zoo.vit, "must have an unembedding"), (zoo.mamba, "must have softmax attention")])
def test_models_without_unembedding_or_heads_are_refused_in_a_sentence(store, make, says):
    model, batch = make()
    with pytest.raises(IncompatibleSubject, match=says):
        sealed(store, model, [batch])


def test_a_model_without_neurons_to_try_the_unembedding_with_is_refused_in_a_sentence(store):
    model = Planted()
    model.get_input_embeddings, model.get_output_embeddings = (lambda: model.embed), (lambda: model.head)
    with pytest.raises(IncompatibleSubject, match="must have neurons to try the unembedding with"):
        sealed(store, model, ids())


def test_a_killed_run_goes_on_at_its_layer_and_gives_the_same(store, monkeypatch):
    from analysis.attention.reading_heads import HeadReading

    model, _ = zoo.llama()
    whole = sealed(store, model)
    real, seen = HeadReading.rows, []

    def rows(self, name, report):
        seen.append(name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        yield from real(self, name, report)

    monkeypatch.setattr(HeadReading, "rows", rows)
    with pytest.raises(KeyboardInterrupt):
        sealed(store, model, force=True)
    again = sealed(store, model, force=True, resume=True)
    assert len(seen) == 3 and seen[1] == seen[2] != seen[0], "the first layer is not read twice"
    for table in HEAD_WEIGHTS.tables:
        a, b = (store.read(info, table.name, order_by=list(table.key)) for info in (whole, again))
        assert len(a) and a.equals(b)


def test_figures_are_drawn_from_the_stored_rows(store):
    from figures.prepared import prepare

    model, _ = zoo.llama()
    info = sealed(store, model)
    drawn = {f.slug: f.draw(store.read(info, f.table), store.provenance(info)) for f in HEAD_WEIGHTS.figures}
    for spec in drawn.values():
        prepare(spec)
    assert len(drawn["energy"].data) == store.read(info, "heads_ov")[["layer", "head"]].drop_duplicates().shape[0]
    assert drawn["tokens"].data["score"].max() == pytest.approx(
        store.read(info, "head_tokens").query("direction == 0 and side == 'promoted'")["score"].max()
    )
    assert len(drawn["tokens"].data) == 20
