"""Checkpoints as they are found, through files: quantised, of odd types and sizes, bare; nothing is left out or refused in silence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from analysis import find_analysis
from analysis.models import open_subject
from analysis.models.files import look
from analysis.runner import run
from analysis.spec import IncompatibleSubject, UserError
from store import Store

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"


@pytest.fixture
def sealed(tmp_path):
    """Seals a run of an analysis on what lies at a path; gives the info and a reader of its tables."""

    def go(slug, path, **settings):
        analysis, store = find_analysis(slug), Store(tmp_path / "results")
        info = run(analysis, {"model": open_subject(str(path))}, analysis.config(**settings), store)
        return info, lambda table: store.read(info, table)

    return go


def saved(path, **state):
    save_file(state, path, metadata={"format": "pt"})
    return path


def gptq(name):
    """A matrix [64, 16] of 4 bits as GPTQ stores it: eight weights in each integer of 32 bits."""
    torch.manual_seed(0)
    packed = {f"{name}.qweight": torch.randint(0, 9, (2, 64)), f"{name}.qzeros": torch.randint(0, 9, (2, 8))}
    return {name: value.int() for name, value in packed.items()} | {
        f"{name}.scales": torch.rand(2, 64).half(),
        f"{name}.g_idx": torch.zeros(16, dtype=torch.int32),
    }


# Quantised to integers -------------------------------------------------------------------------------------------------


def test_packed_integers_beside_weights_are_said_wherever_the_numbers_are_shown(tmp_path, own_cache, sealed):
    path = saved(tmp_path / "part.safetensors", **gptq(UP), **{f"{DOWN}.weight": torch.randn(16, 64)})
    info, _ = sealed("weight_sparsity", path)
    (said,) = info.provenance["facts"]["values"]
    assert said.startswith("2 integer tensors with 144 numbers are not measured")
    assert f"{UP}.qweight" in said and "quantised" in said and "scales" not in said
    assert said in open_subject(str(path)).facts["notes"]
    assert said in look(path).notes, "the page of a model says it before anything is opened"
    for slug in ("weight_spectrum", "layer_ratios"):
        assert said in sealed(slug, path)[0].provenance["facts"]["values"], slug
    base = open_subject(str(saved(tmp_path / "base.safetensors", **{f"{DOWN}.weight": torch.randn(16, 64)})))
    diff, inputs = find_analysis("checkpoint_diff"), {"model": open_subject(str(path)), "base": base}
    facts = run(diff, inputs, diff.config(), Store(tmp_path / "results")).provenance["facts"]
    assert facts["values"] == [f"part.safetensors: {said}"], "which of the two is said"
    torch.save(gptq(UP) | {f"{DOWN}.weight": torch.randn(16, 64)}, tmp_path / "part.pt")
    assert said in open_subject(str(tmp_path / "part.pt")).facts["notes"]


@pytest.mark.parametrize("slug", ["weight_sparsity", "weight_spectrum", "layer_ratios", "checkpoint_diff"])
def test_blocks_of_which_only_scales_could_be_measured_are_refused(tmp_path, slug):
    folder = tmp_path / "gptq"
    folder.mkdir()
    from transformers import LlamaConfig

    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2).to_dict()
    config |= {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 8}}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    outside = {"model.embed_tokens.weight": torch.randn(32, 16), "lm_head.weight": torch.randn(32, 16), "model.norm.weight": torch.ones(16)}
    saved(folder / "model.safetensors", **outside, **gptq(UP))
    for path in (folder, saved(tmp_path / "bare.safetensors", **gptq(UP))):
        subject = open_subject(str(path))
        with pytest.raises(IncompatibleSubject, match=r"packed integers, .* that is not quantised") as refused:
            run(find_analysis(slug), {"model": subject, "base": subject}, find_analysis(slug).config(), Store(tmp_path / "results"))
        assert str(refused.value).count(". ") == 0, "one sentence"


def test_a_series_of_packed_integers_is_refused_too(tmp_path, sealed):
    (tmp_path / "series").mkdir()
    for step in (1, 2):
        saved(tmp_path / "series" / f"step_{step}.safetensors", **gptq(UP))
    with pytest.raises(IncompatibleSubject, match="packed integers"):
        sealed("checkpoint_timeline", tmp_path / "series")


def test_counters_masks_and_indices_are_no_packed_weights(tmp_path, sealed):
    none = {
        "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "h.0.mask": torch.ones(4, 4, dtype=torch.bool),
        "position_ids": torch.arange(4)[None],
        "num_batches_tracked": torch.tensor(3),
    }
    path = saved(tmp_path / "plain.safetensors", **none, **{"h.0.mlp.weight": torch.randn(8, 8)})
    assert sealed("weight_sparsity", path)[0].provenance["facts"]["values"] == []
    assert not look(path).notes


# Types and sizes -------------------------------------------------------------------------------------------------------


def test_8_bit_floats_have_the_spectrum_of_the_numbers_they_stand_for(tmp_path, sealed):
    torch.manual_seed(0)
    narrow = torch.randn(64, 48).to(torch.float8_e4m3fn)
    as_is = sealed("weight_spectrum", saved(tmp_path / "fp8.safetensors", **{"layers.0.up.weight": narrow}))[1]
    wide = sealed("weight_spectrum", saved(tmp_path / "fp32.safetensors", **{"layers.0.up.weight": narrow.float()}))[1]
    for column in ("stable_rank", "effective_rank", "n_outliers", "largest", "frobenius"):
        assert as_is("spectra")[column].tolist() == wide("spectra")[column].tolist(), column
    (tmp_path / "series").mkdir()
    for step in (1, 2):
        saved(tmp_path / "series" / f"step_{step}.safetensors", **{"layers.0.up.weight": narrow})
    found = sealed("checkpoint_timeline", tmp_path / "series")[1]("timeline_measures")
    assert found[found["measure"] == "stable_rank"]["value"].tolist() == pytest.approx(as_is("spectra")["stable_rank"].tolist() * 2)


@pytest.mark.parametrize(
    "by, dtype", [(2.0**83, "float32"), (2.0**-100, "float32"), (2.0**664, "float64"), (2.0**-664, "float64"), (2.0**-1013, "float64")]
)
def test_no_measure_depends_on_the_unit_the_weights_are_in(tmp_path, sealed, by, dtype):
    torch.manual_seed(0)
    matrix = torch.randn(48, 40, dtype=torch.float64)
    matrix[matrix.abs() < 0.1] = 0
    matrix[3, 5] = 20.0
    plain = matrix.to(getattr(torch, dtype))
    scaled = (matrix * by).to(plain.dtype)
    tables = {}
    for name, values in (("plain", plain), ("scaled", scaled)):
        path = saved(tmp_path / f"{name}.safetensors", **{"layers.0.up.weight": values})
        tables[name] = [sealed(slug, path)[1] for slug in ("weight_spectrum", "weight_sparsity")]
    one, other = (tables[name][0]("spectra").iloc[0] for name in ("plain", "scaled"))
    for column in ("stable_rank", "effective_rank", "numerical_rank", "break_even_error", "n_outliers"):
        assert other[column] == pytest.approx(one[column], rel=1e-5), column
    for column in ("largest", "frobenius"):
        assert other[column] == pytest.approx(one[column] * by, rel=1e-5, abs=0), column
    errors = [tables[name][0]("factorisations").sort_values("method")["error"].tolist() for name in ("plain", "scaled")]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    curves = [tables[name][0]("spectrum_curves").sort_values("rank")["value"].to_numpy() for name in ("plain", "scaled")]
    assert curves[1] == pytest.approx(curves[0] * by, rel=1e-5, abs=0)

    one, other = (tables[name][1]("tensors").iloc[0] for name in ("plain", "scaled"))
    for column in ("structure", "n_zero", "n_near_zero", "n_zero_rows"):
        assert other[column] == one[column], column
    for column in ("pq_index", "hoyer", "gini", "kurtosis"):
        assert other[column] == pytest.approx(one[column], rel=1e-3, abs=1e-9), column
    for column in ("l1", "l2", "rms", "max_abs", "lowest", "highest", "std", "mean"):
        assert other[column] == pytest.approx(one[column] * by, rel=1e-5, abs=0), column
    lines = [tables[name][1]("tensor_rows").sort_values("start")["largest_norm"].to_numpy() for name in ("plain", "scaled")]
    assert lines[1] == pytest.approx(lines[0] * by, rel=1e-5, abs=0)
    patterns = [tables[name][1]("tensor_patterns").sort_values(["along", "pattern"])["retained_energy"].to_numpy() for name in tables]
    assert patterns[1] == pytest.approx(patterns[0], rel=1e-5)


def test_what_no_number_can_hold_is_missing_in_words(tmp_path, sealed):
    state = {"layers.0.up.weight": torch.full((8, 8), 1.7e308, dtype=torch.float64), "layers.0.down.weight": torch.full((8, 8), 3e38)}
    rows = sealed("weight_spectrum", saved(tmp_path / "huge.safetensors", **state))[1]("spectra").set_index("tensor")
    assert rows.loc["layers.0.up.weight", "missing"].startswith("Its weights reach 1.7e+308, and sums of such numbers cannot be held")
    assert rows.loc["layers.0.down.weight", "stable_rank"] == pytest.approx(1)
    assert rows.loc["layers.0.down.weight", "largest"] == pytest.approx(8 * 3e38)


def test_weights_beyond_what_sums_can_hold_are_refused_in_a_sentence(tmp_path, sealed):
    path = saved(tmp_path / "huge.safetensors", **{"layers.0.up.weight": torch.full((8, 8), -1.7e308, dtype=torch.float64)})
    with pytest.raises(UserError, match=r"at most 1e\+280.*got 1\.7e\+308 in layers\.0\.up\.weight; divide the checkpoint"):
        sealed("weight_sparsity", path)


def test_weights_close_to_zero_are_no_zeros(tmp_path, sealed):
    state = {"layers.0.up.weight": torch.full((8, 8), 1e-200, dtype=torch.float64).fill_diagonal_(0)}
    row = sealed("weight_sparsity", saved(tmp_path / "tiny.safetensors", **state))[1]("tensors").iloc[0]
    assert (row["n_zero"], row["structure"], row["max_abs"]) == (8, "unstructured", pytest.approx(1e-200, rel=1e-6, abs=0))


# Bare state dicts ------------------------------------------------------------------------------------------------------


def test_batch_norms_of_a_bare_file_are_told_by_what_lies_beside_them(tmp_path, sealed):
    scale = torch.tensor([0.001, 0.5, 1, 1, 1, 1, 1, 1])
    norm = {"bn1.weight": scale, "bn1.bias": torch.zeros(8), "bn1.running_mean": torch.ones(8), "bn1.running_var": torch.ones(8)}
    norm |= {"bn1.num_batches_tracked": torch.tensor(3), "layer1.0.norm2.weight": scale.clone()}
    path = saved(tmp_path / "resnet.safetensors", **norm, **{"conv1.weight": torch.randn(8, 3, 3, 3)})
    info, rows = sealed("weight_sparsity", path)
    assert info.provenance["facts"]["scope"].endswith("buffers left out")
    totals = rows("totals").set_index("scope")
    assert totals.loc["all weights", "n_weights"] == 8 * 27 + 8 + 8 + 8
    tensors = rows("tensors").set_index("tensor")
    assert tensors.loc[["bn1.weight", "bn1.bias"], ["kind", "owner"]].values.tolist() == [["norm", "BatchNorm"]] * 2
    scales = rows("norm_scales").set_index("tensor")
    assert scales.loc["bn1.weight", ["is_criterion", "n_small"]].tolist() == [True, 1]
    assert scales.loc["bn1.weight", "slimming_threshold"] == 1
    assert not scales.loc["layer1.0.norm2.weight", "is_criterion"], "a norm without running numbers is no batch norm"


# Names -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model-1-of-2", "model-00001-of-00002", "part1of4", "shard_2of4", "weights 1 of 2", "model-2-of-4"])
def test_the_number_of_a_shard_claims_no_pattern(tmp_path, sealed, name):
    path = saved(tmp_path / f"{name}.safetensors", **{f"{UP}.weight": torch.randn(64, 64)})
    assert sealed("weight_sparsity", path)[1]("claims").empty


@pytest.mark.parametrize("name", ["llama-2:4", "Sparse-Llama-2of4", "llama-pruned-4of8"])
def test_a_name_that_says_n_of_m_claims_it(tmp_path, sealed, name):
    path = saved(tmp_path / f"{name}.safetensors", **{f"{UP}.weight": torch.randn(64, 64)})
    claim = sealed("weight_sparsity", path)[1]("claims").iloc[0]
    assert claim["source"] == f"its name, {name}"
    assert not claim["confirmed"]


# GGUF ------------------------------------------------------------------------------------------------------------------


def write_gguf(path, d=32):
    """A LLaMA of one block whose matrices are stored as Q8_0, with a tokenizer of a few bytes, as llama.cpp would write it."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

    writer, rng = GGUFWriter(path, "llama"), np.random.default_rng(0)
    writer.add_context_length(16)
    writer.add_embedding_length(d)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * d)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    tokens = ["<s>", *(chr(97 + i) for i in range(14)), "ab"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {"token_embd": (len(tokens), d), "output": (len(tokens), d)}
    shapes |= {f"blk.0.attn_{name}": (d, d) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (2 * d, d), "blk.0.ffn_up": (2 * d, d), "blk.0.ffn_down": (d, 2 * d)}
    packed = GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", quants.quantize(rng.normal(size=shape).astype(np.float32), packed), raw_dtype=packed)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(d, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_sealed_run_of_a_gguf_file_says_that_its_weights_are_dequantised(tmp_path, own_cache, sealed):
    path = write_gguf(tmp_path / "tiny-Q8_0.gguf")
    info, rows = sealed("weight_sparsity", path)
    (said,) = info.provenance["facts"]["values"]
    n_packed = 2 * 16 * 32 + 4 * 32 * 32 + 3 * 64 * 32
    assert said == f"linear weights are dequantised 8-bit (Q8_0) values: {n_packed:,} of {n_packed + 3 * 32:,} parameters"
    assert "dequantised Q8_0" in info.provenance["model_label"]
    tensors = rows("tensors").set_index("tensor")
    assert tensors.loc["model.layers.0.mlp.up_proj.weight", "dtype"] == "float32", "which alone would say nothing"
    assert sealed("weight_spectrum", path)[0].provenance["facts"]["values"] == [said]
