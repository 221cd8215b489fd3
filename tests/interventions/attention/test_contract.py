"""What every intervention on attention promises, whichever keys it keeps."""

from __future__ import annotations

import functools
from itertools import pairwise

import pytest
import torch

from analysis.capture.site import CaptureError
from analysis.interventions.attention import METHODS
from analysis.spec import IncompatibleSubject, UserError
from tests.interventions.attention.tiny import Tiny, calibrated, ids, run, subject
from tests.zoo import ZOO

SLUGS = [entry.slug for entry in METHODS]
BOTH_WAYS = [entry.slug for entry in METHODS if entry.needs_causal is None]


def made(slug):
    return next(entry for entry in METHODS if entry.slug == slug).make(0)


@functools.cache
def tiny(causal=True):
    return Tiny(causal).eval()


@pytest.mark.parametrize("slug", SLUGS)
def test_an_entry_and_its_method_say_the_same(slug):
    entry, method = next(e for e in METHODS if e.slug == slug), made(slug)
    assert (method.slug, method.target, method.sources, method.causal_only) == (slug, "attention", entry.sources, bool(entry.needs_causal))


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_level_0_is_the_model_itself_bit_for_bit_and_so_is_what_is_left_after(slug, name):
    model, batch = ZOO[name]()
    dense = run(model, batch)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.6)
        assert not torch.equal(run(model, batch), dense)
        held.at(0.0)
        assert torch.equal(run(model, batch), dense)
        assert held.measured_share() is None
        held.at(0.9)
    assert torch.equal(run(model, batch), dense)


@pytest.mark.parametrize("slug", SLUGS)
def test_an_error_inside_leaves_the_dense_model(slug):
    model, batch = tiny(), {"input_ids": ids()}
    dense = run(model, batch)
    with pytest.raises(RuntimeError, match="on purpose"), made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        raise RuntimeError("on purpose")
    assert torch.equal(run(model, batch), dense)
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("level", [0.3, 0.7])
def test_what_comes_later_changes_nothing_earlier(slug, level):
    model, first = tiny(), ids(rows=1)
    other = first.clone()
    other[:, 13:] = ids(seed=9, rows=1)[:, 13:]
    with made(slug).on(subject(model), calibrated({"input_ids": ids(seed=4)})) as held:
        held.at(level)
        one, two = (run(model, {"input_ids": x}) for x in (first, other))
    assert torch.allclose(one[:, :13], two[:, :13], atol=1e-6)
    assert not torch.allclose(one[:, 13:], two[:, 13:], atol=1e-3)


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_no_real_token(slug, side):
    model, batch = ZOO["llama"]()
    whole = {"input_ids": batch["input_ids"][:1, :6]}
    padding = torch.zeros(1, 3, dtype=torch.long)
    parts = [whole["input_ids"], padding] if side == "right" else [padding, whole["input_ids"]]
    padded = {"input_ids": torch.cat(parts, 1)}
    padded["attention_mask"] = torch.cat([torch.ones_like(p) * (p is not padding) for p in parts], 1)
    if side == "left":
        padded["position_ids"] = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        alone = run(model, whole)
        share = held.measured_share()
        held.at(0.5)
        beside = run(model, padded)[:, slice(0, 6) if side == "right" else slice(3, 9)]
        assert held.measured_share() == pytest.approx(share)
    assert torch.allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize("slug", SLUGS)
def test_shares_are_counted_while_it_runs(slug):
    model, batch = tiny(), {"input_ids": ids()}
    with made(slug).on(subject(model), calibrated(batch)) as held:
        planned = held.at(0.5)
        assert (planned.achieved, held.measured_share()) == (0.5, None)
        assert held.cost(0.5).shares.pairs == 0.5
        run(model, batch)
        shares = held.cost(0.5).shares
        assert 0 < held.measured_share() <= 1
        assert 0 < shares.keys_read <= shares.keys_held + 1e-9 <= 1 + 1e-9
        assert 0 <= shares.overhead_pairs <= 0.5
        assert 0 <= shares.overhead_keys <= 0.5
        assert held.cost(0.0).shares.pairs == 1.0


@pytest.mark.parametrize("slug", SLUGS)
def test_more_is_removed_at_a_higher_level(slug):
    model, batch = tiny(), {"input_ids": ids()}
    found = []
    with made(slug).on(subject(model), calibrated(batch)) as held:
        for level in (0.25, 0.6, 0.95):
            held.at(level)
            run(model, batch)
            found.append(held.measured_share())
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("slug", SLUGS)
def test_pairs_gone_at_a_level_stay_gone_at_higher_ones_where_a_method_says_so_and_only_there(slug, monkeypatch):
    """One layer, so that its pattern is the same at all levels."""
    model, batch, method = tiny(), {"input_ids": ids()}, made(slug)
    masks, attend = {}, type(method).attend

    def noted(self, pattern):
        weights, kept = attend(self, pattern)
        masks.setdefault(pattern.level, []).append(kept.mask.expand(pattern.heads, pattern.n, pattern.n) & pattern.allowed)
        return weights, kept

    monkeypatch.setattr(type(method), "attend", noted)
    with method.on(subject(model), calibrated(batch)) as held:
        for level in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            held.at(level)
            run(model, batch)
    levels = sorted(masks)
    returned = sum(int((y & ~x).sum()) for a, b in pairwise(levels) for x, y in zip(masks[a], masks[b], strict=True))
    assert (returned == 0) == method.nested


@pytest.mark.parametrize("slug", BOTH_WAYS)
@pytest.mark.parametrize("name", ["bert", "vit", "encoder"])
def test_models_that_look_both_ways_are_served(slug, name):
    model, batch = ZOO[name]()
    dense = run(model, batch)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        out = run(model, batch)
        assert out.isfinite().all()
        assert not torch.equal(out, dense)
        held.at(0.0)
        assert torch.equal(run(model, batch), dense)


@pytest.mark.parametrize("slug", [s for s in SLUGS if s not in BOTH_WAYS])
def test_methods_of_decoders_refuse_models_that_look_both_ways(slug):
    model, batch = ZOO["bert"]()
    with pytest.raises(IncompatibleSubject, match="sees no later token"), made(slug).on(subject(model), calibrated(batch)):
        pass


def test_arguments_by_place_and_by_name_mean_the_same():
    model, batch = ZOO["llama"]()
    with made("attention-topk").on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        with torch.no_grad():
            mixed = model(batch["input_ids"], use_cache=False).logits
            named = model(input_ids=batch["input_ids"], use_cache=False).logits
    assert torch.equal(mixed, named)


def test_a_pass_that_shows_no_attention_is_an_error():
    class Skips(Tiny):
        skips = False

        def forward(self, input_ids):
            return self.table(input_ids) if self.skips else super().forward(input_ids)

    model, batch = Skips().eval(), {"input_ids": ids()}
    with made("attention-topk").on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        model.skips = True
        with pytest.raises(CaptureError, match="show its attention"):
            run(model, batch)


def test_models_without_attention_and_runs_without_data_are_refused():
    model, batch = ZOO["mlp"]()
    with pytest.raises(IncompatibleSubject, match="none that could be seen"), made(SLUGS[0]).on(subject(model), calibrated(batch)):
        pass
    with pytest.raises(UserError, match="calibration batches"), made(SLUGS[0]).on(subject(tiny())):
        pass
