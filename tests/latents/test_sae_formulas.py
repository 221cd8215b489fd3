"""The architectures that sae-lens gives us, against METHODS D1 by hand."""

from __future__ import annotations

import pytest
import torch

PI = torch.tensor([[0.5, 1.5, -1.0]])


def test_jumprelu_passes_what_is_above_its_threshold_whole():
    from sae_lens.saes.jumprelu_sae import JumpReLU, Step

    threshold = torch.ones(3, requires_grad=True)
    f = JumpReLU.apply(PI, threshold, 2.0, False)
    assert f.tolist() == [[0, 1.5, 0]] and int((f != 0).sum()) == 1
    f.sum().backward()
    assert threshold.grad.tolist() == pytest.approx([-0.5, -0.5, 0])
    other = torch.ones(3, requires_grad=True)
    Step.apply(PI, other, 2.0, False).sum().backward()
    assert other.grad.tolist() == pytest.approx([-0.5, -0.5, 0])


def test_batch_topk_chooses_over_the_batch_and_topk_over_each_token():
    from sae_lens.saes.batchtopk_sae import BatchTopK
    from sae_lens.saes.topk_sae import TopK

    pi = torch.tensor([[3.0, 2.5, 0.0], [1.0, 0.5, 0.0]])
    together, apart = BatchTopK(1)(pi), TopK(1)(pi)
    assert together.tolist() == [[3.0, 2.5, 0.0], [0.0, 0.0, 0.0]]
    assert (together != 0).sum(1).tolist() == [2, 0] and (apart != 0).sum(1).tolist() == [1, 1]
    assert together[together > 0].min() == 2.5


def test_topk_is_followed_by_a_relu():
    from sae_lens.saes.topk_sae import TopK

    assert TopK(2)(torch.tensor([[1.0, -2.0, -3.0]])).tolist() == [[1.0, 0.0, 0.0]]
