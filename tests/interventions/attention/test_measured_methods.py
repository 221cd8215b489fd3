"""Patterns per head, spans by gradient, random features: METHODS' values, planted heads, and plain recomputation."""

from __future__ import annotations

import pytest
import torch

from analysis.capture.site import CaptureError
from analysis.interventions.attention.base import AttentionIntervention, softmax_over
from analysis.interventions.attention.channels import Channels
from analysis.interventions.attention.head_patterns import BLOCKY, HeadPatterns, along, winners
from analysis.interventions.attention.looking import slopes
from analysis.interventions.attention.low_rank import LowRank, SparseLowRank, directions_of, features, mixed
from analysis.interventions.attention.sink_window import SinkWindow
from analysis.interventions.attention.spans import Spans, chosen, measured, pairs_of
from analysis.interventions.attention.threshold import Threshold
from analysis.stats.pattern_masks import a_shape, lines_mask
from tests.interventions.attention.tiny import HEADS, T4, WIDTH, N, Tiny, answer_at, calibrated, ids, run, subject, written_out

LOWER = torch.ones(N, N, dtype=torch.bool).tril()


@pytest.fixture
def layer():
    tokens = ids()
    return Tiny().eval(), tokens, {"input_ids": tokens}


def masses(mask):
    return (T4 * mask).sum(-1).tolist()


# ---------------------------------------------------------------------------------------------------------------------
# A pattern per head


def test_patterns_on_t4_hold_what_methods_says():
    assert masses(a_shape(4, 1, 1)) == pytest.approx([1, 1, 0.7, 0.5])
    columns, main = torch.tensor([[True, True, False, False]]), torch.zeros(1, 7, dtype=torch.bool)
    main[0, 3] = True
    assert masses(lines_mask(columns, main)[0]) == pytest.approx([1, 1, 1, 0.7])


def test_the_best_class_wins_and_the_simplest_of_equals():
    recalls = torch.tensor([[0.5, 0.1, 0.9, 0.2, 0.1, 0.3], [0.8, 0.1, 0.8, 0.2, 0.1, 0.3], [0.1, 0.1, 0.2, 0.2, 0.1, 0.7]])
    assert winners(recalls).tolist() == [2, 0, BLOCKY]


def test_sums_along_diagonals_count_how_far_keys_lie_behind():
    assert along(T4[None, 2:], 4)[0].tolist() == pytest.approx([0.9, 0.6, 0.4, 0.1])


def test_a_planted_diagonal_is_found_and_followed():
    """Head 0 looks ten tokens back, head 1 at itself: no window of a few keys reaches the first, lines do."""
    model = Tiny().eval()
    with torch.no_grad():
        model.table.weight.zero_()
        turns = torch.arange(40) * 2 * torch.pi / 40
        for at, shift in ((0, 10), (WIDTH, 0)):
            model.table.weight[:, at], model.table.weight[:, at + 1] = turns.cos(), turns.sin()
            part = slice(at, at + 2)
            angle = torch.tensor(-shift * 2 * torch.pi / 40)
            turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
            model.query.weight[part, part], model.key.weight[part, part] = 900 * turn, torch.eye(2)
    model.query.weight.data[2:WIDTH] = model.key.weight.data[2:WIDTH] = 0
    batch = {"input_ids": torch.arange(40)[None]}
    dense = run(model, batch)
    with HeadPatterns().on(subject(model), calibrated(batch)) as held:
        held.at(0.8)
        found = next(iter(held._prepared.values())).tolist()
        out = run(model, batch)
    window, _ = answer_at(SinkWindow(), model, batch, 0.8)
    assert found[0] in range(1, BLOCKY)
    assert found[1] == 0
    assert float((out - dense)[:, 16:].abs().max()) < 0.01 < float((window - dense)[:, 16:].abs().max())


# ---------------------------------------------------------------------------------------------------------------------
# Spans


class Remembers(AttentionIntervention):
    """The dense attention as a tensor that can be differentiated for."""

    slug, title, sources = "remembers", "Remembers", ()

    def keep(self, pattern):
        raise NotImplementedError

    def attend(self, pattern):
        raise NotImplementedError


def test_slopes_are_the_gradients_for_the_weights(layer):
    model, tokens, batch = layer
    found = {}
    with Remembers().on(subject(model), calibrated(batch)) as held:
        slopes(held, lambda _, pattern, slope: found.setdefault(len(found), (pattern.weights, slope)), 2)
    for example, (weights, slope) in found.items():
        _, _, value = (x[example].detach() for x in model.parts(tokens))
        own = weights.clone().requires_grad_()
        answer = model.out((own @ value).transpose(0, 1).flatten(1))
        (expected,) = torch.autograd.grad(-answer.log_softmax(-1).amax(-1).mean(), own)
        assert torch.allclose(slope, expected, atol=1e-6)
    assert len(found) == 2


def test_gradients_through_fewer_pairs_are_refused(layer):
    model, _, batch = layer
    with Spans().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        with torch.enable_grad(), pytest.raises(CaptureError, match="without gradients"):
            model(**batch)


def test_gradients_are_as_they_were_after_spans_were_measured(layer):
    model, _, batch = layer
    before = torch.is_grad_enabled()
    answer_at(Spans(), model, batch, 0.5)
    assert torch.is_grad_enabled() == before
    assert all(p.grad is None for p in model.parameters())


def test_heads_that_lose_more_get_longer_spans():
    costs = [torch.tensor([[8.0, 4, 2, 0], [0.8, 0.4, 0.2, 0]], dtype=torch.float64)]
    assert pairs_of(4).tolist() == [7.0, 9.0, 10.0, 10.0]
    assert chosen(costs, 0.0)[0].tolist() == [4, 4]
    assert chosen(costs, 1.0)[0].tolist() == [1, 1]
    longer, shorter = chosen([torch.tensor([[9.0, 3, 1, 0, 0, 0], [0.9, 0.3, 0.1, 0, 0, 0]], dtype=torch.float64)], 0.2)[0].tolist()
    assert longer > shorter


def test_spans_leave_at_least_the_levels_share(layer):
    model, tokens, batch = layer
    for level in (0.1, 0.4, 1.0):
        with Spans().on(subject(model), calibrated(batch)) as held:
            held.at(level)
            out = run(model, batch)
            removed = held.measured_share()
            spans = next(iter(held._prepared.values())).tolist()
            shares = held.cost(level).shares
            held.release()
            costs = next(iter(measured(held).values()))
        assert costs.shape == (HEADS, N), "one token a part"
        masks = torch.stack([torch.tensor([[c <= r and (c == 0 or r - c < s) for c in range(N)] for r in range(N)]) for s in spans])
        assert torch.allclose(out, written_out(model, tokens, masks.expand(2, -1, -1, -1)), atol=1e-5)
        assert removed == pytest.approx(1 - float(masks.sum()) / (300 * HEADS))
        assert removed <= level
        assert shares.keys_held == pytest.approx(shares.keys_read)
    assert spans == [1, 1], "itself and the first token"


# ---------------------------------------------------------------------------------------------------------------------
# Random features


def test_random_features_give_the_exponential_on_average():
    made = torch.Generator().manual_seed(3)
    q, k = torch.randn(1, 5, 4, generator=made).double() * 0.5, torch.randn(1, 5, 4, generator=made).double() * 0.5
    found = directions_of(40_000, 4, 0)
    estimate = features(q, found).exp() @ features(k, found).exp().transpose(1, 2) / 40_000
    assert torch.allclose(estimate, (q @ k.transpose(1, 2)).exp(), rtol=0.05)
    block = directions_of(4, 4, 0)
    assert torch.allclose(block @ block.T, torch.diag((block @ block.T).diagonal()), atol=1e-9), "orthogonal within a block"


def test_everything_exact_is_the_softmax_and_nothing_exact_is_not(layer):
    model, tokens, batch = layer
    seen = []

    class Looks(LowRank):
        def attend(self, pattern):
            seen.append(pattern)
            return super().attend(pattern)

    with Looks().on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        run(model, batch)
    pattern = seen[0]
    log_q, log_k = (torch.randn(HEADS, N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    exact = mixed(pattern.logits, log_q, log_k, pattern.allowed, pattern.allowed)
    assert torch.allclose(exact.float(), softmax_over(pattern, pattern.allowed), atol=1e-5)
    low = mixed(pattern.logits, log_q, log_k, torch.zeros_like(pattern.allowed), pattern.allowed)
    plain = ((log_q.exp() @ log_k.exp().transpose(1, 2)) * LOWER).float()
    assert torch.allclose(low.float(), plain / plain.sum(-1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize(("method", "level", "pairs"), [(LowRank(), 0.5, 2 * 3 * 24 / 300), (SparseLowRank(), 0.5, None)])
def test_features_are_counted_as_the_pairs_they_are_worth(layer, method, level, pairs):
    model, _, batch = layer
    _, cost = answer_at(method, model, batch, level)
    expected = pairs or ((4 * 5 / 2 + 20 * 4) + 2 * 1 * 24) / 300
    assert cost.shares.pairs == pytest.approx(expected)
    assert cost.shares.keys_read == pytest.approx((3 / 2 if pairs else 4 + 1 / 2) / N)
    assert cost.shares.keys_held == cost.shares.keys_read


def test_a_sparse_part_helps_random_features(layer):
    model, _, batch = layer
    dense = run(model, batch)
    alone, beside = (float((answer_at(m, model, batch, 0.2)[0] - dense).square().mean()) for m in (LowRank(), SparseLowRank(sparse=0.9)))
    assert beside < alone


@pytest.mark.parametrize("method", [Spans(), Threshold(), Channels()])
def test_what_is_measured_is_measured_on_entry_and_once(layer, method):
    model, _, batch = layer
    calibration = calibrated(batch)
    with method.on(subject(model), calibration) as held:
        known = {key for key in calibration.derived if key != "attention_places"}
        assert known
        runs = []
        handle = model.register_forward_hook(lambda *_: runs.append(1))
        held.at(0.5)
        handle.remove()
    assert not runs
