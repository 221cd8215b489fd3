"""weight_sparsity on planted structures: what a matrix was pruned to, where, and whether a claim of N of M holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from analysis.models import open_subject, subject_from
from analysis.runner import run
from analysis.stats.patterns import PATTERNS, mask_of, name_of, retained_energy
from analysis.weights.reading import read_numbers
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig
from store import Store


class Blocks(nn.Module):
    """Layers in a list, as a model's blocks are."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Read:
    """A sealed run and its tables."""

    def __init__(self, folder, model, name="model", **settings):
        self.store = Store(folder)
        subject = model if hasattr(model, "facts") else subject_from(model, name=name)
        self.info = run(WEIGHT_SPARSITY, {"model": subject}, WeightSparsityConfig(**settings), self.store)

    def __call__(self, table, *index):
        rows = self.store.read(self.info, table)
        return rows.set_index(list(index)) if index else rows


@pytest.fixture
def read(tmp_path):
    made = []

    def go(model, name="model", **settings):
        made.append(Read(tmp_path / f"store{len(made)}", model, name, **settings))
        return made[-1]

    return go


def linear(rows=64, columns=96, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(columns, rows, bias=False)


def pruned(layer, mask):
    with torch.no_grad():
        layer.weight.mul_(torch.as_tensor(mask, dtype=layer.weight.dtype))
    return layer


def nm(layer, keep, of):
    return pruned(layer, mask_of(layer.weight.detach().abs().numpy(), keep, of))


def test_checkpoints_pruned_to_each_structure_are_recognised_as_exactly_that(read):
    rows, columns = np.ones((64, 96)), np.ones((64, 96))
    rows[::3], columns[:, ::4] = 0, 0
    blocks = np.kron(np.add.outer(np.arange(4), np.arange(6)) % 2, np.ones((16, 16)))
    some = np.random.default_rng(0).random((64, 96)) < 0.5
    wanted = {
        "2 of 4 kept": nm(linear(), 2, 4),
        "1 of 4 kept": nm(linear(), 1, 4),
        "4 of 8 kept": nm(linear(), 4, 8),
        "rows": pruned(linear(), rows),
        "columns": pruned(linear(), columns),
        "blocks of 16": pruned(linear(), blocks),
        "unstructured": pruned(linear(), some),
        "dense": linear(),
    }
    found = read(Blocks(*wanted.values()))("tensors", "tensor")
    assert [found.loc[f"layers.{i}.weight", "structure"] for i in range(len(wanted))] == list(wanted)
    assert found.loc["layers.0.weight", "structure_share"] == 1
    assert found.loc["layers.0.weight", "zero_share"] == 0.5


def test_gpt2s_matrices_are_checked_along_their_input_which_is_their_first_axis(read):
    torch.manual_seed(0)
    layer = Conv1D(64, 96)
    with torch.no_grad():
        layer.weight.mul_(torch.from_numpy(mask_of(layer.weight.T.abs().numpy(), 2, 4).T.copy()))
    sealed = read(Blocks(layer))
    row = sealed("tensors", "tensor").loc["layers.0.weight"]
    assert (row["structure"], row["input_axis"], row["n_rows"], row["n_columns"]) == ("2 of 4 kept", 0, 64, 96)
    patterns = sealed("tensor_patterns", "along", "pattern")
    assert patterns.loc[("input", "2 of 4 kept"), "conforming_share"] == 1
    assert patterns.loc[("input", "2 of 4 kept"), "retained_energy"] == 1
    assert patterns.loc[("output", "2 of 4 kept"), "conforming_share"] < 1


def test_patterns_of_the_table_are_those_of_the_definitions_in_both_directions(read):
    layer = pruned(linear(33, 50), np.random.default_rng(1).random((33, 50)) < 0.6)
    rows = read(Blocks(layer))("tensor_patterns", "along", "pattern")
    matrix = layer.weight.detach().numpy()
    for along, turned in (("input", matrix), ("output", matrix.T)):
        for pattern in PATTERNS:
            wanted = retained_energy(turned, *pattern)
            assert rows.loc[(along, name_of(*pattern)), "retained_energy"] == pytest.approx(wanted, rel=1e-12)


def test_a_claim_is_confirmed_and_refuted_with_the_first_offending_group(read):
    layers = [nm(linear(seed=i), 2, 4) for i in range(3)]
    row = read(Blocks(*layers), "Sparse-2of4")("claims").iloc[0]
    assert (row["pattern"], row["confirmed"], row["n_conforming"]) == ("2 of 4 kept", True, 3)
    assert row["source"] == "its name, Sparse-2of4"
    with torch.no_grad():
        layers[1].weight[5, 8:12] = 1.0
        layers[2].weight[0, :4] = 1.0
    row = read(Blocks(*layers), "Sparse-2:4")("claims").iloc[0]
    assert (row["confirmed"], row["n_conforming"], row["tensor"]) == (False, 1, "layers.1.weight")
    assert row[["first_line", "first_group", "first_nonzeros"]].tolist() == [5, 2, 4]
    assert "2 of 3 matrices" in row["sentence"]
    assert "row 5, group 2, with 4 non-zeros of 4" in row["sentence"]


def test_without_a_name_most_matrices_make_the_claim_and_a_dense_model_claims_nothing(read):
    layers = [nm(linear(seed=i), 2, 4) for i in range(2)] + [linear(seed=3)]
    row = read(Blocks(*layers))("claims").iloc[0]
    assert (row["source"], row["confirmed"], row["tensor"]) == ("most of its own matrices", False, "layers.2.weight")
    assert len(read(Blocks(linear()))("claims")) == 0
    assert len(read(Blocks(linear()), "v1_2")("claims")) == 0, "a version is no claim"
    row = read(Blocks(linear()), claim="4 of 8 kept")("claims").iloc[0]
    assert (row["source"], row["confirmed"], row["first_line"], row["first_nonzeros"]) == ("the setting", False, 0, 8)


def test_dead_lines_are_listed_up_to_a_bound_and_counted_in_full(read):
    mask = np.ones((64, 96))
    mask[[3, 10, 63]], mask[:, [0, 95]] = 0, 0
    sealed = read(Blocks(pruned(linear(), mask)), listed=2)
    row = sealed("tensors", "tensor").loc["layers.0.weight"]
    assert (row["n_zero_rows"], row["n_zero_columns"]) == (3, 2)
    listed = sealed("dead_lines")
    assert sorted(zip(listed["line_kind"], listed["line"])) == [("column", 0), ("column", 95), ("row", 3), ("row", 10)]


def test_the_strength_of_inputs_and_outputs_is_that_of_the_methods(read):
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1, -2], [0.5, 0.5]]).T)
    sealed = read(layer)
    assert sealed("tensor_columns").sort_values("start")["strength"].tolist() == [3, 1]
    assert sealed("tensor_rows").sort_values("start")["strength"].tolist() == [1.5, 2.5]
    assert sealed("tensor_rows").sort_values("start")["norm"].tolist() == pytest.approx([1.25**0.5, 4.25**0.5])


def test_profiles_of_wide_matrices_have_at_most_256_bins_that_hold_every_line(read):
    mask = np.ones((10, 1000))
    mask[:, :100] = 0
    sealed = read(pruned(nn.Linear(1000, 10, bias=False), mask))
    columns = sealed("tensor_columns").sort_values("start")
    assert len(columns) == 250
    assert columns["n_zero_lines"].sum() == 100
    assert columns["zero_share"].iloc[:25].tolist() == [1] * 25
    assert columns["zero_share"].iloc[25:].sum() == 0
    assert (columns["stop"].iloc[:-1].to_numpy() == columns["start"].iloc[1:].to_numpy()).all()
    assert len(sealed("tensor_rows")) == 10


def test_the_thumbnail_shows_where_the_weights_are(read):
    mask = np.zeros((128, 192))
    mask[:64, 96:] = 1
    tiles = read(pruned(linear(128, 192), mask))("tensor_tiles").sort_values("start")
    thumb = np.stack(tiles["rms"].to_list())
    assert thumb.shape == (64, 48)
    assert (thumb[:32, 24:] > 0).all()
    assert thumb[32:].sum() == thumb[:, :24].sum() == 0


def test_blocks_count_zero_tiles_and_the_zeros_they_cover(read):
    mask = np.ones((64, 96))
    mask[:32, :32] = 0
    mask[63, 95] = 0
    rows = read(pruned(linear(), mask))("tensor_blocks", "side")
    assert rows["n_tiles"].to_dict() == {4: 384, 8: 96, 16: 24, 32: 6}
    assert rows["zero_tile_share"].tolist() == [pytest.approx(1 / 6)] * 4
    assert rows["block_efficiency"].tolist() == [pytest.approx(1024 / 1025)] * 4


def test_expert_stacks_are_looked_at_matrix_by_matrix(read):
    class Experts(nn.Module):
        def __init__(self, transposed):
            super().__init__()
            self.is_transposed = transposed
            torch.manual_seed(0)
            weight = torch.randn(3, 12, 20)
            weight *= torch.from_numpy(mask_of(weight.abs().reshape(36, 20).numpy(), 2, 4)).reshape(3, 12, 20)
            weight[1, 7] = 0
            self.gate_up_proj = nn.Parameter(weight.transpose(1, 2).contiguous() if transposed else weight)

    for transposed in (False, True):
        sealed = read(Experts(transposed))
        row = sealed("tensors").iloc[0]
        assert (row["n_matrices"], row["n_rows"], row["n_columns"], row["structure"]) == (3, 36, 20, "2 of 4 kept")
        dead = sealed("dead_lines")
        assert list(zip(dead["line_kind"], dead["line"])) == [("row", 19)]
        offender = sealed("tensor_patterns", "along", "pattern").loc[("input", "1 of 4 kept")]
        assert (offender["first_line"], offender["first_group"], offender["first_nonzeros"]) == (0, 0, 2)


def test_tensors_that_are_not_finite_or_constant_say_so(read):
    layers = [linear(seed=i) for i in range(3)]
    with torch.no_grad():
        layers[0].weight[0, 0] = float("nan")
        layers[1].weight.fill_(0.5)
        layers[2].weight.zero_()
    sealed = read(Blocks(*layers))
    rows = sealed("tensors", "tensor")
    assert rows["structure"].tolist() == ["not finite", "constant", "all zero"]
    assert rows["constant"].tolist() == [False, True, True]
    assert rows["n_nonfinite"].tolist() == [1, 0, 0]
    assert rows[["kurtosis", "gini"]].notna().sum().tolist() == [1, 2]
    assert set(sealed("tensor_patterns")["tensor"]) == {"layers.1.weight", "layers.2.weight"}


def test_sixteen_bit_weights_have_exact_order_statistics_and_float32_say_they_have_not(read):
    torch.manual_seed(0)
    values = torch.randn(200, 300)
    model = nn.ModuleDict({"narrow": nn.Linear(300, 200, bias=False).to(torch.bfloat16), "wide": nn.Linear(300, 200, bias=False)})
    with torch.no_grad():
        for layer in model.values():
            layer.weight.copy_(values)
    rows = read(model)("tensors", "tensor")
    assert rows.loc[["narrow.weight", "wide.weight"], "gini_exact"].tolist() == [True, False]
    assert rows["gini"].tolist() == pytest.approx([2**0.5 - 1] * 2, abs=5e-3)
    assert rows["kurtosis"].tolist() == pytest.approx([0, 0], abs=0.05)


def test_batch_norm_scales_are_pooled_and_layer_norms_only_described(read):
    model = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(1), nn.LayerNorm(4)])
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.001, -0.5]))
    rows = read(model, slimming=0.34)("norm_scales", "tensor")
    assert rows["is_criterion"].to_dict() == {"0.weight": True, "1.weight": True, "2.weight": False}
    assert rows.loc[["0.weight", "1.weight"], "slimming_threshold"].tolist() == pytest.approx([0.001] * 2)
    assert rows.loc[["0.weight", "1.weight"], "n_kept_slimming"].tolist() == [1, 1]
    assert rows["n_kept_slimming"].isna().tolist() == [False, False, True]
    assert rows.loc["0.weight", "n_small"] == 1


def test_an_embedding_of_more_than_50000_rows_is_measured_to_its_last(read):
    embedding = nn.Embedding(60_000, 8)
    with torch.no_grad():
        embedding.weight[59_999] = 0
    sealed = read(embedding)
    row = sealed("tensors").iloc[0]
    assert (row["n_weights"], row["n_zero"], row["n_zero_rows"]) == (480_000, 8, 1)
    assert sealed("dead_lines")["line"].tolist() == [59_999]


def test_a_tensor_of_a_file_streamed_in_slices_is_the_whole_tensor(tmp_path, monkeypatch, own_cache):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {"a": torch.randn(1000, 40), "b": torch.randn(70, 30, dtype=torch.float64), "h.0.experts": torch.randn(4, 64, 24).half()}
    state["a"][state["a"].abs() < 0.5] = 0
    save_file(state, tmp_path / "model.safetensors")
    subject = open_subject(str(tmp_path / "model.safetensors"))
    whole = {t.name: read_numbers(t) for t in subject.tensors()}
    monkeypatch.setattr("analysis.weights.reading.SLICE", 64 * 40)
    monkeypatch.setattr("analysis.weights.reading.WIDENED", 1)
    reads = []
    for tensor in subject.tensors():
        slicer = tensor.slicer
        object.__setattr__(tensor, "slicer", lambda start, end, slicer=slicer: reads.append((start, end)) or slicer(start, end))
        sliced = read_numbers(tensor, threads=2)
        for name in ("n_zero", "low", "high", "along_input", "tiles", "n_rows"):
            if name != "along_input":
                assert getattr(sliced, name) == getattr(whole[tensor.name], name), name
        assert sliced.along_input.conforming == whole[tensor.name].along_input.conforming
        assert sliced.moments == pytest.approx(whole[tensor.name].moments, rel=1e-9)
        assert sliced.magnitudes.counts.tolist() == whole[tensor.name].magnitudes.counts.tolist()
        assert sliced.thumb == pytest.approx(whole[tensor.name].thumb, rel=1e-12)
    assert reads.count((64, 128)) == 1, "the long tensor came slice by slice"
    assert max(end - start for start, end in reads) <= 64


def test_a_long_vector_is_measured_whole_without_a_number_per_weight(read):
    torch.manual_seed(0)
    values = torch.randn(10_001)
    values[9_000:] = 0

    class Held(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(values)

    row = read(Held())("tensors").iloc[0]
    assert (row["structure"], row["n_rows"], row["n_weights"], row["n_zero"]) == ("vector", 0, 10_001, 1001)
    assert row["std"] == pytest.approx(float(values.double().std(unbiased=False)), rel=1e-9)
    assert row["l1"] == pytest.approx(float(values.double().abs().sum()), rel=1e-12)
    assert row["lowest"] == pytest.approx(float(values.min()))


def test_the_files_say_how_their_values_came_about(read):
    subject = subject_from(nn.Linear(4, 4).double(), name="held")
    subject.facts["notes"].append("linear weights are dequantised 4-bit (Q4_1) values: 3 of 4 parameters")
    sealed = read(subject)
    facts = sealed.info.provenance["facts"]
    assert facts["values"] == [subject.facts["notes"][-1], "float64 weights are measured as float32"]
    assert facts["input_axis_unknown"] == 0


def test_the_figures_show_the_planted_shares_and_refuse_what_is_not_there(read):
    from analysis.drawing import draw
    from figures.spec import NothingToDraw

    even = linear(seed=1)
    nn.init.uniform_(even.weight)
    sealed = read(Blocks(nm(linear(), 2, 4), even))
    kept, _ = draw(sealed.store, sealed.info, "retained_energy")
    assert kept.data["retained_energy"].tolist() == [1.0, pytest.approx(0.8, abs=0.02)], "of an even distribution"
    assert "1 of 2 matrices conform already" in kept.sentence
    zeros, _ = draw(sealed.store, sealed.info, "zero_structure")
    assert zeros.data[["structure", "share"]].values.tolist() == [["N of M kept", 0.25]], "3,072 of 12,288"
    dense = read(nn.Linear(8, 8))
    for slug in ("retained_energy", "zero_structure"):
        with pytest.raises(NothingToDraw):
            draw(dense.store, dense.info, slug)
