"""Which weights go: thresholds and ranks against plain sorting."""

import itertools

import pytest
import torch

from analysis.interventions.ordering import keys_of, value_of
from analysis.interventions.selecting import select
from analysis.interventions.structures import COLUMNS, ROWS, UNSTRUCTURED, blocks, keep_mask, n_of_m, removed_of
from analysis.spec import UserError

SHAPES = [(4, 6), (3, 5), (8, 8)]
LEVELS = (0.0, 0.01, 0.1, 0.29, 0.5, 0.75, 0.99, 1.0)


def _scores(kind):
    made = torch.Generator().manual_seed(0)
    if kind == "ties":
        return [torch.randint(-1, 3, shape, generator=made).float() for shape in SHAPES]
    if kind == "zeros":
        return [torch.where(torch.rand(shape, generator=made) < 0.4, 0.0, torch.randn(shape, generator=made)) * -1.0 for shape in SHAPES]
    if kind == "one bin":
        return [1 + torch.rand(shape, generator=made) * 1e-4 for shape in SHAPES]
    if kind == "tiny":
        tiny = torch.tensor([-1e-44, -5e-45, -0.0, 0.0, 1e-44])
        return [tiny[torch.randint(0, 5, shape, generator=made)] for shape in SHAPES]
    if kind == "infinite":
        values = [torch.randn(shape, generator=made) for shape in SHAPES]
        values[0][0, :2], values[1][0, :2] = float("inf"), float("-inf")
        return values
    return [torch.randn(shape, generator=made) for shape in SHAPES]


def test_the_order_of_keys_is_the_order_of_numbers():
    values = torch.tensor([float("-inf"), -2.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.0000001, float("inf")])
    keys = keys_of(values).tolist()
    assert keys == sorted(keys) and keys[3] == keys[4] and len(set(keys)) == 8
    assert [value_of(key) for key in keys] == [v + 0.0 for v in values.tolist()]
    assert value_of(keys[-1] + 5) == float("inf") and value_of(keys[0] - 5) == float("-inf")


KINDS = ("normal", "ties", "zeros", "one bin", "tiny", "infinite")


def _sorted_global(scores, level):
    """The plain way: one stable sort of everything."""
    flat = torch.cat([s.reshape(-1) for s in scores])
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[flat.argsort(stable=True)[: removed_of(len(flat), level)]] = False
    return [part.view(s.shape) for part, s in zip(keep.split([s.numel() for s in scores]), scores)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_global_threshold_is_a_stable_sort_of_everything(kind):
    scores = _scores(kind)
    chosen = select(scores.__getitem__, SHAPES, UNSTRUCTURED, "global")
    for level in LEVELS:
        levels = [level] * 3
        wanted = _sorted_global(scores, level)
        for i in range(3):
            assert torch.equal(chosen.keep(i, levels), wanted[i])
        assert chosen.removed(levels) == [int((~mask).sum()) for mask in wanted]
        assert sum(chosen.removed(levels)) == removed_of(sum(s.numel() for s in scores), level)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ["per_matrix", "per_row"])
@pytest.mark.parametrize("structure", [UNSTRUCTURED, blocks(2), blocks(2, 3, "l2")])
def test_each_matrix_is_what_sorting_it_alone_gives(kind, group, structure):
    scores = _scores(kind)
    chosen = select(scores.__getitem__, SHAPES, structure, group)
    for level in LEVELS:
        levels = [level, level / 2, level]
        masks = [chosen.keep(i, levels) for i in range(3)]
        for i in range(3):
            assert torch.equal(masks[i], keep_mask(scores[i], levels[i], structure, group))
        assert chosen.removed(levels) == [int((~mask).sum()) for mask in masks]


@pytest.mark.parametrize(
    ("structure", "group"),
    [
        *itertools.product([UNSTRUCTURED, blocks(2), n_of_m(None, 4)], ["global", "per_matrix", "per_row"]),
        *itertools.product([ROWS, COLUMNS], ["global", "per_matrix"]),
    ],
)
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_masks_of_rising_levels_are_nested(structure, group, kind):
    scores = _scores(kind)
    chosen = select(scores.__getitem__, SHAPES, structure, group)
    masks = [torch.cat([chosen.keep(i, [level] * 3).reshape(-1) for i in range(3)]) for level in LEVELS]
    for lower, higher in itertools.pairwise(masks):
        assert not (~lower & higher).any()
    assert masks[0].all()


def test_tiles_over_the_scope_fill_the_level_with_whole_ones():
    scores = _scores("normal")
    chosen = select(scores.__getitem__, SHAPES, ROWS, "global")
    for level in LEVELS[1:]:
        masks = [chosen.keep(i, [level] * 3) for i in range(3)]
        gone = sum(int((~mask).sum()) for mask in masks)
        assert removed_of(103, level) - 8 < gone <= removed_of(103, level)  # the longest row has 8 weights
        assert all(len(set(row)) == 1 for mask in masks for row in mask.tolist())


def test_transposed_scores_break_ties_in_the_order_of_the_matrix():
    stored = torch.ones(6, 4)
    chosen = select(lambda i: stored.t(), [(4, 6)], UNSTRUCTURED, "global")
    assert chosen.keep(0, [0.25]).tolist() == [[False] * 6, [True] * 6, [True] * 6, [True] * 6]


@pytest.mark.parametrize("level", [0.1, 0.25, 0.5, 0.9])
def test_the_code_of_wanda_removes_one_too_many_and_all_ties(level):
    """METHODS A6: tau = sorted(|W|)[int(n s)], prune <=."""
    for kind in ("normal", "ties"):
        scores = _scores(kind)
        chosen = select(scores.__getitem__, SHAPES, UNSTRUCTURED, "per_matrix", "code")
        for i, s in enumerate(scores):
            tau = s.reshape(-1).sort().values[int(s.numel() * level)]
            assert torch.equal(chosen.keep(i, [level] * 3), ~(s <= tau))
        if kind == "normal":
            assert chosen.removed([level] * 3) == [int(s.numel() * level) + 1 for s in scores]


@pytest.mark.parametrize("level", [0.1, 0.25, 0.5, 0.9])
def test_the_code_of_globalmp_removes_one_too_few_and_no_ties(level):
    """METHODS A2: tau = the k-th smallest, k = int(s N), keep >= tau."""
    for kind in ("normal", "ties"):
        scores = _scores(kind)
        chosen = select(scores.__getitem__, SHAPES, UNSTRUCTURED, "global", "code")
        flat = torch.cat([s.reshape(-1) for s in scores])
        tau = flat.kthvalue(int(len(flat) * level)).values
        for i, s in enumerate(scores):
            assert torch.equal(chosen.keep(i, [level] * 3), s >= tau)
        if kind == "normal":
            assert sum(chosen.removed([level] * 3)) == int(len(flat) * level) - 1


def test_level_0_is_the_identity_in_both_variants_and_1_takes_all():
    scores = _scores("normal")
    for group, variant in itertools.product(("global", "per_matrix"), ("text", "code")):
        chosen = select(scores.__getitem__, SHAPES, UNSTRUCTURED, group, variant)
        assert chosen.removed([0.0] * 3) == [0, 0, 0] and chosen.keep(1, [0.0] * 3).all()
    assert select(scores.__getitem__, SHAPES, UNSTRUCTURED, "global").removed([1.0] * 3) == [24, 15, 64]


def test_rows_cannot_compete_inside_a_row():
    with pytest.raises(UserError, match="several units in a row"):
        select(lambda i: torch.ones(2, 2), [(2, 2)], ROWS, "per_row")
