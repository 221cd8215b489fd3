"""Duplicates of decoder directions and what the unembedding makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats import nearest
from analysis.stats.decoder import lens_tokens, most_similar, row_cosines
from analysis.stats.nearest import counted


def test_a_duplicate_is_found_whatever_its_length_and_an_opposite_is_none():
    rows = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [5.0, 0, 0], [0, -1.0, 0]])
    found = most_similar(rows)
    assert found.cosine.tolist() == pytest.approx([1, 0, 1, 0], abs=1e-7)
    assert found.other[[0, 2]].tolist() == [2, 0]
    assert found.duplicates().tolist() == [True, False, True, False]


def test_dead_rows_have_no_neighbour_and_are_none():
    found = most_similar(torch.tensor([[0.0, 0], [1.0, 0], [1.0, 1.0]]))
    assert found.has.tolist() == [False, True, True]
    assert found.other[1:].tolist() == [2, 1] and found.cosine[1] == pytest.approx(0.5**0.5)
    assert not most_similar(torch.tensor([[1.0, 0.0]])).has.any()


def test_blocks_give_what_the_whole_product_gives(monkeypatch):
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(rows, dim=1)
    whole = (unit @ unit.T).fill_diagonal_(-9)
    monkeypatch.setattr(nearest, "BLOCK", 70)
    found = most_similar(rows)
    np.testing.assert_allclose(found.cosine, whole.max(1).values.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.other, whole.argmax(1).numpy())


def test_row_cosines_by_hand():
    cosine, has = row_cosines(torch.tensor([[3.0, 4.0], [1.0, 0], [0, 0]]), torch.tensor([[4.0, 3.0], [-2.0, 0], [1, 1]]))
    assert cosine.tolist() == pytest.approx([0.96, -1, 0])
    assert has.tolist() == [True, True, False]


def test_with_an_identity_for_unembedding_the_lens_is_the_direction():
    rows = torch.tensor([[3.0, -1.0, 0.5], [0.0, 0.0, 2.0]])
    found = lens_tokens(rows, torch.eye(3), 2, centred=False)
    assert found.promoted[0].tolist() == [[3.0, 0.5], [2.0, 0.0]] and found.promoted[1][0].tolist() == [0, 2]
    assert found.suppressed[0].tolist()[0] == [-1.0, 0.5] and found.suppressed[1][0].tolist() == [1, 2]
    assert found.std[0] == pytest.approx(rows[0].std(correction=0))


def test_scores_are_counted_in_equal_bins_of_which_the_last_holds_both_its_edges():
    rows = torch.tensor([[0.0, 1.0, 2.4, 2.5, 10.0], [3.0, 3.0, 3.0, 3.0, 3.0], [-1.0, -1.0, 1.0, 1.0, 0.0]])
    assert counted(rows, 4).tolist() == [[3, 1, 0, 1], [5, 0, 0, 0], [2, 0, 1, 2]]


def test_the_histogram_of_a_direction_counts_every_token_once_whatever_the_blocks(monkeypatch):
    random = torch.Generator().manual_seed(2)
    rows, weight = torch.randn(7, 4, generator=random), torch.randn(90, 4, generator=random)
    scores = (rows @ weight.T).numpy()
    whole = lens_tokens(rows, weight, 1, centred=False, bins=10)
    expected = [np.histogram(row, 10)[0].tolist() for row in scores]
    assert whole.counts.tolist() == expected and (whole.counts.sum(1) == 90).all()
    monkeypatch.setattr(nearest, "BLOCK", 200)
    assert lens_tokens(rows, weight, 1, centred=False, bins=10).counts.tolist() == expected
    assert lens_tokens(rows, weight, 1, centred=False).counts.shape == (7, 0)


def test_a_constant_in_the_unembedding_vanishes_by_centring():
    random = torch.Generator().manual_seed(1)
    rows, weight, shift = torch.randn(5, 4, generator=random), torch.randn(30, 4, generator=random), 9 * torch.randn(4, generator=random)
    plain, moved = (lens_tokens(rows, w, 3, centred=True) for w in (weight, weight + shift))
    np.testing.assert_allclose(moved.promoted[0], plain.promoted[0], atol=1e-4)
    np.testing.assert_array_equal(moved.suppressed[1], plain.suppressed[1])
    off = lens_tokens(rows, weight + shift, 3, centred=False).promoted[0] - lens_tokens(rows, weight, 3, centred=False).promoted[0]
    np.testing.assert_allclose(off, (rows @ shift).numpy()[:, None].repeat(3, 1), atol=1e-4)
