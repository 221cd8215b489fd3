"""How the level is shared out among matrices, against METHODS A2, A3, A6 and A12."""

import itertools

import pytest
import torch

from analysis.interventions.pruning import WeightPruning
from analysis.interventions.ratios import RATIOS
from analysis.interventions.ratios.floor import GlobalFloor
from analysis.interventions.ratios.pq import PQ, removable_share
from analysis.interventions.ratios.shapes import ER, ERK, UniformPlus
from analysis.interventions.structures import n_of_m, removed_of
from analysis.interventions.weights.lamp import Lamp
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Matrix
from analysis.interventions.weights.random_scores import Random
from analysis.spec import UserError
from tests import zoo
from tests.interventions.held import subject_of

SHAPES3 = ((16, 3, 3, 3), (32, 16, 3, 3), (10, 32))
LEVELS = (0.05, 0.3, 0.5, 0.8, 0.95)


def _matrices(weights):
    return [Matrix(str(i), shape, i, lambda w=w: w, None, 0) for i, (shape, w) in enumerate(weights)]


def _seeded(shapes=SHAPES3):
    made = torch.Generator().manual_seed(0)
    return _matrices(
        (s, torch.randn(s[0], Matrix("", s, 0, lambda: torch.ones(0), None, 0).d_in, generator=made) * (i + 1))
        for i, s in enumerate(shapes)
    )


@pytest.mark.parametrize(
    ("ratio", "density", "wanted"),
    [
        (ERK(), 0.1, [0.256351, 0.051911, 0.581405]),
        (ERK(), 0.2, [0.550867, 0.111551, 1.0]),
        (ER(), 0.1, [0.328941, 0.077907, 0.109070]),
        (ER(), 0.2, [0.657881, 0.155814, 0.218140]),
    ],
)
def test_shares_by_shape_are_those_of_methods_a3(ratio, density, wanted):
    shares = ratio.prepare(_seeded(), Magnitude())(1 - density)
    assert [1 - share for share in shares] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("ratio", "level"), [*itertools.product([ER(), ERK(), GlobalFloor(), PQ()], LEVELS[1:]), (UniformPlus(), 0.5)])
def test_the_mean_of_the_shares_is_the_level(ratio, level):
    matrices = _seeded()
    shares = ratio.prepare(matrices, Magnitude())(level)
    n = sum(m.n for m in matrices)
    assert sum(s * m.n for s, m in zip(shares, matrices)) / n == pytest.approx(level, abs=1 / n)
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("ratio", [ER(), ERK(), PQ()])
def test_shares_grow_with_the_level(ratio):
    shares = ratio.prepare(_seeded(), Magnitude())
    for lower, higher in itertools.pairwise(shares(level) for level in LEVELS):
        assert all(a <= b for a, b in zip(lower, higher))
    assert ratio.nested


def test_the_floor_keeps_the_smallest_matrix_alive():
    sizes = ((10, 10), (10, 100), (100, 100))
    made = torch.Generator().manual_seed(0)
    weights = _matrices((s, torch.rand(*s, generator=made) + (0 if s == (10, 10) else 10)) for s in sizes)
    bare = GlobalFloor(percent=0).prepare(weights, Magnitude())(0.9)
    lifted = GlobalFloor(percent=0.1).prepare(weights, Magnitude())(0.9)
    assert bare[0] == 1.0  # its weights are the smallest: without a floor it collapses
    assert (1 - lifted[0]) * 100 == pytest.approx(11)  # int(11,100 x 0.1 / 100)
    with pytest.raises(UserError, match="must be at most"):
        GlobalFloor(percent=5).prepare(weights, Magnitude())(0.99)


@pytest.mark.parametrize(("values", "index"), [([1, 1, 1, 1], 0), ([1, 0, 0, 0], 0.75), ([1, 1, 0, 0], 0.5), ([1, 2, 3, 4], 0.055586)])
def test_a_matrix_may_lose_what_its_pq_index_says(values, index):
    kept = {0: 4, 0.75: 1, 0.5: 2, 0.055586: 3.777657}[index]  # METHODS A12
    share = removable_share(_matrices([((1, 4), torch.tensor([values]).float())])[0])
    assert 4 * (1 - share) == pytest.approx(kept, abs=2e-6)


def test_equal_magnitudes_go_last_under_the_pq_index():
    made = torch.Generator().manual_seed(0)
    weights = _matrices([((8, 8), torch.ones(8, 8)), ((8, 8), torch.randn(8, 8, generator=made) ** 3)])
    shares = PQ().prepare(weights, Magnitude())(0.4)
    assert shares[0] < 0.001 and shares[1] == pytest.approx(0.8, abs=0.001)


def test_lamp_scores_are_those_of_methods_a6():
    scores = Lamp().score(torch.tensor([[1.0, -2.0, 3.0]]), None, 0)
    assert scores[0].tolist() == pytest.approx([0.071429, 0.307692, 1], abs=1e-6)


def test_lamp_never_empties_a_matrix():
    subject = subject_of(zoo.llama)
    with torch.no_grad():
        subject.model.model.layers[0].mlp.up_proj.weight.mul_(1e-6)
    name = "model.layers.0.mlp.up_proj.weight"
    with WeightPruning().on(subject) as held:
        counts = {count.name: count for count in held.at(0.9).counts}
        assert counts[name].n_kept == 0
    with WeightPruning(Lamp()).on(subject) as held:
        counts = {count.name: count for count in held.at(0.9).counts}
        assert counts[name].n_kept > 0 and sum(c.n_zero for c in counts.values()) == removed_of(held.scope.n, 0.9)


@pytest.mark.parametrize("ratio", [ER(), ERK(), PQ(), GlobalFloor()])
@pytest.mark.parametrize("method", [Magnitude(), Random()])
def test_each_matrix_of_a_live_model_loses_its_share(ratio, method):
    subject = subject_of(zoo.gpt2)
    with WeightPruning(method, scope="per_matrix", ratio=ratio).on(subject) as held:
        applied = held.at(0.5)
        assert applied.achieved == pytest.approx(0.5, abs=len(applied.counts) / applied.n)
        assert len({count.n_zero / count.n for count in applied.counts}) > 1
    with pytest.raises(UserError, match="per_matrix or per_row"):
        WeightPruning(ratio=ratio)
    with pytest.raises(UserError, match="got 2:4"):  # its masks would be those without a ratio, under another name
        WeightPruning(method, n_of_m(2, 4), "per_matrix", ratio)


def test_every_ratio_says_where_it_comes_from():
    assert len({ratio.slug for ratio in RATIOS}) == len(RATIOS)
    assert all(ratio.sources and ratio.title and ratio.evidence for ratio in RATIOS)
