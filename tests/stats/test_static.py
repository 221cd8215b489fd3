import numpy as np
import pytest
import torch

from analysis.stats.static import dynamic_dead_rate, static_class, static_dead_rate

W = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
DOWN = torch.eye(2)
INPUTS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def zeros(bias):
    return (torch.relu(INPUTS @ W.T + bias) == 0).sum(0).numpy()


def test_the_methods_case():
    """METHODS B2: static dead 1/2; dynamic .25 over all units, .5 over live ones."""
    bias = torch.zeros(2)
    classes = static_class(DOWN, W, bias)
    assert classes.tolist() == ["dead_in", "alive"] and static_dead_rate(classes) == 0.5
    assert dynamic_dead_rate(zeros(bias), 2, classes) == (0.25, 0.5)


def test_a_positive_bias_makes_it_constant_and_not_dead():
    classes = static_class(DOWN, W, torch.tensor([1.0, 0.0]))
    assert classes.tolist() == ["constant", "alive"] and static_dead_rate(classes) == 0


def test_a_negative_bias_is_dead_for_relu_and_constant_for_gelu():
    bias = torch.tensor([-1.0, 0.0])
    assert static_class(DOWN, W, bias)[0] == "dead_in"
    assert static_class(DOWN, W, bias, activation=torch.nn.functional.gelu)[0] == "constant"


def test_a_zero_down_column_is_dead_even_for_a_constant_unit():
    down = torch.tensor([[0.0, 0.0]])
    assert static_class(down, W, torch.tensor([1.0, 0.0])).tolist() == ["dead_out", "dead_out"]


def test_gated_units_die_with_either_path():
    none, some = [0.0, 0.0], [1.0, 2.0]
    gate = torch.tensor([none, some, none, none, some])
    up = torch.tensor([some, none, none, none, some])
    gate_bias, up_bias = torch.tensor([0.0, 0, 1, 1, 0]), torch.tensor([0.0, 0, 1, 0, 0])
    classes = static_class(torch.ones(3, 5), gate, gate_bias, up=up, up_bias=up_bias, activation=torch.nn.functional.silu)
    assert classes.tolist() == ["dead_in", "dead_in", "constant", "dead_in", "alive"]
    lone = static_class(torch.ones(3, 5), gate, torch.ones(5), up=up, up_bias=torch.ones(5))
    assert lone.tolist() == ["alive", "alive", "constant", "constant", "alive"], "one constant factor leaves the other path"


def test_nothing_is_dead_in_a_dense_layer():
    rng = torch.Generator().manual_seed(0)
    classes = static_class(torch.randn(4, 30, generator=rng), torch.randn(30, 5, generator=rng))
    assert set(classes) == {"alive"}


def test_wrong_orientation_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="transpose"):
        static_class(torch.ones(4, 30), torch.ones(5, 30))
    with pytest.raises(ValueError, match="at least one unit"):
        static_dead_rate(np.array([], dtype=str))
