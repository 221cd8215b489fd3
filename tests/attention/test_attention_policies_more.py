"""Keyformer, subsampled keys, head detectors, copying: perfect, null and hand-computed cases; and models with layers of several kinds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analysis.attention.observing import attention_places, kind_of, without_pattern
from analysis.attention.repeated import SCORE_COLUMNS
from analysis.models import TextWindows, subject_from
from analysis.stats.attention_copying import copying
from analysis.stats.attention_policies import agreement, gumbel, h2o_mask, kept_mass, keyformer_mask, subsampled
from analysis.stats.attention_stripes import detection_patterns, detector_scores, detector_sums
from store import Store
from tests import zoo
from tests.attention.planted import HEADS, Matching, Planted
from tests.attention.test_attention_capture import gpt_oss
from tests.attention.test_head_sparsity import sealed, text

T4 = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def causal(heads=3, n=20):
    torch.manual_seed(0)
    lower = torch.ones(n, n).tril() == 0
    return torch.randn(heads, n, n).mul(2).masked_fill(lower, float("-inf")).softmax(-1)


# ---------------------------------------------------------------------------------------------------------------------
# Keyformer (C10)


def test_keyformer_without_noise_and_at_temperature_one_is_h2o():
    weights = causal()
    quiet = torch.zeros(1, 1, 20, 20)
    assert torch.equal(keyformer_mask(weights, 3, 4, quiet, warmest=1.0)[0], h2o_mask(weights, 3, 4))
    assert keyformer_mask(T4[None], 1, 1, quiet[..., :4, :4], warmest=1.0)[0, 0].int().tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1],
    ]  # fmt: skip


def test_keyformer_keeps_as_many_keys_as_it_may_and_only_those_there_are():
    kept = keyformer_mask(causal(), 3, 4, gumbel((5, 1, 20, 20), 0))
    assert kept.shape == (5, 3, 20, 20)
    assert kept.sum(-1).unique(dim=0).tolist() == [[[min(r + 1, 7) for r in range(20)]] * 3]
    assert not (kept & (torch.ones(20, 20).triu(1) == 1)).any()
    assert (kept[0] != kept[1]).any(), "each draw keeps others"
    assert torch.equal(kept, keyformer_mask(causal(), 3, 4, gumbel((5, 1, 20, 20), 0))), "a seed gives the same"


def test_strong_noise_keeps_the_wrong_keys_and_warmth_evens_scores_out():
    weights, rows = causal(n=60), slice(30, None)
    masses = [
        float(kept_mass(weights, keyformer_mask(weights, 6, 2, noise, warmest)[0], rows).mean())
        for noise, warmest in ((torch.zeros(1, 1, 60, 60), 1.0), (30 * gumbel((1, 1, 60, 60), 0), 1.0))
    ]
    assert masses[0] > masses[1]
    x, tau = np.array([0.0, 1.0]), 2.0
    two = keyformer_mask(torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6]]]), 1, 1, torch.zeros(1, 1, 3, 3), tau)
    assert two[0, 0, 2].tolist() == [True, False, True]
    assert np.exp(x / tau)[1] / np.exp(x / tau).sum() < np.exp(x)[1] / np.exp(x).sum()


def test_gumbel_noise_has_its_mean_and_spread():
    drawn = gumbel((200_000,), 0)
    assert float(drawn.mean()) == pytest.approx(0.577216, abs=0.01)
    assert float(drawn.std()) == pytest.approx(np.pi / np.sqrt(6), abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# Subsampled keys (C18)


def test_seeing_every_key_changes_nothing():
    weights, value = causal(), torch.randn(3, 20, 4)
    drawn = subsampled(weights, value, 1.0, 2, 0)
    assert torch.allclose(drawn[0], weights @ value, atol=1e-6)
    assert torch.allclose(agreement(drawn, weights @ value, slice(None)), torch.ones(3), atol=1e-6)


def test_the_spread_of_subsampled_uniform_attention_is_as_of_a_sample():
    torch.manual_seed(0)
    n, share = 1500, 0.25
    weights, value = torch.full((1, n, n), 1 / n), torch.randn(1, n, 8)
    drawn = subsampled(weights, value, share, 8, 0) - weights @ value
    assert float(drawn.square().mean()) == pytest.approx((1 - share) / (share * n), rel=0.15)


def test_the_own_key_and_the_first_are_always_seen():
    eye = torch.eye(30)[None]
    value = torch.randn(1, 30, 4)
    assert torch.allclose(subsampled(eye, value, 0.01, 3, 0), value.expand(3, 1, 30, 4))
    first = torch.zeros(1, 30, 30)
    first[:, :, 0] = 1
    assert torch.allclose(subsampled(first, value, 0.01, 3, 0), value[:, :1].expand(3, 1, 30, 4).clone())


def test_agreement_is_the_cosine():
    whole = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    drawn = torch.tensor([[[[3.0, 0.0], [0.0, -1.0]]], [[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(agreement(drawn, whole, slice(None))[0]) == pytest.approx((1 - 1 + 0.5**0.5 + 0) / 4)
    assert float(agreement(drawn, whole, slice(1, None))[0]) == pytest.approx(-0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Head detectors (C19)


def detected(weights, tokens, block=100):
    n = len(tokens)
    patterns = torch.from_numpy(detection_patterns(np.array(tokens)))
    sums = sum(detector_sums(weights[None, i : i + block, : i + block], i, patterns) for i in range(0, n, block))
    return detector_scores(sums, n)[0]


@pytest.mark.parametrize("block", [1, 2, 6])
def test_a_perfect_previous_token_head_has_methods_scores(block):
    weights = torch.eye(6).roll(-1, 1)
    weights[0] = torch.eye(6)[0]
    for r in range(1, 6):
        weights[r] = torch.eye(6)[r - 1]
    found = detected(weights, [1, 2, 3, 4, 5, 6], block)
    np.testing.assert_allclose(found[0], [0.833333, 0.833333], atol=1e-6)
    assert found[1:, 0].tolist() == [0, 0], "nothing repeats"


def test_an_induction_head_has_methods_score():
    tokens = [5, 7, 9, 5, 7, 9]
    weights = torch.zeros(6, 6)
    weights[:3, 0] = 1
    for r in range(3, 6):
        weights[r, r - 2] = 1
    found = detected(weights, tokens)
    assert found[2, 0] == pytest.approx(0.5), "mul"
    assert found[2, 1] == pytest.approx(0.5), "abs: rows 0 to 2 are off by 1 each"
    assert found[1, 0] == 0
    assert detection_patterns(np.array(tokens))[2].nonzero()[1].tolist() == [1, 2, 3]
    assert found[1, 1] == pytest.approx(1 - (6 + 3) / 6), "looks where no copy is, and not where one is"


def test_the_detectors_agree_with_the_definition_on_any_weights():
    weights, tokens = causal(1, 20)[0], np.random.default_rng(0).integers(0, 5, 20)
    found = detected(weights, tokens, 7)
    for i, pattern in enumerate(detection_patterns(tokens)):
        a, d = weights.double().numpy(), pattern.astype(float)
        assert found[i, 0] == pytest.approx((a * d).sum() / a.sum(), abs=1e-6)
        assert found[i, 1] == pytest.approx(1 - np.abs(a - d).mean() * 20, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Copying


def test_a_head_that_moves_the_tokens_own_direction_copies_and_the_opposite_suppresses():
    torch.manual_seed(0)
    rows = torch.randn(500, 64)
    own, others, counted = rows[:20], rows[20:], torch.ones(20, dtype=torch.bool)
    moved = torch.stack([own, -own, torch.randn(20, 64)])
    found = copying(moved, own, others, counted)
    assert found[0] == 1
    assert found[1] == 0
    assert float(found[2]) == pytest.approx(0.5, abs=0.2)


def test_copying_by_hand():
    moved, own, others = torch.tensor([[[1.0], [1.0]]]), torch.tensor([[2.0], [9.0]]), torch.tensor([[1.0], [3.0], [2.0], [0.0]])
    assert float(copying(moved, own, others, torch.tensor([True, False]))[0]) == pytest.approx(0.625)
    assert float(copying(moved, own, others, torch.tensor([True, True]))[0]) == pytest.approx(0.8125)


# ---------------------------------------------------------------------------------------------------------------------
# In runs


def test_planted_heads_have_the_scores_they_must_have(store):
    info = sealed(store, Planted().eval(), text())
    rows = store.read(info, "heads", order_by=["head"]).assign(kind=HEADS).set_index("kind")
    assert rows.loc["previous", "previous_mul"] == pytest.approx(100 / 101, abs=1e-4)
    assert rows.loc["previous", "keyformer_mass"] == pytest.approx(1, abs=1e-4)
    assert rows.loc["uniform", "keyformer_mass"] < 0.4
    assert rows.loc["previous", "keyformer_spread"] == pytest.approx(0, abs=1e-4)
    assert rows.loc["current", "subsampled_agreement"] == pytest.approx(1, abs=1e-5), "the own key is always seen"
    assert rows.loc["sink", "subsampled_agreement"] == pytest.approx(1, abs=1e-5), "and so is the first"
    assert rows.loc["uniform", "subsampled_agreement"] < 0.99
    assert rows["learned_sink_mass"].isna().all()
    assert rows["copying_score"].isna().all(), "what has no unembedding copies no token"
    levels = store.read(info, "head_levels").query(f"measure == 'subsampled_agreement' and head == {HEADS.index('uniform')}")
    assert levels.set_index("level")["value"].is_monotonic_increasing, "the more keys the nearer"
    assert len(levels) == 3


def test_induction_heads_have_their_detector_score(store):
    rows = store.read(sealed(store, Planted(Matching, heads=2).eval(), text()), "heads", order_by=["head"])
    np.testing.assert_allclose(rows["induction_mul"], [50 / 101, 0], atol=5e-3)
    np.testing.assert_allclose(rows["duplicate_mul"], [0, 50 / 101], atol=5e-3)
    assert set(SCORE_COLUMNS) <= set(rows.columns)


def test_learned_sinks_are_measured_apart(store):
    model, batch = gpt_oss()
    info = sealed(store, model, [batch])
    rows = store.read(info, "heads")
    assert rows["learned_sink_mass"].between(0.01, 0.99).all()
    assert rows["relative_entropy"].between(0.5, 1).all(), "of the attention beside them"
    positions = store.read(info, "head_positions")
    whole = (positions["learned_sink_mass"] * positions["n_rows"]).groupby([positions["layer"], positions["head"]]).sum()
    np.testing.assert_allclose(whole / positions.groupby(["layer", "head"])["n_rows"].sum(), rows["learned_sink_mass"], rtol=1e-6)


def test_a_transformer_with_an_unembedding_has_copying_scores(store):
    ids = np.random.default_rng(0).integers(3, 60, (4, 16))
    info = sealed(store, zoo.llama()[0], TextWindows.from_ids(ids))
    found = store.read(info, "heads")["copying_score"]
    assert found.notna().all()
    assert found.between(0.2, 0.8).all(), "seeded weights copy nothing"
    assert "no_copying_score" not in info.provenance["facts"]


def test_a_model_without_tokens_has_no_copying_score_and_says_why(store):
    info = sealed(store, Hybrid(), [torch.randn(4, 16, 16)])
    assert store.read(info, "heads")["copying_score"].isna().all()
    assert info.provenance["facts"]["no_copying_score"].startswith("the inputs are not tokens of a text")


@pytest.mark.parametrize(
    ("tokens", "first"),
    [
        ({"bos_token_id": 0, "cls_token_id": 7}, 0),
        ({"bos_token_id": None, "cls_token_id": 0}, 0),
        ({"bos_token_id": 5, "cls_token_id": 7}, 5),
    ],
)
def test_repeated_tokens_begin_with_the_tokenizers_own_first_token_whatever_its_number(tokens, first):
    from analysis.attention.repeated import prompts_of

    ids = prompts_of(SimpleNamespace(data=text(), facts={}, tokenizer=SimpleNamespace(**tokens)), 0)
    assert ids is not None and (ids[:, 0] == first).all()
    ids = prompts_of(SimpleNamespace(data=text(), facts={}, tokenizer=None), 0)
    assert ids is not None and len(set(ids[:, 0])) > 1, "without one, a drawn token"


class StateSpaceLayer(nn.Module):
    """Mixes tokens without a pattern."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, x):
        return x + self.mix(x.cumsum(1))


class Hybrid(nn.Module):
    """Attention in one block of four; another has both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        attention = [nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=True) for _ in range(2)]
        both = nn.Sequential(attention[1], StateSpaceLayer())
        self.layers = nn.ModuleList([StateSpaceLayer(), StateSpaceLayer(), attention[0], both])

    def forward(self, inputs_embeds):
        x = inputs_embeds
        for layer in self.layers:
            x = layer(x)
        return x


def test_layers_without_a_pattern_are_named_with_their_kind(store):
    batch = {"inputs_embeds": torch.randn(2, 6, 16)}
    info = sealed(store, Hybrid().eval(), [batch])
    assert info.provenance["facts"]["without_pattern"] == (
        "layers 0 to 1 (state-space layers); layers 3 (state-space layers beside attention)"
    )
    subject = subject_from(zoo.llama()[0], name="tiny", data=[zoo.tokens()])
    assert without_pattern(subject.model, attention_places(subject)) is None
    subject = subject_from(gpt_oss()[0], name="oss", data=[zoo.tokens()])
    assert without_pattern(subject.model, attention_places(subject)) is None, "GptOssMLP is no state-space layer"


@pytest.mark.parametrize(
    ("name", "words"),
    [("LinearAttention", "linear attention"), ("Qwen3NextGatedDeltaNet", "linear attention"), ("RwkvBlock", "linear attention"),
     ("Mamba2Mixer", "state-space layers"), ("SSMLayer", "state-space layers"), ("S4Layer", "state-space layers"),
     ("BambaMixer", "state-space layers"), ("mLSTMLayer", "gated recurrence"), ("RecurrentGemmaRglru", "gated recurrence"),
     ("Lfm2ShortConv", "short convolutions"), ("GptOssMLP", None), ("ClassMlp", None), ("CrossModalMixer", None), ("BambaRMSNorm", None)],
)  # fmt: skip
def test_layers_are_told_by_whole_words_of_the_names_of_their_classes(name, words):
    block = nn.Sequential(type(name, (nn.Linear,), {})(16, 16))
    assert kind_of(block) == (words or "layers without attention")
    model = Hybrid().eval()
    model.layers = nn.ModuleList([block, model.layers[2], nn.Sequential(nn.Sequential(model.layers[3][0]), block[0])])
    subject = subject_from(model, name="tiny", data=[{"inputs_embeds": torch.randn(2, 6, 16)}])
    found = without_pattern(model, attention_places(subject))
    assert found is not None and found.startswith(f"layers 0 ({words or 'layers without attention'})")
    assert found.endswith(f"layers 2 ({words} beside attention)" if words else "layers 0 (layers without attention)")
