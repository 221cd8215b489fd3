"""Attention as it is captured: the model's own pattern, bit for bit the same output, and what cannot be had."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from analysis.capture import CaptureError, Frame, find_sites
from analysis.capture.attention import EXCLUDED
from analysis.capture.attention_places import find_attention, projection_of
from analysis.capture.attention_session import capture_attention
from analysis.capture.running import observable, run
from analysis.models import open_subject
from analysis.spec import IncompatibleSubject
from tests import zoo

WITHOUT = ("listed_experts", "mamba", "resnet", "mlp", "lstm", "gru", "odd", "linear")
OWN_EAGER = ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions")


class Patterns:
    """Keeps the whole pattern of every call; for tests only."""

    def __init__(self, elements=64):
        self.found, self.calls, self._elements = [], [], elements

    def attention(self, call):
        keys = call.shape[3]
        blocks = [F.pad(x, (0, keys - x.shape[-1]), value=EXCLUDED) for _, x in call.blocks(self._elements)]
        self.found.append(torch.cat(blocks, 1).softmax(-1).reshape(*call.shape))
        self.calls.append(call)


def patterns_of(model, batch, elements=64):
    sites = [s for s in find_sites(model, batch) if s.kind == "attention"]
    seen = Patterns(elements)
    with capture_attention(model, sites, seen) as session:
        output = session.run(batch)
    return seen, output


def leaves(output):
    return [t for t in tree_leaves(output.to_tuple() if hasattr(output, "to_tuple") else output) if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("name", [n for n in zoo.ZOO if n not in WITHOUT])
def test_the_output_is_bit_identical_and_every_hook_is_gone(name):
    model, batch = zoo.ZOO[name]()
    with observable(model):
        bare = leaves(run(model, batch))
    seen, output = patterns_of(model, batch)
    assert seen.found
    assert all(torch.equal(a, b) for a, b in zip(bare, leaves(output), strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", [n for n in zoo.ZOO if n not in (*WITHOUT, "encoder", "encoder_norm_first", "positions_first")])
def test_the_pattern_is_the_models_own_eager_pattern(name):
    model, batch = zoo.ZOO[name]()
    seen, _ = patterns_of(model, batch)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, output_attentions=True)
    own = [a for key in OWN_EAGER for a in (output.get(key) or ())]
    assert len(own) == len(seen.found)
    for pattern, call in zip(seen.found, seen.calls, strict=True):
        real = call.real_queries()
        differences = []
        for other in own:
            if other.shape == pattern.shape:
                off = (other - pattern).abs().amax((1, 3))
                differences.append(float(off.max() if real is None else off[real].max()))
        assert min(differences) < 1e-5, call.site.name


@pytest.mark.parametrize("name", ["llama", "t5", "bert", "switch"])
def test_the_models_own_eager_softmax_is_seen_too(name):
    model, batch = zoo.ZOO[name]()
    model.set_attn_implementation("eager")
    seen, _ = patterns_of(model, batch)
    with torch.no_grad():
        output = model(**batch, output_attentions=True)
    own = [a for key in OWN_EAGER for a in (output.get(key) or ())]
    assert {c.site.operator for c in seen.calls} == {"softmax"}
    for pattern, call in zip(seen.found, seen.calls, strict=True):
        assert min(float((o - pattern).abs().max()) for o in own if o.shape == pattern.shape) < 1e-6
        assert call.query is not None
        assert call.value is not None
        assert call.output is not None
        assert call.output.shape[:3] == call.shape[:3]


@pytest.mark.parametrize("name", WITHOUT)
def test_models_without_attention_have_no_place(name):
    model, batch = zoo.ZOO[name]()
    assert find_attention(model, batch) == []


def test_places_say_what_they_are():
    model, batch = zoo.t5()
    found = [(p.site.layer, p.causal, p.crosses) for p in find_attention(model, batch)]
    assert found == [(0, False, False), (1, False, False), (2, True, False), (2, False, True), (3, True, False), (3, False, True)]
    model, batch = zoo.albert()
    assert [(p.site.layer, p.turn) for p in find_attention(model, batch)] == [(0, 0), (0, 1)], "shared layers run twice"


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "vit", "encoder", "positions_first", "switch"])
def test_the_projection_of_the_heads_gives_what_the_module_gives(name):
    model, batch = zoo.ZOO[name]()
    for place in find_attention(model, batch):
        seen = Patterns()
        with capture_attention(model, [place.site], seen) as session:
            session.run(batch)
        z = seen.calls[0].output
        weights = projection_of(model, place, z.shape[-1])
        owner = model.get_submodule(place.projection.weight.rpartition(".")[0])
        joined = z.transpose(1, 2).flatten(2)
        bias = 0 if owner.bias is None else owner.bias
        expected = joined @ owner.weight if place.projection.transposed else F.linear(joined, owner.weight)
        assert torch.allclose(torch.einsum("bhqd,hdo->bqo", z, weights) + bias, expected + bias, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Ways of calling


class Calls(nn.Module):
    """One attention call, whatever is asked for."""

    def __init__(self, heads=4, groups=4, **how):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = nn.Linear(16, heads * 4), nn.Linear(16, groups * 4), nn.Linear(16, groups * 4)
        self.o = nn.Linear(heads * 4, 16)
        self.heads, self.groups, self.how = heads, groups, how

    def split(self, x, n):
        return x.unflatten(-1, (n, 4)).transpose(1, 2)

    def forward(self, inputs_embeds):
        x = inputs_embeds
        q, k, v = self.split(self.q(x), self.heads), self.split(self.k(x), self.groups), self.split(self.v(x), self.groups)
        return self.o(F.scaled_dot_product_attention(q, k, v, **self.how).transpose(1, 2).flatten(2))


N = 11


def plainly(model, x, mask=None, scale=0.5):
    q, k = model.split(model.q(x), model.heads), model.split(model.k(x), model.groups)
    scores = q @ k.repeat_interleave(model.heads // model.groups, 1).transpose(-1, -2) * scale
    return (scores if mask is None else scores + mask).softmax(-1)


LOWER = torch.zeros(N, N).masked_fill(~torch.ones(N, N).tril().bool(), float("-inf"))
WINDOW = LOWER.masked_fill(~torch.ones(N, N).triu(-3).bool(), float("-inf"))
ALIBI = LOWER - (torch.arange(N)[:, None] - torch.arange(N)).abs() * torch.tensor([0.5, 0.25, 0.125, 0.0625])[:, None, None]
HOW = {
    "is_causal": ({"is_causal": True}, LOWER, 0.5, 4),
    "grouped": ({"is_causal": True, "enable_gqa": True}, LOWER, 0.5, 2),
    "one group": ({"enable_gqa": True}, None, 0.5, 1),
    "scale": ({"scale": 2.0}, None, 2.0, 4),
    "boolean window": ({"attn_mask": WINDOW == 0}, WINDOW, 0.5, 4),
    "added window": ({"attn_mask": WINDOW}, WINDOW, 0.5, 4),
    "smallest number instead of -inf": ({"attn_mask": WINDOW.clamp(min=torch.finfo(torch.float32).min)}, WINDOW, 0.5, 4),
    "bias by distance per head": ({"attn_mask": ALIBI}, ALIBI, 0.5, 4),
    "grouped with a bias": ({"attn_mask": ALIBI, "enable_gqa": True}, ALIBI, 0.5, 2),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("elements", [1, 100, 1 << 20])
def test_every_argument_of_the_fused_call_is_honoured(how, elements):
    given, mask, scale, groups = HOW[how]
    model = Calls(groups=groups, **given).eval()
    x = torch.randn(2, N, 16)
    seen, output = patterns_of(model, {"inputs_embeds": x}, elements)
    assert torch.allclose(seen.found[0], plainly(model, x, mask, scale), atol=1e-6)
    assert torch.equal(output, model(x))


def test_keys_that_the_mask_excludes_are_excluded_and_not_merely_unlikely():
    model = Calls(attn_mask=WINDOW.clamp(min=-10000.0)).eval()
    seen, _ = patterns_of(model, {"inputs_embeds": torch.randn(2, N, 16)})
    _, block = next(iter(seen.calls[0].blocks()))
    assert ((block > EXCLUDED / 10).sum(-1) == (WINDOW == 0).sum(-1)).all()


class Einsum(nn.Module):
    """Somebody's own attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.o = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, inputs_embeds):
        q, k, v = self.qkv(inputs_embeds).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).div(2).softmax(-1)
        return self.o(torch.einsum("bhqk,bhkd->bhqd", weights, v).transpose(1, 2).flatten(2))


def test_attention_written_with_einsum_is_seen():
    model, x = Einsum().eval(), torch.randn(2, N, 16)
    seen, _ = patterns_of(model, {"inputs_embeds": x})
    q, k, _ = model.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    assert torch.allclose(seen.found[0], (q @ k.transpose(-1, -2) / 2).softmax(-1), atol=1e-6)
    assert find_attention(model, {"inputs_embeds": x})[0].projection.weight == "o.weight"


class Multihead(nn.Module):
    """torch's own module, asked for its weights or not."""

    def __init__(self, weights, mask=None):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.weights, self.mask = weights, mask

    def forward(self, inputs_embeds):
        return self.attention(
            inputs_embeds, inputs_embeds, inputs_embeds, need_weights=self.weights, attn_mask=self.mask, average_attn_weights=False
        )


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("mask", [None, WINDOW])
def test_torchs_own_module_is_seen_from_inside(weights, mask):
    model, x = Multihead(weights, mask).eval(), torch.randn(2, N, 16)
    seen, output = patterns_of(model, {"inputs_embeds": x})
    model.weights = True
    with torch.no_grad():
        expected = model(x)[1]
    assert torch.allclose(seen.found[0], expected, atol=1e-6)
    assert seen.calls[0].query is not None
    assert seen.calls[0].value is not None
    model.weights = weights
    with observable(model):  # without the fast path, which computes other bits
        assert torch.equal(output[0], model(x)[0])


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be had


def test_dropout_that_stays_on_is_refused():
    with pytest.raises(IncompatibleSubject, match=r"attention dropout of 0\.1 that stays on"):
        patterns_of(Calls(dropout_p=0.1).eval(), {"inputs_embeds": torch.randn(2, N, 16)})


def test_hooks_and_modes_are_gone_after_an_error():
    class Breaks:
        def attention(self, call):
            raise RuntimeError("no")

    model, batch = zoo.llama()
    sites = [s for s in find_sites(model, batch) if s.kind == "attention"]
    with pytest.raises(RuntimeError, match="^no$"), capture_attention(model, sites, Breaks()) as session:
        session.run(batch)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.overrides._get_current_function_mode_stack() == []
    seen, _ = patterns_of(model, batch)
    assert len(seen.found) == 2


def test_a_frame_of_another_shape_is_refused():
    model, batch = zoo.llama()
    sites = [s for s in find_sites(model, batch) if s.kind == "attention"]

    class Asks:
        def attention(self, call):
            call.real_queries()

    with (
        pytest.raises(CaptureError, match="must have a row for each of 2 x 5 positions"),
        capture_attention(model, sites, Asks()) as session,
    ):
        session.run(batch, Frame(torch.ones(2, 5, dtype=torch.bool)))


def test_other_sites_are_refused():
    model, batch = zoo.llama()
    sites = [s for s in find_sites(model, batch) if s.kind == "ffn"]
    with pytest.raises(CaptureError, match="must be attention in the model, got kind ffn"), capture_attention(model, sites, Patterns()):
        pass


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_the_pattern_of_a_bundled_model_is_its_own_eager_pattern(name):
    subject = open_subject(name, "python-docs", n_tokens=96, window=48)
    batch, _ = next(iter(subject.data.batches(2)))
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][1, 40:] = 0
    seen, _ = patterns_of(subject.model, batch, 1 << 12)
    subject.model.set_attn_implementation("eager")
    with torch.no_grad():
        own = subject.model(**batch, output_attentions=True).attentions
    assert len(own) == len(seen.found)
    for a, b, call in zip(own, seen.found, seen.calls, strict=True):
        real = call.real_queries()[:, None, :, None]
        assert float(((a - b).abs() * real).max()) < 1e-5


@pytest.mark.parametrize("name", ["encoder", "encoder_norm_first", "positions_first"])
def test_torchs_encoder_with_padding_shows_the_weights_it_would_return(name):
    model, batch = zoo.ZOO[name]()
    given = []
    layers = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    handles = [m.register_forward_pre_hook(lambda m, a, k: given.append((m, a, k)), with_kwargs=True) for m in layers]
    seen, _ = patterns_of(model, batch)
    for handle in handles:
        handle.remove()
    given = given[-len(layers) :]
    for (module, args, kwargs), pattern, call in zip(given, seen.found, seen.calls, strict=True):
        with torch.no_grad():
            _, weights = module(*args, **(kwargs | {"need_weights": True, "average_attn_weights": False}))
        real = call.real_queries()[:, None, :, None]
        assert not real.all(), "some queries are padding"
        assert float(((weights - pattern).abs() * real).max()) < 1e-6


def test_a_product_whose_operands_are_given_by_name_is_followed_too():
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=2)).eval()
    batch = zoo.tokens()
    seen, _ = patterns_of(model, batch)
    with torch.no_grad():
        own = model(**batch, output_attentions=True).attentions
    for a, b, call in zip(own, seen.found, seen.calls, strict=True):
        assert float(((a - b).abs() * call.real_queries()[:, None, :, None]).max()) < 1e-5
        assert call.value is not None


def gpt_oss(implementation=None):
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
        num_local_experts=4, num_experts_per_tok=2, sliding_window=4,
    )  # fmt: skip
    model = GptOssForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(parameter)
    return model, zoo.tokens()


def test_a_learned_sink_is_no_key_and_what_it_takes_is_known():
    model, batch = gpt_oss()
    seen, _ = patterns_of(model, batch)
    with torch.no_grad():
        own = model(**batch, output_attentions=True).attentions
    assert len(own) == len(seen.found) == 2
    for pattern, call, a in zip(seen.found, seen.calls, own, strict=True):
        taken = call.sink_mass()
        real = call.real_queries()[:, None, :, None]
        assert pattern.shape == a.shape
        assert float(((pattern * (1 - taken[..., None]) - a).abs() * real).max()) < 1e-6
        assert 0.01 < float(taken.min()) < float(taken.max()) < 0.99
    assert find_attention(model, batch)[0].projection is not None


class OddSink(nn.Module):
    """A learned logit before those of the keys."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.o, self.sink = nn.Linear(16, 48), nn.Linear(16, 16), nn.Parameter(torch.tensor([0.0, 1.0, 2.0, -1.0]))

    def forward(self, inputs_embeds):
        q, k, v = self.qkv(inputs_embeds).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 2
        sink = self.sink[None, :, None, None].expand(*scores.shape[:-1], 1)
        weights = torch.cat([sink, scores], -1).softmax(-1)[..., 1:]
        return self.o((weights @ v).transpose(1, 2).flatten(2))


def test_a_sink_before_the_keys_is_told_from_them():
    model, x = OddSink().eval(), torch.randn(2, N, 16)
    seen, _ = patterns_of(model, {"inputs_embeds": x})
    q, k, _ = model.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / 2
    assert torch.allclose(seen.found[0], scores.softmax(-1), atol=1e-6)
    sink = model.sink.exp()[None, :, None]
    assert torch.allclose(seen.calls[0].sink_mass(), sink / (sink + scores.exp().sum(-1)), atol=1e-6)


class LeftOn(nn.Module):
    """Its own softmax, and dropout of the weights that eval mode does not turn off."""

    def __init__(self, p):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.o, self.p = nn.Linear(16, 48), nn.Linear(16, 16), p

    def forward(self, inputs_embeds):
        q, k, v = self.qkv(inputs_embeds).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        weights = F.dropout((q @ k.transpose(-1, -2) / 2).softmax(-1), self.p, training=True)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


def test_dropout_of_weights_that_stays_on_is_refused_and_of_probability_zero_is_none():
    with pytest.raises(IncompatibleSubject, match=r"attention must be the same at every run, got attention dropout of 0\.3"):
        patterns_of(LeftOn(0.3).eval(), {"inputs_embeds": torch.randn(2, N, 16)})
    assert patterns_of(LeftOn(0.0).eval(), {"inputs_embeds": torch.randn(2, N, 16)})[0].found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_the_pattern_of_its_own_queries_and_keys_in_float32(dtype):
    model, x = Calls().eval().to(dtype), torch.randn(2, N, 16).to(dtype)
    seen, _ = patterns_of(model, {"inputs_embeds": x})
    call = seen.calls[0]
    assert call.query.dtype == dtype
    plain = (call.query.float() @ call.key.float().transpose(-1, -2) * 0.5).softmax(-1)
    assert torch.allclose(seen.found[0], plain, atol=1e-6)
