"""The few numbers on a card: right, and never without what they were counted over."""

from dataclasses import dataclass, field

import pytest

from analysis.headlines import headlines, stripes
from analysis.neurons.neuron_activity import NEURON_ACTIVITY


@dataclass
class Run:
    """What `headlines` reads of a run."""

    slug: str
    version: int = NEURON_ACTIVITY.version
    summaries: dict = field(default_factory=dict)


def layer(n_neurons, density, n_dead, n_dense, n_undecided=0, layer=0, n_silent=0):
    counts = {"n_dead": n_dead, "n_dense": n_dense, "n_undecided": n_undecided, "n_silent": n_silent}
    return {"layer": layer, "n_neurons": n_neurons, "n_tokens": 2048, "n_documents": 80, "density": density, **counts}


def test_layers_weigh_by_their_neurons():
    run = Run("neuron_activity", summaries={"layers": [layer(100, 0.5, 10, 0), layer(300, 0.1, 0, 30, 40)]})
    told = headlines(run)
    assert {one.label: one.share for one in told} == pytest.approx(
        {"Mean active share": 0.2, "Dead neurons": 0.025, "Undecided neurons": 0.1, "Dense neurons": 0.075}
    )
    assert {one.over for one in told} == {"Of 400 neurons, on 2,048 tokens from 80 documents."}


def test_two_sites_of_a_layer_are_one_bar_weighed_by_their_neurons():
    rows = [layer(100, 0.5, 0, 0, n_silent=10), layer(300, 0.1, 0, 0), layer(100, 0.4, 0, 0, layer=1)]
    active, silent = stripes(Run("neuron_activity", summaries={"layers": rows}))
    assert active[1] == pytest.approx({0: 0.2, 1: 0.4})
    assert silent[1] == pytest.approx({0: 0.025, 1: 0.0})


def test_a_run_of_another_version_or_without_summaries_has_no_headline():
    assert headlines(Run("neuron_activity", version=NEURON_ACTIVITY.version + 1, summaries={"layers": [layer(1, 0, 0, 0)]})) == ()
    assert headlines(Run("neuron_activity")) == ()
    assert headlines(Run("neuron_activity", summaries={"layers": [{"n_neurons": 3}]})) == ()
    assert headlines(Run("never_heard_of", summaries={"layers": [{"n_neurons": 3}]})) == ()
    assert stripes(Run("neuron_activity", summaries={"layers": [{"n_neurons": 3}]})) == []
