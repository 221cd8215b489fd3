"""METHODS D6 by hand: what sources and heads add, and how a decoder direction is divided among heads."""

from __future__ import annotations

import pytest
import torch

from analysis.stats.attribution import attribution, head_norms, head_shares


def test_the_worked_case_of_one_head():
    joint = attribution(torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[[2.0], [4.0]]]]), torch.tensor([[3.0]]))
    assert joint.tolist() == [[[1.5, 9.0]]]
    assert joint.sum().item() == 10.5 == 3 * 3.5, "complete: z = 3.5"


def test_it_adds_up_to_the_encoder_of_all_heads_side_by_side():
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(5, 4, 7, generator=draw).softmax(-1)
    values, encoder = torch.randn(5, 4, 7, 3, generator=draw), torch.randn(5, 12, generator=draw)
    z = (rows[..., None] * values).sum(2).flatten(1)
    joint = attribution(rows, values, encoder)
    assert joint.sum((1, 2)).tolist() == pytest.approx((z * encoder).sum(1).tolist(), rel=1e-5)
    by_head = (z * encoder).view(5, 4, 3).sum(2)
    assert joint.sum(2).flatten().tolist() == pytest.approx(by_head.flatten().tolist(), rel=1e-4)


def test_shared_values_are_those_repeated_for_every_head_of_the_group():
    draw = torch.Generator().manual_seed(1)
    rows, values, encoder = torch.rand(2, 6, 5, generator=draw), torch.randn(2, 2, 5, 3, generator=draw), torch.randn(2, 18, generator=draw)
    assert torch.equal(attribution(rows, values, encoder), attribution(rows, values.repeat_interleave(3, 1), encoder))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"value heads divide, got \[2, 6\]"):
        attribution(torch.ones(2, 3, 5), torch.ones(2, 2, 5, 2), torch.ones(2, 6))


def test_norms_of_three_and_four_are_three_and_four_sevenths():
    norms = head_norms(torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]]), 2)
    assert norms.tolist() == [[3, 4], [0, 0]]
    assert head_shares(norms)[0].tolist() == pytest.approx([3 / 7, 4 / 7])
    assert head_shares(norms)[1].tolist() == [0, 0], "a latent without a direction has no head"
