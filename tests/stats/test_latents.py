"""L0, L1, densities and which latents never fire, against numbers by hand; the same for any split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.histogram import bin_index
from analysis.stats.latents import LatentActivity, density_counts, log10_density, missed


def seen(latents, window=None, document=None):
    latents = torch.as_tensor(latents, dtype=torch.float32)
    window = np.zeros(len(latents), int) if window is None else np.asarray(window)
    document = np.zeros(len(latents), int) if document is None else np.asarray(document)
    windows = np.bincount(document[np.unique(window, return_index=True)[1]])
    made = LatentActivity.empty(latents.shape[1], windows)
    made.update(latents, window, document)
    return made


def test_by_hand():
    """METHODS D2: f = [[1, 0], [2, 3]]."""
    made = seen([[1, 0], [2, 3]])
    assert made.l0().value == 1.5
    assert made.l1().value == 3
    assert made.density.tolist() == [1, 0.5]
    found = made.result()
    assert found["mean_active"].tolist() == [1.5, 3] and found["max"].tolist() == [2, 3]
    assert found["documents_active"].tolist() == [1, 1] and found["activations_per_window"].tolist() == [2, 1]


def test_l1_is_of_magnitudes_and_a_negative_latent_is_active():
    made = seen([[-2.0, 1.0, 0.0]])
    assert made.l0().value == 2 and made.l1().value == 3
    assert made.result()["max"].tolist() == [2, 1, 0]


def test_quantiles_of_l0_are_those_of_the_tokens():
    rows = torch.tril(torch.ones(20, 20))  # L0 from 1 to 20
    made = seen(rows)
    assert [made.l0_quantile(q) for q in (0.05, 0.5, 0.95, 1.0)] == [1, 10, 19, 20]
    assert seen(torch.zeros(3, 4)).l0_quantile(0.95) == 0


def test_silent_latents_on_few_tokens_are_found_by_more_tokens():
    """A latent that fires on one token in 50: whether it looks dead depends on how many tokens are read."""
    latents = torch.zeros(100, 1)
    latents[[40, 90]] = 1.0
    assert seen(latents[:30]).density[0] == 0
    assert seen(latents).density[0] == 0.02
    assert missed(0.02, 30) == pytest.approx(0.98**30)
    assert missed(0.0, 10**6) == 1


def test_histograms_hold_every_activation_and_no_zero():
    made = seen([[0.5, 0.0], [0.5, -3.0], [4.0, 0.0]])
    assert made.histogram.sum(1).tolist() == [3, 1]
    assert made.histogram[0, bin_index(0.5)] == 2 and made.histogram[1, bin_index(-3.0)] == 1


def stream(n_windows=24, length=7, f=30, seed=0):
    random = np.random.default_rng(seed)
    values = np.where(random.random((n_windows * length, f)) < 0.1, random.normal(1, 1, (n_windows * length, f)), 0).astype(np.float32)
    window = np.repeat(np.arange(n_windows), length)
    kept = random.random(len(window)) < 0.8
    return torch.from_numpy(values)[kept], window[kept], (window // 4)[kept]


@pytest.mark.parametrize("cuts", [[3], [1, 2, 17], [4, 8, 12, 16, 20]])
def test_any_split_of_the_stream_gives_the_same(cuts):
    latents, window, document = stream()
    whole = seen(latents, window, document)
    windows = np.bincount(document[np.unique(window, return_index=True)[1]])
    merged = LatentActivity.empty(30, windows)
    for a, b in reversed(list(zip([0, *cuts], [*cuts, 24]))):
        part, here = LatentActivity.empty(30, windows), (window >= a) & (window < b)
        part.update(latents[torch.from_numpy(here)], window[here], document[here])
        merged.merge(LatentActivity.of_arrays(part.arrays()))
    for name, values in whole.result().items():
        np.testing.assert_allclose(merged.result()[name], values, rtol=1e-12, err_msg=name)
    np.testing.assert_array_equal(merged.histogram, whole.histogram)
    np.testing.assert_array_equal(merged.n_together, whole.n_together)
    assert (merged.l0().value, merged.l0().low, merged.n_windows) == pytest.approx((whole.l0().value, whole.l0().low, whole.n_windows))
    assert merged.documents.done.all()


def test_it_counts_what_a_plain_loop_counts():
    latents, window, document = stream(seed=3)
    made, active = seen(latents, window, document), (latents != 0).numpy()
    np.testing.assert_array_equal(made.n_active, active.sum(0))
    by = {name: np.array([active[of == one].any(0) for one in np.unique(of)]).sum(0) for name, of in (("w", window), ("d", document))}
    np.testing.assert_array_equal(made.result()["windows_active"], by["w"])
    np.testing.assert_array_equal(made.result()["documents_active"], by["d"])
    assert made.l0().value == pytest.approx(active.sum(1).mean())
    assert made.l1().value == pytest.approx(float(latents.abs().sum(1).mean()))


def test_a_window_without_rows_still_completes_its_document():
    made = LatentActivity.empty(2, [2])
    made.update(torch.tensor([[0.0, 1.0]]), np.array([0]), np.array([0]))
    assert not made.documents.done.all()
    made.skip([0])
    assert made.documents.done.all() and made.result()["documents_active"].tolist() == [0, 1]


def test_density_shares_by_hand():
    found = density_counts([0.0, 5e-7, 5e-6, 0.02, 0.2])
    assert found["frac_alive"] == pytest.approx(0.8)
    assert (found["below_1e-6"], found["below_1e-5"]) == pytest.approx((0.4, 0.6))
    assert (found["freq_over_1_percent"], found["freq_over_10_percent"]) == pytest.approx((0.4, 0.2))
    assert found["mass_over_10_percent"] == pytest.approx(0.2 / 0.2200055)
    assert density_counts([0.0, 0.0])["mass_over_1_percent"] == 0
    assert log10_density([0.0, 0.1]) == pytest.approx([-10, -1], abs=1e-8)
