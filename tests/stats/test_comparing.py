"""Two tensors entry by entry: by hand, identical, negated, pruned, and what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.comparing import PairSums, Tiles, chance_overlap, edges, largest_places


def sums(after, base, **more) -> PairSums:
    found = PairSums()
    found.update(torch.tensor(after, dtype=torch.float64), torch.tensor(base, dtype=torch.float64), **more)
    return found


def test_by_hand():
    found = sums([0.0, 2.0, 0.0, 4.0], [3.0, 2.0, 0.0, 3.0])
    assert (found.n, found.n_changed, found.n_zero, found.n_zero_base, found.n_zero_both) == (4, 2, 2, 1, 1)
    assert (found.n_new_zero, found.n_revived, found.n_kept, found.n_kept_same) == (1, 0, 2, 1)
    assert found.changed_share == 0.5 and found.same_share_of_kept == 0.5
    assert found.mask_overlap == 2 / 3, "non-zero in both: 2; in either: 3"
    assert found.mask_chance == pytest.approx(0.5 * 0.75 / (0.5 + 0.75 - 0.375))
    assert found.cosine == pytest.approx((4 + 12) / (20 * 22) ** 0.5)
    assert found.norm_ratio == pytest.approx((20 / 22) ** 0.5)
    assert found.relative_change == pytest.approx((10 / 22) ** 0.5)
    assert (found.largest_change, found.size_change, found.root_change) == (3.0, 4.0, pytest.approx(1 + 3**0.5))


def test_identical_tensors_differ_in_nothing():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).tolist()
    found = sums(values, values)
    assert (found.changed_share, found.relative_change, found.cosine, found.norm_ratio, found.mask_overlap) == (0.0, 0.0, 1.0, 1.0, 1.0)


def test_a_negated_tensor_is_opposite_and_one_orthogonal_is_neither():
    assert sums([1.0, -2.0], [-1.0, 2.0]).cosine == pytest.approx(-1)
    assert sums([1.0, 0.0], [0.0, 1.0]).cosine == 0 and sums([1.0, 0.0], [0.0, 1.0]).mask_overlap == 0


def test_what_cannot_be_had_is_none():
    zero = sums([0.0, 0.0], [0.0, 0.0])
    assert (zero.mask_overlap, zero.mask_chance, zero.cosine, zero.norm_ratio, zero.relative_change) == (None, None, None, None, 0.0)
    assert sums([1.0], [0.0]).relative_change is None and sums([], []).changed_share is None


def test_what_is_not_finite_is_counted_and_left_out():
    found = sums([1.0, float("nan"), 2.0, 1e200], [1.0, 1.0, float("inf"), 1.0])
    assert (found.n, found.n_nonfinite, found.n_changed, found.cosine) == (1, 3, 0, 1.0)


def test_slices_add_up_to_the_whole():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    whole, parts = PairSums(), PairSums()
    whole.update(a, b)
    for x, y in zip(a.split(13), b.split(13)):
        part = PairSums()
        part.update(x, y)
        parts.merge(PairSums.of_array(part.array()))
    assert parts.array() == pytest.approx(whole.array(), rel=1e-12)


def test_the_chance_level_is_that_of_methods_and_of_random_masks():
    assert chance_overlap(0.5, 0.5) == pytest.approx(1 / 3)
    generator = np.random.default_rng(0)
    for p, q in ((0.5, 0.5), (0.1, 0.9), (0.3, 0.3)):
        one, two = (generator.random(400_000) < share for share in (p, q))
        found = sums(one.astype(float).tolist(), two.astype(float).tolist())
        assert found.mask_overlap == pytest.approx(chance_overlap(p, q), abs=0.005)
    with pytest.raises(ValueError, match="not both be 0"):
        chance_overlap(0.0, 0.0)


def test_tiles_count_what_is_in_them_however_the_rows_come():
    flags = np.random.default_rng(0).random((11, 7)) < 0.5
    tiles = Tiles((11, 7), 3)
    for start in range(0, 11, 2):
        tiles.update(start, flags[start : start + 2])
    rows, columns = edges(11, 3), edges(7, 3)
    expected = [[flags[a:b, c:d].sum() for c, d in zip(columns, columns[1:])] for a, b in zip(rows, rows[1:])]
    assert tiles.counts.tolist() == expected and tiles.sizes.sum() == 77
    assert Tiles((2, 1), 5).sizes.shape == (2, 1)


def test_the_largest_places_come_first_and_zeros_never():
    assert largest_places([0.0, 3.0, 1.0, 3.0], 3) == [1, 3, 2]
    assert largest_places([0.0, 0.0], 3) == []
