"""DSnoT against a slow reference written from METHODS A9, its known answer, and what it never changes."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.weights.dsnot import dsnot

C = [3, -2.5, 0.8, -0.3, 1, -0.2]


def hand_case(cycles):
    w = torch.tensor([C], dtype=torch.float64)
    kept = torch.tensor([[True, True, False, False, True, False]])
    ones = torch.ones(6, dtype=torch.float64)
    return kept, dsnot(w, kept, ones, ones, ones, cycles=cycles)


def slow(w, kept, sums, variance, norms, pattern=None, threshold=0.1, cycles=50):
    """METHODS A9 row by row with lists; a weight is swapped once at most."""
    kept = kept.clone()
    errors = []
    for r in range(len(w)):
        c = [float(w[r, j] * sums[j]) for j in range(w.shape[1])]
        pruned = [j for j in range(len(c)) if not kept[r, j]]
        staying = [j for j in range(len(c)) if kept[r, j]]
        error = sum(c[j] for j in pruned)
        first = (error > 0) - (error < 0)
        for _ in range(cycles):
            if abs(error) <= threshold:
                break
            sign = 1 if error > 0 else -1
            grow = [j for j in pruned if c[j] * sign > 0]
            if not grow:
                break
            g = max(grow, key=lambda j: (sign * c[j] / float(variance[j]), -j))
            if pattern is None:
                go = [j for j in staying if c[j] * sign < 0]
            else:
                go = [j for j in staying if j // pattern[1] == g // pattern[1]]
            if not go:
                break
            p = min(go, key=lambda j: (abs(float(w[r, j])) * float(norms[j]), j))
            after = error + c[p] - c[g]
            if pattern is not None and ((after > 0) - (after < 0)) != first:
                break
            kept[r, g], kept[r, p], error = True, False, after
            pruned.remove(g)
            staying.remove(p)
        errors.append(error)
    return kept, errors


def test_the_first_swap_of_the_hand_computed_case():
    start, found = hand_case(1)
    assert found.before.tolist() == pytest.approx([0.3])
    assert found.kept.tolist() == [[True, False, True, False, True, False]]
    assert found.after.tolist() == pytest.approx([-3.0]), "the method is greedy, and this is what it does"
    assert found.facts(start) == {
        "error_before": pytest.approx(0.3),
        "error_after": pytest.approx(3.0),
        "swaps_per_row": 1.0,
        "overlap": 0.5,
    }


def test_what_was_pruned_is_not_grown_again():
    """The second cycle has eps < 0: of what was pruned at first, -0.3 is the smallest; of the kept, 1 has the smallest score."""
    _, found = hand_case(2)
    assert found.kept.tolist() == [[True, False, True, True, False, False]]
    assert found.after.tolist() == pytest.approx([-3.0 + 1 + 0.3])


@pytest.mark.parametrize(("shape", "pattern"), [((5, 16), None), ((8, 64), None), ((6, 32), (2, 4)), ((4, 24), (3, 8))])
def test_it_is_the_slow_reference(shape, pattern):
    made = torch.Generator().manual_seed(shape[1])
    w = torch.randn(shape, generator=made, dtype=torch.float64)
    sums = torch.randn(shape[1], generator=made, dtype=torch.float64) * 3
    variance, norms = (torch.rand(shape[1], generator=made, dtype=torch.float64) + 0.1 for _ in range(2))
    keep = (shape[1] // 2, shape[1]) if pattern is None else pattern
    scores = torch.rand(shape, generator=made).view(shape[0], -1, keep[1])
    kept = (scores.argsort(2).argsort(2) < keep[0]).view(shape)
    found = dsnot(w, kept, sums, variance, norms, pattern)
    mask, errors = slow(w, kept, sums, variance, norms, pattern)
    assert torch.equal(found.kept, mask) and found.after.tolist() == pytest.approx(errors)
    assert found.swaps.sum() > 0, "a case where nothing is swapped shows nothing"
    assert torch.equal(found.kept.sum(1), kept.sum(1)), "the density of a row never changes"
    if pattern is not None:
        assert (found.kept.view(shape[0], -1, pattern[1]).sum(2) == pattern[0]).all()


def test_a_row_whose_error_is_small_already_is_left_alone():
    w = torch.tensor([[0.05, 1.0]], dtype=torch.float64)
    kept, ones = torch.tensor([[False, True]]), torch.ones(2, dtype=torch.float64)
    found = dsnot(w, kept, ones, ones, ones)
    assert torch.equal(found.kept, kept) and found.swaps.tolist() == [0]


def test_a_row_without_a_kept_weight_of_the_other_sign_is_left_alone():
    w = torch.tensor([[2.0, 1.0, 3.0]], dtype=torch.float64)
    kept, ones = torch.tensor([[False, True, True]]), torch.ones(3, dtype=torch.float64)
    assert torch.equal(dsnot(w, kept, ones, ones, ones).kept, kept)


def test_inputs_without_variance_do_not_divide_by_zero():
    w = torch.tensor([C], dtype=torch.float64)
    kept = torch.tensor([[True, True, False, False, True, False]])
    ones = torch.ones(6, dtype=torch.float64)
    found = dsnot(w, kept, ones, torch.zeros(6), ones)
    assert found.after.isfinite().all() and int(found.kept.sum()) == 3


def test_an_input_that_varies_is_grown_later_than_one_that_does_not():
    """eps = 5: by c alone 3 is grown; with a variance of 9 its criterion is 1/3, below 2 / 1."""
    w = torch.tensor([[3.0, 2.0, -1.0]], dtype=torch.float64)
    kept, ones = torch.tensor([[False, False, True]]), torch.ones(3, dtype=torch.float64)
    calm = dsnot(w, kept, ones, ones, ones, cycles=1)
    assert calm.kept.tolist() == [[True, False, False]]
    varied = dsnot(w, kept, ones, torch.tensor([9.0, 1.0, 1.0]), ones, cycles=1)
    assert varied.kept.tolist() == [[False, True, False]]
