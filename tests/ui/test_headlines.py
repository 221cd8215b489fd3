"""The few numbers on a card: right, and never without what they were counted over."""

from dataclasses import dataclass, field

from ui.headlines import headlines


@dataclass
class Run:
    """What `headlines` reads of a run."""

    slug: str
    version: int = 1
    summaries: dict = field(default_factory=dict)


def layer(n_neurons, density, n_dead, n_dense, n_undecided=0):
    return {
        "n_neurons": n_neurons,
        "n_tokens": 2048,
        "n_documents": 80,
        "density": density,
        "n_dead": n_dead,
        "n_dense": n_dense,
        "n_undecided": n_undecided,
    }


def test_layers_weigh_by_their_neurons():
    run = Run("neuron_activity", summaries={"layers": [layer(100, 0.5, 10, 0), layer(300, 0.1, 0, 30, 40)]})
    told = headlines(run)
    assert dict(told.numbers) == {
        "Mean active share": "20.0 %",
        "Dead neurons": "2.5 %",
        "Undecided neurons": "10.0 %",
        "Dense neurons": "7.5 %",
    }
    assert told.over == "Of 400 neurons, on 2,048 tokens from 80 documents."


def test_weights_are_counted_over_all_of_them():
    scopes = [
        {"scope": "block matrices", "n_weights": 5, "n_tensors": 1, "zero_share": 0.5, "near_zero_share": 0.6},
        {"scope": "all weights", "n_weights": 1000, "n_tensors": 7, "zero_share": 0.25, "near_zero_share": 0.3},
    ]
    told = headlines(Run("weight_sparsity", summaries={"totals": scopes}))
    assert [value for _, value in told.numbers] == ["25.0 %", "30.0 %"]
    assert told.over == "Of 1,000 weights in 7 tensors, tied ones once; exact zeros are near zero, too."


def test_a_run_of_another_version_or_without_summaries_has_no_headline():
    assert headlines(Run("neuron_activity", version=2, summaries={"layers": [layer(1, 0, 0, 0)]})) is None
    assert headlines(Run("neuron_activity")) is None
    assert headlines(Run("neuron_activity", summaries={"layers": [{"n_neurons": 3}]})) is None
    assert headlines(Run("never_heard_of", summaries={"layers": [{"n_neurons": 3}]})) is None
