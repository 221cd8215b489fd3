import numpy as np
import pytest

from analysis.stats import histogram as h


def test_edges_are_ascending_and_where_the_specification_puts_them():
    edges = h.bin_edges()
    assert len(edges) == 516 and (np.diff(edges) > 0).all()
    assert edges[1] == -(2.0**12) and edges[257] == -(2.0**-20) and edges[258] == 2.0**-20 and edges[514] == 2.0**12
    assert (edges[1:-1].astype(np.float32) == edges[1:-1]).all()


def test_every_value_lies_between_the_edges_of_its_bin():
    rng = np.random.default_rng(0)
    x = (rng.choice([-1, 1], 20000) * 2 ** rng.uniform(-24, 14, 20000)).astype(np.float32)
    x = np.concatenate([x, h.bin_edges()[1:-1].astype(np.float32), [0, -0.0, 1e30, -1e30, 1e-40, np.inf, -np.inf]])
    b, edges = h.bin_index(x), h.bin_edges()
    below, above = edges[b], edges[b + 1]
    assert ((below <= x) & (x <= above)).all()
    positive = b > h.CENTRE
    assert (x[positive] < above[positive])[np.isfinite(x[positive])].all(), "an edge belongs to the bin of larger magnitude"
    assert (x[b < h.CENTRE] > below[b < h.CENTRE])[np.isfinite(x[b < h.CENTRE])].all()
    assert h.bin_index([0.0, -0.0, 2**-21]).tolist() == [257, 257, 257]
    assert h.bin_index([-4096, 4096, 2**-20, -(2**-20)]).tolist() == [0, 514, 258, 256]


def test_nan_has_no_bin():
    with pytest.raises(ValueError, match="1 NaN"):
        h.bin_index([1.0, np.nan])


def test_count_above_is_exact_at_every_edge():
    x = np.random.default_rng(1).standard_t(1, 5000).astype(np.float32)
    x[:3] = [0.5, -0.5, 0.25]
    counts = np.bincount(h.bin_index(x), minlength=515)
    for edge in h.magnitude_edges():
        assert h.count_above(counts, edge) == (np.abs(x) >= edge).sum()


def test_threshold_off_the_edges_is_refused_with_the_nearest_named():
    with pytest.raises(ValueError, match=r"0\.09375 or 0\.1015625"):
        h.count_above(np.zeros(515), 0.1)
    assert h.snap(0.1) == 0.1015625 and h.snap(0) == 2**-20 and h.snap(1e9) == 4096


def test_quantile_is_within_its_bin_width():
    x = np.random.default_rng(2).normal(0, 2, (7, 999)).astype(np.float32)
    counts = np.stack([np.bincount(h.bin_index(row), minlength=515) for row in x])
    for q in (0, 0.01, 0.5, 0.9, 1):
        found = h.quantile(counts, q)
        exact = np.quantile(x, q, axis=1, method="inverted_cdf")
        assert (np.abs(found.value - exact) <= found.width / 2).all()


def test_quantile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty histogram"):
        h.quantile(np.zeros((2, 515)), 0.5)


def test_sparse_forms_come_back_unchanged():
    table = np.random.default_rng(3).poisson(0.02, (40, 515))
    table[[0, 7, 39]] = 0
    np.testing.assert_array_equal(h.unpack(h.pack(table)), table)
    bins, counts = h.to_lists(table)
    assert bins[7] == [] and sum(map(len, counts)) == np.count_nonzero(table)
    np.testing.assert_array_equal(h.from_lists(bins, counts), table)
