"""Budgets, and attention put in place again."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.pattern import keys_at
from analysis.interventions.attention.tally import Kept
from analysis.interventions.attention.top_k import TopK
from tests.interventions.attention.tiny import Tiny, calibrated, dense_weights, ids, run, subject, written_out
from tests.zoo import ZOO, tokens


@dataclasses.dataclass(frozen=True)
class Everything(AttentionIntervention):
    """Keeps all pairs, or those of a given mask."""

    mask: object = None
    slug = "everything"
    title = "Everything"

    def keep(self, pattern):
        return Kept(torch.ones(1, 1, 1, dtype=torch.bool) if self.mask is None else self.mask)


@pytest.mark.parametrize(("level", "keys"), [(0.0, 4), (0.1, 3), (0.3, 2), (0.6, 1), (1.0, 1)])
def test_the_budget_is_the_fewest_keys_that_leave_the_levels_share(level, keys):
    counts = torch.tensor([1, 2, 3, 4])
    assert keys_at(level, counts) == keys


def test_a_sliding_window_counts_only_what_it_allows():
    assert keys_at(0.0, torch.tensor([1, 2, 3, 3, 3])) == 3
    assert keys_at(0.5, torch.tensor([3, 3, 3, 3])) == 2


NAMES = ["llama", "gpt2", "bert", "t5", "gpt_neox", "opt", "encoder", "mixtral", "qwen2_moe", "vit"]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_everything_kept_is_the_models_own_attention(name, eager):
    model, batch = ZOO[name]()
    if eager and not hasattr(model, "set_attn_implementation"):
        pytest.skip("one implementation only")
    if eager:
        model.set_attn_implementation("eager")
    dense = run(model, batch)
    with Everything().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        out = run(model, batch)
        assert held.measured_share() == 0.0
        assert held.tally.pairs > 0
    real = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    off = (out - dense).abs()
    assert float((off if real is None else off[real.bool()]).max()) < 1e-4


def test_masked_rows_are_written_out():
    model, batch = Tiny().eval(), {"input_ids": ids()}
    mask = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(2)) < 0.4
    allowed = mask & torch.ones(24, 24, dtype=torch.bool).tril()
    own = torch.eye(24, dtype=torch.bool) & ~allowed.any(-1, keepdim=True)
    with Everything(mask=mask).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        out = run(model, batch)
    assert torch.allclose(out, written_out(model, batch["input_ids"], (allowed | own).expand(2, -1, -1, -1)), atol=1e-5)


def test_weights_are_the_dense_ones():
    model, batch = Tiny().eval(), {"input_ids": ids()}
    seen = []

    class Looks(Everything):
        def keep(self, pattern):
            seen.append(pattern.weights)
            return super().keep(pattern)

    with Looks().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        run(model, batch)
    assert torch.allclose(torch.stack(seen), dense_weights(model, batch["input_ids"]), atol=1e-6)


def test_keys_of_a_group_are_read_where_any_of_its_heads_reads_them():
    model, batch = ZOO["llama"]()  # four query heads, two key heads
    whole = {"input_ids": batch["input_ids"][:1]}
    mask = torch.zeros(4, 7, 7, dtype=torch.bool)
    mask[0, :, 0] = mask[1, :, 1] = mask[2, :, 2] = mask[3, :, 2] = True
    with Everything(mask=mask).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        run(model, whole)
        shares = held.cost(0.5).shares
    assert shares.keys_read == pytest.approx((2 + 1) / 14)
    assert shares.keys_held == 1.0


def gpt_oss():
    """Learned sinks beside the keys; every other layer sees four tokens."""
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
    return model, tokens()


def test_learned_sinks_and_sliding_windows_stay_the_models_own():
    model, batch = gpt_oss()
    dense = run(model, batch)
    with Everything().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        out = run(model, batch)
        pairs = held.tally.pairs
    real = batch["attention_mask"].bool()
    assert float((out - dense)[real].abs().max()) < 1e-5
    whole = {n: n * (n + 1) // 2 for n in (7, 5)}
    slid = {n: sum(min(r + 1, 4) for r in range(n)) for n in (7, 5)}
    assert pairs == 4 * (sum(whole.values()) + sum(slid.values())), "the mask's own pairs, of real tokens, by query head"


def test_a_share_of_what_a_sliding_window_allows_is_kept():
    model, batch = gpt_oss()
    with TopK().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        run(model, {"input_ids": batch["input_ids"][:1]})
        shares = held.cost(0.5).shares
    assert shares.pairs == pytest.approx((kept(7) + kept(4)) / (28 + 22))


def kept(window):
    """Pairs that top-k leaves at level .5 of seven queries that see so many keys at most."""
    counts = [min(r + 1, window) for r in range(7)]
    return next(total for k in range(1, 8) if (total := sum(min(k, c) for c in counts)) >= sum(counts) / 2)
