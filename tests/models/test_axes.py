"""Which way round a weight is stored, and its matrices [n, d_out, d_in]."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.models import open_subject, subject_from
from analysis.models.tensors import TensorInfo, as_matrix, tensors_of_files


def infos(model):
    return {i.name: i for i in subject_from(model).tensors()}


def outputs_by(matrix, x):
    return torch.einsum("oi,ti->to", matrix, x)


def test_the_matrix_of_a_linear_layer_and_of_a_conv1d_both_map_inputs_to_outputs():
    from transformers.pytorch_utils import Conv1D

    model = nn.ModuleDict({"linear": nn.Linear(6, 4), "hf": Conv1D(4, 6)})
    x = torch.randn(3, 6)
    found = infos(model)
    assert (found["linear.weight"].input_axis, found["hf.weight"].input_axis) == (1, 0)
    for name, layer in model.items():
        nn.init.zeros_(layer.bias)
        info = found[f"{name}.weight"]
        assert info.matrix_shape == (1, 4, 6)
        assert torch.allclose(outputs_by(info.matrices()[0], x), layer(x), atol=1e-6), name


def test_a_convolution_is_flattened_to_out_by_in_times_kernel_and_a_transposed_one_turned():
    found = infos(nn.ModuleDict({"conv": nn.Conv2d(3, 5, 2), "turned": nn.ConvTranspose2d(3, 5, 2)}))
    conv, turned = found["conv.weight"], found["turned.weight"]
    assert (conv.input_axis, conv.matrix_shape) == (1, (1, 5, 12))
    assert (turned.input_axis, turned.matrix_shape) == (0, (1, 5, 12))
    assert torch.equal(turned.matrices()[0, 1], turned.read()[:, 1].reshape(-1))


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_expert_stacks_are_one_matrix_an_expert_with_the_input_last(family):
    from tests import zoo

    model, _ = getattr(zoo, family)()
    stacks = [i for i in infos(model).values() if i.stacked]
    assert {i.name.rpartition(".")[2]: i.matrix_shape[1:] for i in stacks} == (
        {"gate_up_proj": (48, 16), "down_proj": (16, 24)} if family == "mixtral" else {"gate_up_proj": (24, 16), "down_proj": (16, 12)}
    )
    assert all(i.input_axis == 2 and i.matrix_shape[0] == 4 for i in stacks)


def test_experts_stored_the_other_way_round_are_turned():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.is_transposed = True
            self.down_proj = nn.Parameter(torch.randn(3, 5, 2))

    info = infos(Experts())["down_proj"]
    assert (info.input_axis, info.stacked, info.matrix_shape) == (1, True, (3, 2, 5))
    assert torch.equal(info.matrices(), info.read().transpose(1, 2))


def test_what_no_module_tells_is_taken_as_stored(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.randn(2, 3), "experts.w": torch.randn(2, 3, 4), "p": torch.randn(1, 5, 4)}, tmp_path / "a.safetensors")
    found = {i.name: i for i in tensors_of_files([tmp_path / "a.safetensors"], None)}
    assert all(i.input_axis is None for i in found.values())
    assert {n: i.matrix_shape for n, i in found.items()} == {"w": (1, 2, 3), "experts.w": (2, 3, 4), "p": (1, 5, 4)}
    assert infos(nn.Embedding(7, 3))["weight"].input_axis is None
    assert infos(nn.LSTM(3, 2))["weight_hh_l0"].input_axis == 1
    for info in found.values():
        assert tuple(info.matrices().shape) == info.matrix_shape


def test_an_embedding_tied_to_a_linear_head_is_that_heads_matrix(tiny_llama):
    found = {i.name: i for i in open_subject(str(tiny_llama)).tensors()}
    assert found["model.embed_tokens.weight"].input_axis == 1


def test_a_vector_is_no_matrix():
    info = infos(nn.Linear(3, 2))["bias"]
    assert info.matrix_shape is None
    with pytest.raises(ValueError, match="two or more axes"):
        as_matrix(info.read(), info)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_slices_put_together_are_the_tensor(tiny_llama, rows):
    for info in open_subject(str(tiny_llama)).tensors():
        assert torch.equal(torch.cat(list(info.read_slices(rows))), info.read())
    module = TensorInfo("s", (), "float32", "other", None, reader=lambda: torch.tensor(2.0))
    assert [float(part) for part in module.read_slices(rows)] == [2.0]


def test_a_view_is_given_wherever_one_can_be():
    weight = torch.randn(4, 6)
    info = TensorInfo("w", (4, 6), "float32", "linear", None, input_axis=0)
    as_matrix(weight, info)[0, 2, 1] = 7
    assert weight[1, 2] == 7
