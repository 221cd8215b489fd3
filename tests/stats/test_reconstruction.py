"""Explained variance, cosine and shrinkage against numbers by hand; what predicts the mean explains nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.reconstruction import BatchwiseFidelity, Fidelity

X = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 2.0], [2.0, -2.0]])
FIRST_COLUMN = X * torch.tensor([1.0, 0.0])


def measured(x, x_hat, document=None):
    document = np.arange(len(x)) if document is None else np.asarray(document)
    made = Fidelity.empty(int(document.max()) + 1, x.shape[1])
    made.update(x, x_hat, document)
    return made


def values(made):
    return {name: number.value for name, number in made.result().items()}


def test_by_hand():
    """METHODS D3: residual 8, variance 10 about the mean (2, 0)."""
    found = values(measured(X, FIRST_COLUMN))
    assert found["explained_variance"] == pytest.approx(0.2)
    assert found["fvu"] == pytest.approx(0.8)
    assert found["mse"] == 2.0
    assert found["mse_per_element"] == 1.0
    assert found["l2_norm_in"] == pytest.approx((1 + 3 + 2 * np.sqrt(8)) / 4)
    assert found["cosine"] == pytest.approx((2 + 2 / np.sqrt(2)) / 4)


def test_other_programs_formulas_by_hand():
    made, batch = measured(X, FIRST_COLUMN), BatchwiseFidelity()
    batch.update(X, FIRST_COLUMN)
    assert made.older_explained_variance().value == pytest.approx(1.492308, abs=1e-6)
    assert batch.result()["mse_divided_twice"].value == 0.5
    # Per token about the batch mean (2, 0): errors 0, 0, 4, 4 over 1, 1, 4, 4.
    assert batch.result()["explained_variance_legacy"].value == pytest.approx((1 + 1 + 0 + 0) / 4)


def test_predicting_the_mean_explains_nothing_and_the_truth_explains_all():
    assert values(measured(X, X.mean(0).expand_as(X)))["explained_variance"] == 0
    perfect = values(measured(X, X))
    assert perfect["explained_variance"] == 1 == perfect["cosine"] == perfect["l2_ratio"]
    assert perfect["fvu"] == 0 == perfect["mse"]


def test_a_shrunken_copy():
    found = values(measured(X, 0.9 * X))
    assert found["relative_reconstruction_bias"] == pytest.approx(0.9)
    assert found["l2_ratio"] == pytest.approx(0.9)
    assert found["cosine"] == pytest.approx(1)


def test_a_constant_error_costs_explained_variance_but_not_the_centred_one():
    found = values(measured(X, X + 3))
    assert found["explained_variance_centred"] == pytest.approx(1)
    assert found["explained_variance"] == pytest.approx(1 - 4 * 18 / 10)


def test_the_mean_is_that_of_the_whole_set_and_not_of_each_batch():
    """Two batches far apart: a reconstruction that knows only the batch's mean explains nearly all of the variance."""
    near = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([near, near + 100])
    x_hat = torch.cat([near.mean(0).expand(50, 3), (near + 100).mean(0).expand(50, 3)])
    assert values(measured(x, x_hat))["explained_variance"] > 0.999
    batches = BatchwiseFidelity()
    batches.update(x[:50], x_hat[:50])
    batches.update(x[50:], x_hat[50:])
    assert batches.result()["explained_variance_legacy"].value == pytest.approx(0, abs=1e-9)


def test_constant_activations_have_no_explained_variance_and_say_why():
    found = measured(torch.full((6, 3), 7.7), torch.zeros(6, 3)).result()
    assert found["explained_variance"].value is None
    assert "constant" in found["explained_variance"].why
    assert found["mse"].value == pytest.approx(3 * 7.7**2)
    assert Fidelity.empty(1, 3).result()["explained_variance"].value is None


def test_zero_reconstructions_have_no_cosine_and_no_bias():
    found = measured(X, torch.zeros_like(X)).result()
    assert found["cosine"].value is None and "zero" in found["cosine"].why
    assert found["relative_reconstruction_bias"].value is None
    assert found["l2_ratio"].value == 0


@pytest.mark.parametrize("cuts", [[1], [5, 6], [3, 30, 31, 77]])
def test_any_split_of_the_stream_gives_the_same(cuts):
    random = torch.Generator().manual_seed(1)
    x = torch.randn(90, 5, generator=random) + 40
    x_hat = x + 0.3 * torch.randn(90, 5, generator=random)
    document = np.sort(np.random.default_rng(0).integers(0, 6, 90))
    whole, merged = Fidelity.empty(6, 5), Fidelity.empty(6, 5)
    whole.update(x, x_hat, document)
    for a, b in zip([0, *cuts], [*cuts, 90]):
        part = Fidelity.empty(6, 5)
        part.update(x[a:b], x_hat[a:b], document[a:b])
        merged.merge(Fidelity.of_arrays(part.arrays()))
    for name, number in whole.result().items():
        again = merged.result()[name]
        for wanted, got in zip((number.value, number.low, number.high), (again.value, again.low, again.high)):
            assert (wanted is None) == (got is None), name
            assert wanted is None or got == pytest.approx(wanted, rel=1e-10), name


def test_the_variance_keeps_its_digits_at_a_far_mean():
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    far = x + 1e4
    assert values(measured(far, far.mean(0).expand_as(far)))["explained_variance"] == pytest.approx(0, abs=1e-6)


def test_the_interval_is_over_documents_and_holds_the_value():
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(400, 4)))
    size = np.repeat(random.uniform(0.1, 1, 40), 10)
    x_hat = x + torch.from_numpy(size[:, None] * random.normal(size=(400, 4)))
    found = measured(x, x_hat, np.repeat(np.arange(40), 10)).fvu()
    assert found.low < found.value < found.high and not found.why
    tokens = measured(x, x_hat).fvu()
    assert found.high - found.low > tokens.high - tokens.low, "tokens of a document are alike here, so documents tell less"
    assert measured(x, x_hat, np.zeros(400, int)).fvu().low is None


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="x and x_hat must be"):
        Fidelity.empty(1, 3).update(X, X, np.zeros(4, int))


def test_the_installed_sae_lens_agrees():
    from sae_lens.evals import ExplainedVarianceCalculator

    theirs = ExplainedVarianceCalculator()
    theirs.add_batch(FIRST_COLUMN[:1], X[:1])
    theirs.add_batch(FIRST_COLUMN[1:], X[1:])
    assert theirs.compute() == pytest.approx(values(measured(X, FIRST_COLUMN))["explained_variance"])
