"""The one pass over a matrix gives what the definitions give, in any slices and on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats import matrix_pass
from analysis.stats.magnitudes import MagnitudeCounts
from analysis.stats.matrix_pass import MatrixPass, cell_side
from analysis.stats.patterns import PATTERNS, TILE_SIDES, conformance, lost_squares, zero_tiles


def numbers(matrix, slices=None, threads=1):
    for careful in (False, True):
        one = MatrixPass(matrix.shape, threads=threads, careful=careful)
        for start in range(0, len(matrix), slices or len(matrix)):
            one.update(np.ascontiguousarray(matrix[start : start + (slices or len(matrix))]))
        assert one.spoiled is (not careful and not np.isfinite(matrix).all())
        if not one.spoiled:
            return one.end()
    raise AssertionError("never reached")


def random(shape, seed=0, zeros=0.5, scale=0.05):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(0.01, scale, shape).astype(np.float32)
    matrix[rng.random(shape) < zeros] = 0
    return matrix


def assert_equals_the_definitions(found, matrix):
    exact = matrix.astype(np.float64)
    for axis, lines in ((1, found.rows), (0, found.columns)):
        assert lines[0] == pytest.approx(np.abs(exact).sum(axis), rel=1e-12)
        assert lines[1] == pytest.approx((exact**2).sum(axis), rel=1e-12)
        assert lines[2].tolist() == (matrix == 0).sum(axis).tolist()
    away = exact - exact.mean()
    wanted = (exact.mean(), (away**2).sum(), (away**3).sum(), (away**4).sum())
    assert found.moments == pytest.approx(wanted, rel=1e-9, abs=1e-9 * wanted[3])
    assert found.root_sum == pytest.approx(np.sqrt(np.abs(exact)).sum(), rel=1e-6)
    assert (found.low, found.high, found.n_zero) == (matrix.min(), matrix.max(), int((matrix == 0).sum()))
    for direction, turned in ((found.along_b, matrix), (found.along_a, matrix.T)):
        for pattern in PATTERNS:
            assert direction.conforming[pattern] == conformance(turned, *pattern), pattern
            assert direction.lost[pattern] == pytest.approx(lost_squares(turned, *pattern), rel=1e-12), pattern
    for side in TILE_SIDES:
        assert found.tiles[side] == zero_tiles(matrix, side), side
    counts = MagnitudeCounts.of(matrix)
    assert found.magnitudes.keys.tolist() == counts.keys.tolist()
    assert found.magnitudes.counts.tolist() == counts.counts.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 8), (64, 48), (33, 100), (61, 2061), (200, 13), (513, 9), (1, 5000)])
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.97])
def test_the_pass_equals_the_definitions(shape, zeros):
    matrix = random(shape, zeros=zeros)
    assert_equals_the_definitions(numbers(matrix), matrix)


@pytest.mark.parametrize("slices", [32, 64, 96])
def test_slices_change_nothing(slices):
    matrix = random((333, 101), zeros=0.9)
    whole, sliced = numbers(matrix), numbers(matrix, slices)
    assert_equals_the_definitions(sliced, matrix)
    assert sliced.thumb == pytest.approx(whole.thumb, rel=1e-12)


def test_threads_change_nothing():
    matrix = random((2100, 1003), zeros=0.6)
    assert_equals_the_definitions(numbers(matrix, threads=3), matrix)


@pytest.mark.parametrize("shape", [(5, 9), (64, 64), (130, 70), (700, 1000)])
def test_the_thumbnail_holds_the_root_mean_square_of_each_cell(shape):
    matrix = random(shape)
    high, wide = cell_side(shape[0]), cell_side(shape[1])
    thumb = numbers(matrix, threads=2).thumb
    assert max(thumb.shape) <= 64
    for i in range(thumb.shape[0]):
        for j in range(thumb.shape[1]):
            cell = matrix[i * high : (i + 1) * high, j * wide : (j + 1) * wide].astype(np.float64)
            assert thumb[i, j] == pytest.approx(np.sqrt((cell**2).mean()), rel=1e-9)
    assert (thumb**2 * np.outer(*[np.diff(np.append(np.arange(0, n, s), n)) for n, s in zip(shape, (high, wide))])).sum() == pytest.approx(
        (matrix.astype(np.float64) ** 2).sum()
    )


def test_values_that_are_no_numbers_are_left_out_of_every_sum():
    matrix = np.full((40, 10), 2.0, np.float32)
    matrix[3, 4], matrix[35, 0], matrix[35, 1] = np.nan, np.inf, -np.inf
    for slices in (None, 32):
        found = numbers(matrix, slices)
        assert (found.n, found.whole, found.n_zero) == (397, False, 0)
        assert (found.l1, found.square_sum) == (794, 1588)
        assert (found.low, found.high) == (2, 2)
        assert found.moments[0] == pytest.approx(2)
        assert found.moments[1] == pytest.approx(0, abs=1e-9)
        assert found.rows[2].sum() == found.columns[2].sum() == 0
        assert (found.magnitudes.n, found.magnitudes.n_nonfinite) == (397, 3)


def test_all_nan_is_nothing():
    found = numbers(np.full((4, 4), np.nan, np.float32))
    assert (found.n, found.l1, found.low, found.high, found.magnitudes.n) == (0, 0, 0, 0, 0)


def test_tiny_and_huge_magnitudes_neither_vanish_nor_overflow():
    matrix = np.array([[1e-30, 2e-30, 0, 0], [3e30, 1e30, 2e30, 1e30]], np.float32)
    found = numbers(matrix)
    assert found.rows[1] == pytest.approx((matrix.astype(np.float64) ** 2).sum(1), rel=1e-12)
    assert found.along_b.conforming[2, 4].n_conforming == 1
    assert numbers(matrix[:1]).along_b.lost[1, 2] == pytest.approx(1e-60, rel=1e-6)


def test_the_spread_of_values_far_from_zero_is_not_lost():
    rng = np.random.default_rng(1)
    matrix = (1 + 1e-4 * rng.normal(size=(64, 64))).astype(np.float32)
    n, (mean, m2, _, m4) = matrix.size, numbers(matrix).moments
    exact = matrix.astype(np.float64)
    assert m4 / n / (m2 / n) ** 2 == pytest.approx(((exact - exact.mean()) ** 4).mean() / exact.var() ** 2, rel=1e-6)
    assert mean == pytest.approx(exact.mean(), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_spoils_a_pass_without_care(value):
    matrix = random((40, 40))
    one = MatrixPass(matrix.shape)
    one.update(matrix)
    assert not one.spoiled
    matrix[39, 39] = value
    one = MatrixPass(matrix.shape)
    one.update(matrix)
    assert one.spoiled


def test_slices_must_fit():
    one = MatrixPass((40, 8))
    with pytest.raises(ValueError, match="8 columns"):
        one.update(np.zeros((32, 7), np.float32))
    one.update(np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match="multiple of 32"):
        one.update(np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match="all 40 rows"):
        one.end()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threads", [1, 2])
def test_counting_the_patterns_of_a_16_bit_type_gives_the_same_numbers(dtype, threads):
    """Zeros of both signs, denormals, a zero row, a zero column, and a shape that fills no group at its ends."""
    generator = torch.Generator().manual_seed(0)
    stored = (torch.randn(837, 1003, generator=generator) * 0.05).to(dtype)
    stored[3], stored[:, 70], stored[5, 5], stored[6, :3] = 0.0, 0.0, -0.0, torch.tensor([1e-7, -1e-39, 3e-6]).to(dtype)
    codes = stored.view(torch.int16).numpy().view(np.uint16)
    values = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).roll(1 << 15).view(dtype).float().numpy()
    one, other = MatrixPass((837, 1003), exact=True), MatrixPass((837, 1003), exact=True, threads=threads, values=values)
    one.update(stored.float().numpy())
    other.update_patterns(codes)
    wanted, found = one.end(), other.end()
    assert (found.n, found.n_zero, found.low, found.high) == (wanted.n, wanted.n_zero, wanted.low, wanted.high)
    assert found.rows == pytest.approx(wanted.rows, rel=1e-13)
    assert found.columns == pytest.approx(wanted.columns, rel=1e-13)
    assert (found.l1, found.root_sum, found.square_sum) == pytest.approx((wanted.l1, wanted.root_sum, wanted.square_sum), rel=1e-12)
    assert found.moments == pytest.approx(wanted.moments, rel=1e-9, abs=1e-12)
    assert found.magnitudes.keys.tolist() == wanted.magnitudes.keys.tolist()
    assert found.magnitudes.counts.tolist() == wanted.magnitudes.counts.tolist()
    assert (found.magnitudes.n_zero, found.magnitudes.exact) == (wanted.n_zero, True)
    assert found.tiles == wanted.tiles and found.along_a.conforming == wanted.along_a.conforming


def test_a_16_bit_pattern_that_is_no_number_spoils_the_pass():
    stored = torch.ones(32, 8, dtype=torch.bfloat16)
    values = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).roll(1 << 15).view(torch.bfloat16).float().numpy()
    for bad, spoiled in ((1.0, False), (float("nan"), True), (float("-inf"), True)):
        stored[4, 4] = bad
        one = MatrixPass((32, 8), exact=True, values=values)
        one.update_patterns(stored.view(torch.int16).numpy().view(np.uint16))
        assert one.spoiled is spoiled


def test_which_thread_is_free_first_changes_no_bit(monkeypatch):
    values = np.random.default_rng(0).normal(size=(4096, 512)).astype(np.float32)

    def pass_with(order):
        monkeypatch.setattr(matrix_pass, "run", lambda jobs, threads: [job(i % threads) for i, job in order(list(enumerate(jobs)))])
        one = MatrixPass(values.shape, threads=4)
        one.update(values)
        return one.end()

    first, second = pass_with(lambda jobs: jobs), pass_with(lambda jobs: [(7 - i, job) for i, job in reversed(jobs)])
    assert first.moments == second.moments and first.l1 == second.l1 and first.root_sum == second.root_sum
    assert np.array_equal(first.columns, second.columns) and np.array_equal(first.thumb, second.thumb)


@pytest.mark.parametrize(("n_rows", "n_jobs"), [(672, 2), (128, 1), (2400, 4)])
def test_a_slice_that_all_but_fills_the_shares_is_shared_out(monkeypatch, n_rows, n_jobs):
    """672 rows of 768 are a little less than two shares of 2^18 weights: once they went to one thread, and the other one waited."""
    counted = []
    monkeypatch.setattr(matrix_pass, "run", lambda jobs, threads: counted.append(len(jobs)))
    MatrixPass((n_rows * 8, 768), threads=4 if n_jobs == 4 else 2).update(np.zeros((n_rows, 768), np.float32))
    assert counted == [n_jobs]


def test_patterns_need_their_numbers():
    with pytest.raises(ValueError, match="number of each pattern"):
        MatrixPass((32, 8)).update_patterns(np.zeros((32, 8), np.uint16))
