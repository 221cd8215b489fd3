import numpy as np
import pytest

from analysis.stats import intervals as i


def test_document_bound_by_hand_and_at_the_limits():
    assert i.document_bound(1) == pytest.approx(0.95)
    assert i.document_bound(120) == pytest.approx(1 - 0.05 ** (1 / 120)) == pytest.approx(0.02466, abs=1e-5)
    assert (1 - i.document_bound(50)) ** 50 == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least 1"):
        i.document_bound(0)


def test_tokens_to_decide_is_about_thirty_thousand():
    n = i.tokens_to_decide(1e-4)
    assert abs(n - 29_956) <= 1 and (1 - 1e-4) ** n <= 0.05 < (1 - 1e-4) ** (n - 1)


def test_clopper_pearson_by_hand_and_its_symmetry():
    low, high = i.clopper_pearson([0, 10, 2], [10, 10, 10])
    assert low[0] == 0 and high[0] == pytest.approx(1 - 0.025**0.1) and high[1] == 1 and low[1] == pytest.approx(0.025**0.1)
    assert (low[2], high[2]) == (pytest.approx(0.02521, abs=1e-5), pytest.approx(0.55610, abs=1e-5))


def test_activity_classes_at_every_rule():
    many, few = 40_000, 2_000
    cases = [
        (0, many, "dead"), (0, 29_956, "dead"), (0, 29_000, "undecided"), (0, few, "undecided"),
        (1, many, "rare"), (3, many, "rare"), (4, many, "normal"), (many // 2, many, "normal"), (many // 2 + 1, many, "dense"),
        (1, few, "undecided"), (2, few, "normal"), (1, 29_000, "undecided"), (few, few, "dense"), (2, 3, "dense"),
    ]  # fmt: skip
    hits, n, wanted = zip(*cases, strict=True)
    low = [i.clopper_pearson(h, t, 0.90)[0] for h, t in ((1, few), (2, few))]
    assert low[0] < 1e-4 < low[1], "the case of 1 and 2 in 2,000 lies on the two sides of the limit"
    assert i.activity_class(hits, n).tolist() == list(wanted)


def test_activity_class_refuses_impossible_counts():
    with pytest.raises(ValueError, match="between 0 and n"):
        i.activity_class([5], [4])


# ---- Good and Toulmin ------------------------------------------------------------------------------------------------


def test_wakes_by_hand():
    """D = 4, so two terms: weights P(Bin(2, 1/2) >= 1) = 3/4 and P(.. >= 2) = 1/4."""
    fired = [0] * 10 + [1] * 8 + [2] * 4 + [4] * 100
    found = i.expected_wakes(fired, 4)
    assert found.expected == pytest.approx(0.75 * 8 - 0.25 * 4) and found.n_dead == 10 and found.smoothing == 2
    assert "10 units" in found.words


def test_nothing_wakes_where_everything_fires_always_or_never():
    assert i.expected_wakes([60] * 1000 + [0] * 50, 60).expected == 0
    assert i.expected_wakes([0] * 7, 9).expected == 0


def test_wakes_are_clamped_to_the_dead():
    assert i.expected_wakes([0] * 3 + [1] * 500, 40).expected == 3
    assert i.expected_wakes([0] * 3 + [2] * 500, 40).expected == 0


@pytest.mark.parametrize("documents", [40, 200])
def test_wakes_come_near_the_truth_on_a_known_mixture(documents):
    """Units fire in a document with rates from a wide mixture; estimate from D, truth from D more, over 30 draws."""
    rng = np.random.default_rng(documents)
    rates = np.concatenate([np.full(3000, 0.7), 10 ** rng.uniform(-4.5, -0.3, 3000), np.zeros(500)])
    estimates, truths = [], []
    for _ in range(30):
        first, second = rng.binomial(documents, rates), rng.binomial(documents, rates)
        estimates.append(i.expected_wakes(first, documents).expected)
        truths.append(((first == 0) & (second > 0)).sum())
    assert np.mean(estimates) == pytest.approx(np.mean(truths), rel=0.1)
    assert np.median(np.abs(np.array(estimates) / truths - 1)) < 0.2


# ---- means over documents --------------------------------------------------------------------------------------------


def test_mean_over_documents_by_hand():
    """R = 6/6; residuals 1, -1, 0; standard error sqrt(3/2 * 2) / 6; t(2) = 4.302653."""
    found = i.mean_over_documents([2, 2, 2], [1, 3, 2])
    assert found.value == 1 and found.standard_error == pytest.approx(np.sqrt(3) / 6)
    assert found.high == pytest.approx(1 + 4.302653 * np.sqrt(3) / 6) and "3 documents" in found.note


def test_equal_documents_have_an_interval_of_no_width():
    found = i.mean_over_documents([1.0] * 40, [2] * 40)
    assert (found.low, found.high, found.note) == (0.5, 0.5, "")


def test_one_document_has_no_interval_and_none_is_refused():
    found = i.mean_over_documents([1, 0], [2, 0])
    assert found.low is None and "one document" in found.note
    with pytest.raises(ValueError, match="at least one document"):
        i.mean_over_documents([0], [0])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        n = rng.integers(50, 500, 60)
        y = rng.binomial(n, rng.beta(2, 6, 60))
        found = i.mean_over_documents(y, n)
        covered += found.low <= 0.25 <= found.high
    assert 0.91 <= covered / 400 <= 0.98
