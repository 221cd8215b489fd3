"""Work that runs out of memory goes on with fewer examples at a time, and gives what it would have given."""

from __future__ import annotations

import gc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from analysis import find_analysis
from analysis.interventions.calibration import calibrate_on
from analysis.interventions.measuring import Evaluation
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.restarting import Restarting
from analysis.interventions.scope import weight_scope
from analysis.interventions.skipping import block_of, blocks_around
from analysis.interventions.sweep import point_of
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.runner import run
from analysis.spec import UserError, make_config
from analysis.tasks import choose_task
from store import Store
from tests import zoo


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """What was imported before is set aside: memory is collected after each failure here, and that took most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def subject(n=12):
    ids = torch.randint(3, 60, (n, 8), generator=torch.Generator().manual_seed(1))
    return subject_from(zoo.llama()[0].eval(), data=TextWindows.from_ids(ids, document=np.arange(n)))


@contextmanager
def little_memory(model, most):
    """Inside, the last block runs out of memory above so many rows; the numbers of rows that were tried."""
    sizes = []

    def entering(_, args):
        sizes.append(len(args[0]))
        if len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = model.model.layers[-1].register_forward_pre_hook(entering)
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_grid_of_matrices(most, from_the_start):
    """Also where the dense model still fitted."""
    made = subject()
    scope, task = weight_scope(made.model), choose_task(made, "causal-lm")
    member = scope.members[0]

    def measured(restarting, limit=10**9):
        with little_memory(made.model, limit if from_the_start else 10**9):
            dense = restarting.dense()
        with little_memory(made.model, limit) as sizes, WeightPruning(scope="per_matrix").on(made) as held:
            changes = [{member.name: held.weights(member.name, level)} for level in (0.3, 0.6, 0.9)]
            return [dense.total, *(one.total for one in restarting.measure(changes, block_of(member)))], sizes

    asked = (made.model, task, 12, blocks_around(made.model, scope.members))
    whole, _ = measured(Restarting(*asked))
    tight = Restarting(*asked)
    found, sizes = measured(tight, most)
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    assert max(sizes[-4:]) <= most and tight.facts["stack"] <= most
    assert tight.facts["fallbacks"] == []


@pytest.mark.parametrize("most", [1, 3])
def test_a_state_of_the_model_is_compared_with_the_dense_model_that_still_fitted(most):
    made = subject()
    found = []
    for limit in (10**9, most):
        evaluated = Evaluation(made.model, choose_task(made, "causal-lm"), 7, kl_positions=40, shown=4)
        evaluated.dense()
        with WeightPruning(scope="per_matrix").on(made) as held, little_memory(made.model, limit) as sizes:
            found.append(point_of(held, evaluated, 0.6, None, lambda share: None))
    assert max(sizes[-4:]) <= most < max(sizes)
    one, two = (point.measured for point in found)
    for metric in ("loss", "kl"):
        np.testing.assert_allclose(two[metric].total, one[metric].total, rtol=1e-5)
        assert np.array_equal(two[metric].n, one[metric].n) and one["kl"].total.sum() > 0
    assert found[0].applied == found[1].applied and sorted(one.tokens) == sorted(two.tokens)


def test_a_divergence_is_compared_with_the_dense_answers_of_the_same_examples():
    made, found = subject(), []
    for limit in (10**9, 2):
        evaluated = Evaluation(made.model, choose_task(made, "divergence"), 5)
        evaluated.dense()
        with WeightPruning(scope="per_matrix").on(made) as held, little_memory(made.model, limit):
            held.at(0.6)
            found.append(evaluated.measure()["loss"].total)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    assert found[0].min() > 0


def test_what_is_counted_while_the_model_runs_is_set_back_before_it_runs_anew():
    made, told = subject(), []
    evaluated = Evaluation(made.model, choose_task(made, "causal-lm"), 8)
    evaluated.dense()
    with little_memory(made.model, 2):
        evaluated.measure(again=lambda: told.append("again"))
    assert told == ["again", "again"], "from 8 to 4 to 2"


def test_calibration():
    made = subject()
    scope, task = weight_scope(made.model), choose_task(made, "causal-lm")
    whole = calibrate_on(made.model, scope, task, 96, {"gram", "gradients"})
    with little_memory(made.model, 3) as sizes:
        found = calibrate_on(made.model, scope, task, 96, {"gram", "gradients"})
    assert sizes[0] == 12 and whole.matrices.keys() == found.matrices.keys() != set()
    for key, one in whole.matrices.items():
        other = found.matrices[key]
        torch.testing.assert_close(other.want("gram"), one.want("gram"), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other.want("gradient"), one.want("gradient"), rtol=1e-4, atol=1e-6)
        assert (other.n, other.n_sequences) == (one.n, one.n_sequences)


@pytest.mark.parametrize(
    ("slug", "settings", "table"),
    [
        ("neuron_activity", {"examples": 3}, "neurons"),
        ("neuron_correlation", {}, "neuron_correlated"),
        ("sae_train", {"n_latents": 16, "k": 2, "n_samples": 320, "batch": 32, "place": "blocks.1.hook_resid_post"}, "saes"),
    ],
)
def test_runs(tmp_path, slug, settings, table):
    made, asked, found = subject(24), find_analysis(slug), []
    for limit in (10**9, 5):
        store = Store(tmp_path / str(limit))
        with little_memory(made.model, limit):
            info = run(asked, {"model": made}, make_config(asked.config, settings), store)
        found.append(store.read(info, table).select_dtypes("number").astype(float))
    assert len(found[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_batches_that_were_given_are_not_divided():
    model = nn.Sequential(nn.Linear(4, 3))
    made = subject_from(model, data=GivenBatches([torch.randn(6, 4)]))
    evaluated = Evaluation(model, choose_task(made), 6)
    evaluated.dense()

    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model[0].register_forward_pre_hook(refuse)
    with pytest.raises(UserError, match="one example at a time must fit"):
        evaluated.measure()
