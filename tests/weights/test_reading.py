"""A weight tensor is read to the same numbers whatever its type, and whichever thread reads it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.models import subject_from
from analysis.weights.reading import read_numbers
from analysis.weights.weight_sparsity import LARGE, WeightSparsityConfig, measure


def tensor_of(values):
    class Held(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(values)

    return next(iter(subject_from(Held(), name="held").tensors()))


def stored(dtype, bad=None):
    """Enough weights for the patterns to be counted, and lines that no group of 8 fills."""
    values = torch.randn(437, 301, generator=torch.Generator().manual_seed(0)) * 0.05
    values[values.abs() < 0.02], values[7], values[:, 300] = 0.0, 0.0, 0.0
    if bad is not None:
        values[5, 5] = bad
    return values.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [None, float("nan"), float("-inf")])
@pytest.mark.parametrize("slice_size", [1 << 24, 64 * 301])
def test_a_16_bit_tensor_has_the_numbers_of_its_float32_copy(dtype, bad, slice_size, monkeypatch):
    monkeypatch.setattr("analysis.weights.reading.SLICE", slice_size)
    found, wanted = read_numbers(tensor_of(stored(dtype, bad)), 2), read_numbers(tensor_of(stored(dtype, bad).float()), 1)
    for name in ("n", "n_nonfinite", "n_zero", "low", "high", "n_rows", "n_columns"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("l1", "square_sum", "root_sum", "rows", "columns", "thumb"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-6 if name == "root_sum" else 1e-12), name
    assert found.moments == pytest.approx(wanted.moments, rel=1e-9)
    assert found.magnitudes.counts.tolist() == wanted.magnitudes.counts.tolist()
    assert found.magnitudes.exact and not wanted.magnitudes.exact
    if bad is None:
        assert (found.tiles, found.along_input.conforming) == (wanted.tiles, wanted.along_input.conforming)
        assert found.along_output.lost == pytest.approx(wanted.along_output.lost, rel=1e-12)


def test_the_rows_of_small_tensors_are_the_same_on_any_number_of_threads_and_in_their_order():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            for i in range(12):
                torch.manual_seed(i)
                setattr(self, f"w{i}", nn.Parameter(torch.randn(64 + 8 * i, 96)))

    tensors = list(subject_from(Many(), name="many").tensors())
    assert all(t.numel < LARGE for t in tensors)
    reported: list[float] = []
    one, state = measure(tensors, WeightSparsityConfig(), 1, reported.append)
    three, other = measure(tensors, WeightSparsityConfig(), 3, lambda _: None)
    assert one == three and one["tensors"]["tensor"] == [f"w{i}" for i in range(12)]
    assert all((state[name] == other[name]).all() for name in state)
    assert reported == sorted(reported) and reported[-1] == 1.0


def test_an_error_while_reading_a_tensor_ends_the_measuring():
    def broken():
        raise OSError("the file is gone")

    tensors = [tensor_of(torch.randn(8, 8)), tensor_of(torch.randn(8, 8))]
    object.__setattr__(tensors[0], "reader", broken)
    object.__setattr__(tensors[1], "name", "other")
    with pytest.raises(OSError, match="the file is gone"):
        measure(tensors, WeightSparsityConfig(), 2, lambda _: None)
