import numpy as np
import pytest
import torch

from analysis.stats import sparsity as s

VECTORS = [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 2, 3, 4], [3, 4]]
TABLE = {
    s.hoyer: [0, 1, 0.585786, 0.174258, 0.034315],
    s.gini: [0, 0.75, 0.5, 0.25, 0.071429],
    s.kappa4: [0.25, 1, 0.5, 0.393333, 0.5392],
    s.l2_over_l1: [0.5, 1, 0.707107, 0.547723, 0.714286],
}
PQ = {(0.5, 1): [0, 0.75, 0.5, 0.055586, 0.005128], (1, 2): [0, 0.5, 0.292893, 0.087129, 0.010051]}
KEEP = {(0.5, 1): [4, 1, 2, 3.777657], (1, 2): [4, 1, 2, 3.333333]}


@pytest.mark.parametrize("measure", TABLE)
def test_values_of_the_methods_table(measure):
    for vector, wanted in zip(VECTORS, TABLE[measure], strict=True):
        for x in (np.array(vector), torch.tensor(vector), -7.5 * np.array(vector)):
            value, defined = measure(x)
            assert defined and value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("pq", PQ)
def test_pq_index_and_keep_bound_of_the_methods_table(pq):
    for vector, wanted in zip(VECTORS, PQ[pq], strict=True):
        assert s.pq_index(vector, *pq).value == pytest.approx(wanted, abs=1e-6)
        sums = s.PowerSums((0.5, 1, 2))
        for part in np.array_split(vector, 2):
            sums.update(part)
        assert sums.pq_index(*pq).value == pytest.approx(wanted, abs=1e-6)
    for vector, wanted in zip(VECTORS, KEEP[pq], strict=False):
        assert s.pq_keep_bound(len(vector), float(s.pq_index(vector, *pq).value), *pq) == pytest.approx(wanted, abs=1e-6)


def test_hand_computed_entropy_vinje_gallant_and_kurtosis():
    assert s.entropy_of_squares([1, 1, 0, 0]).value == pytest.approx(np.log(2))
    assert s.entropy_of_squares([0, 5, 0]).value == 0
    assert s.vinje_gallant([1, 1, 0, 0]).value == pytest.approx((1 - 0.5) / 0.75)
    assert s.vinje_gallant([2, 2]).value == pytest.approx(0) and s.vinje_gallant([0, 9, 0]).value == pytest.approx(1)
    assert s.excess_kurtosis([-1, 1, -1, 1]).value == pytest.approx(-2)
    assert s.excess_kurtosis([1000, 1001, 1000, 1001]).value == pytest.approx(-2)


def test_known_distributions():
    rng = np.random.default_rng(0)
    laplace, normal = rng.laplace(size=400_000), rng.normal(size=400_000)
    assert s.gini(laplace).value == pytest.approx(0.5, abs=0.003)
    assert s.gini(normal).value == pytest.approx(np.sqrt(2) - 1, abs=0.003)
    assert s.excess_kurtosis(laplace).value == pytest.approx(3, abs=0.25)
    assert s.excess_kurtosis(normal).value == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("measure", [*TABLE, s.vinje_gallant, s.entropy_of_squares, s.pq_index])
def test_an_all_zero_vector_is_undefined_and_never_nan(measure):
    value, defined = measure([[0, 0, 0], [0, 2, 0]])
    assert defined.tolist() == [False, True] and value[0] == 0 and np.isfinite(value).all()


def test_single_entries_and_constant_vectors():
    assert not s.hoyer([3.0]).defined and not s.vinje_gallant([3.0]).defined
    assert s.gini([3.0]) == (0.0, True)
    assert not s.excess_kurtosis([0.1, 0.1, 0.1]).defined


@pytest.mark.parametrize("bad", [[1, np.nan], [np.inf, 1], []])
def test_numbers_that_are_not_are_refused(bad):
    with pytest.raises(ValueError, match="x must"):
        s.gini(bad)


def test_huge_and_tiny_values_neither_overflow_nor_vanish():
    for measure, wanted in ((s.hoyer, 0.174258), (s.kappa4, 0.393333), (s.pq_index, 0.055586)):
        for factor in (1e200, 1e-200):
            assert measure(np.array([1, 2, 3, 4]) * factor).value == pytest.approx(wanted, abs=1e-6)


def test_power_sums_in_slices_equal_the_whole():
    x = np.random.default_rng(1).standard_t(2, (30, 7))
    x[3] = 0
    whole, left, right = s.PowerSums(), s.PowerSums(), s.PowerSums()
    whole.update(torch.from_numpy(x))
    left.update(x[:11])
    right.update(x[11:])
    left.merge(right)
    assert left.norm(2) == pytest.approx(np.linalg.norm(x)) and left.norm(np.inf) == np.abs(x).max() and left.n_zero == 7
    assert left.pq_index().value == pytest.approx(s.pq_index(x.reshape(-1)).value) == whole.pq_index().value


def test_p_must_be_below_q():
    with pytest.raises(ValueError, match="0 < p < q"):
        s.pq_index([1, 2], 1, 1)


# ---- Hurley and Rickard's criteria (METHODS B14): who passes, and who is known to fail ---------------------------------

MEASURES = {
    "gini": s.gini, "pqi": s.pq_index, "hoyer": s.hoyer, "vinje_gallant": s.vinje_gallant, "l2_over_l1": s.l2_over_l1,
    "kappa4": s.kappa4, "neg_entropy": lambda x: s.Measured(-s.entropy_of_squares(x).value, s.entropy_of_squares(x).defined),
}  # fmt: skip
FAILS = {
    "gini": set(), "pqi": set(), "hoyer": {"D4"}, "vinje_gallant": {"D4"}, "l2_over_l1": {"D4", "P2"},
    "kappa4": {"D1", "D4", "P2"}, "neg_entropy": {"D1", "D4", "P2"},
}  # fmt: skip


def criteria(measure, c, rng):
    """Which criteria hold for the vector c >= 0."""

    def value(x):
        return float(measure(np.asarray(x)).value)

    here, order = value(c), np.argsort(c)
    i, j = order[-1 - rng.integers(2)], order[rng.integers(2)]
    robbed = c.copy()
    gift = rng.uniform(0.05, 0.5) * (c[i] - c[j])
    robbed[i] -= gift
    robbed[j] += gift
    gates = c.copy()
    gates[rng.integers(len(c))] += 50 * c.sum()
    richer = gates.copy()
    richer[gates.argmax()] *= 1.5
    return {
        "D1": value(robbed) < here,
        "D2": abs(value(c * rng.uniform(0.1, 9)) - here) < 1e-9,
        "D3": value(c + rng.uniform(0.1, 2)) < here,
        "D4": abs(value(np.tile(c, 2)) - here) < 1e-9,
        "P1": value(richer) > value(gates),
        "P2": value(np.append(c, 0)) > here + 1e-12,
    }


@pytest.mark.parametrize("name", MEASURES)
def test_hurley_rickard_criteria_hold_and_fail_as_published(name):
    rng = np.random.default_rng(5)
    failed = set()
    for _ in range(300):
        c = rng.exponential(size=rng.integers(4, 9)) ** 2
        failed |= {k for k, holds in criteria(MEASURES[name], c, rng).items() if not holds}
    assert failed == FAILS[name]


def test_gini_of_single_precision_is_that_of_the_same_numbers_in_double():
    x = np.random.default_rng(0).standard_t(1.5, (9, 700)).astype(np.float32)
    x[3] = 0
    x[4] = np.float32(3e38)
    narrow, wide = s.gini(x), s.gini(x.astype(np.float64))
    np.testing.assert_allclose(narrow.value, wide.value, rtol=1e-12, atol=1e-14)
    assert narrow.defined.tolist() == wide.defined.tolist() == [k != 3 for k in range(9)]
