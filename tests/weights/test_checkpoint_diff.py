"""Two checkpoints beside each other: what was planted is found, what is the same is the same, names are matched and said how."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analysis.models import open_subject, subject_from
from analysis.runner import run
from analysis.spec import UserError, make_config
from analysis.stats.spectrum import singular_values, stable_rank
from analysis.weights.checkpoint_diff import CHECKPOINT_DIFF
from analysis.weights.checkpoint_diff_adapters import scale_of
from analysis.weights.checkpoint_diff_matching import match
from figures.spec import NothingToDraw
from store import Store
from tests import zoo


@pytest.fixture
def compared(tmp_path, own_cache):
    """Run it on two subjects, or states of tensors: a function from table to rows, and to the drawn figures."""

    def subject(given, name):
        if isinstance(given, dict):
            save_file({key: value.contiguous() for key, value in given.items()}, tmp_path / f"{name}.safetensors")
            given = str(tmp_path / f"{name}.safetensors")
        return open_subject(given) if isinstance(given, str) else given

    def go(model, base, **settings):
        store = Store(tmp_path / "results")
        inputs = {"model": subject(model, "after"), "base": subject(base, "before")}
        info = run(CHECKPOINT_DIFF, inputs, make_config(CHECKPOINT_DIFF.config, settings), store)

        def read(table):
            return store.read(info, table)

        read.one = lambda table: store.read(info, table).to_dict("records")[0]
        read.figures = {f.slug: lambda f=f: f.draw(store.read(info, f.table), store.provenance(info)) for f in CHECKPOINT_DIFF.figures}
        read.provenance = store.provenance(info)
        return read

    return go


def model(seed=0):
    made = zoo.llama()[0]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += seed * 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def state(seed=0, prefix=""):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (40, 8), "layers.0.up.weight": (24, 8), "layers.0.down.weight": (8, 24), "layers.0.norm.weight": (8,)}
    return {prefix + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


# ---------------------------------------------------------------------------------------------------------------------
# What is the same, and what was planted


def test_identical_checkpoints_are_zero_everywhere(compared):
    found = compared(state(), state())
    rows = found("tensor_diffs")
    assert (rows["n_changed"] == 0).all() and (rows["relative_change"] == 0).all() and (rows["cosine"] == 1).all()
    assert (rows["norm_ratio"] == 1).all() and (rows["mask_overlap"] == 1).all() and rows["stable_rank"].isna().all()
    assert found("changed_rows").empty and found("unmatched").empty
    assert not found("diff_tiles")[["changed_share", "new_zero_share"]].any().any()
    assert found.one("diff_verdict")["verdict"] == "identical"
    for slug in ("most_changed", "new_zeros", "rank", "tiles"):
        with pytest.raises(NothingToDraw):
            found.figures[slug]()


def test_dense_against_pruned_shows_the_mask_exactly(compared):
    dense, pruned = state(), state()
    dense["layers.0.up.weight"][0, :3] = 0.0
    pruned["layers.0.up.weight"][0, :3] = 0.0
    mask = torch.zeros(24, 8, dtype=torch.bool)
    mask[1, 2] = mask[5] = mask[20:, 4:] = True
    pruned["layers.0.up.weight"][mask] = 0.0
    found = compared(pruned, dense, tiles=24)
    row = found("tensor_diffs").set_index("tensor").loc["layers.0.up.weight"]
    assert (row["n_zero_base"], row["n_new_zero"], row["n_revived"]) == (3, int(mask.sum()), 0)
    assert row["kept_same_share"] == 1 and row["mask_overlap"] == (189 - mask.sum()) / 189
    tiles = found("diff_tiles").query("tensor == 'layers.0.up.weight'").sort_values(["tile_row", "tile_column"])
    assert np.array_equal(tiles["new_zero_share"].to_numpy().reshape(24, 8), mask.numpy()), "every tile is one weight"
    said = found.one("diff_verdict")
    assert said["verdict"] == "pruned" and "base's 3 zeros kept" in said["words"] and f"{int(mask.sum())} new zeros" in said["words"]
    assert compared(dense, pruned).one("diff_verdict")["verdict"] == "base pruned", "and the other way round"
    assert found.figures["new_zeros"]().data["new_zero_share"].sum() == pytest.approx(mask.float().mean().item())
    assert "layers.0.up.weight" in found.figures["tiles"]().title


def test_a_pruned_model_that_was_trained_on_is_told_from_a_fine_tuned_one(compared):
    dense = state()
    tuned = {name: value + 0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(9)) for name, value in dense.items()}
    retrained = {name: value * (value.abs() > 0.3) for name, value in tuned.items()}
    said = compared(tuned, dense).one("diff_verdict")
    assert said["verdict"] == "fine-tuned" and "4 of 4 matched tensors changed" in said["words"]
    assert compared(retrained, dense).one("diff_verdict")["verdict"] == "pruned and retrained"
    assert compared(state(7), dense).one("diff_verdict")["verdict"] == "unrelated"


def test_by_hand(compared):
    base = {"w": torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])}
    after = {"w": torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])}
    row = compared(after, base)("tensor_diffs").iloc[0]
    assert (row["n_changed"], row["changed_share"], row["n_new_zero"], row["n_revived"]) == (2, 2 / 6, 1, 1)
    assert row["mask_overlap"] == 2 / 4 and row["mask_chance"] == pytest.approx(0.25 / 0.75)
    assert row["change_norm"] == pytest.approx(20**0.5) and row["relative_change"] == pytest.approx((20 / 26) ** 0.5)
    assert row["cosine"] == pytest.approx(10 / (14 * 26) ** 0.5) and row["norm_ratio"] == pytest.approx((14 / 26) ** 0.5)
    # The difference is [[0, -4], [0, 2], [0, 0]]: one direction.
    assert row["stable_rank"] == pytest.approx(1) and row["effective_rank"] == pytest.approx(1) and row["rank_99"] == 1
    assert row["change_pq_index"] == pytest.approx(1 - ((2 + 2**0.5) / 6) ** 2 / (6 / 6))


def test_the_rows_that_changed_most_come_with_their_share(compared):
    base, after = state(), state()
    after["embed.weight"][7] += 3.0
    after["embed.weight"][31, 0] += 1.0
    rows = compared(after, base, top_rows=5)("changed_rows").sort_values("share_of_change", ascending=False)
    assert rows["row"].tolist() == [7, 31] and rows["changed_share"].tolist() == [1.0, 1 / 8]
    assert rows["share_of_change"].tolist() == pytest.approx([72 / 73, 1 / 73], rel=1e-5)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24)], ids=["tall", "wide"])
@pytest.mark.parametrize("rank", [1, 3])
def test_a_planted_low_rank_change_is_found_with_its_rank_and_a_random_one_is_not(compared, shape, rank):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, _ = torch.linalg.qr(torch.randn(shape[0], rank, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(shape[1], rank, generator=generator, dtype=torch.float64))
    row = compared({"w": base + left @ right.T}, {"w": base})("tensor_diffs").iloc[0]
    assert row["stable_rank"] == pytest.approx(rank, rel=1e-6) and row["effective_rank"] == pytest.approx(rank, rel=1e-3)
    assert row["rank_99"] == rank and row["rank_method"] == "gram"
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    other = compared({"w": base + noise}, {"w": base})("tensor_diffs").iloc[0]
    assert other["stable_rank"] == pytest.approx(stable_rank(singular_values(noise)), rel=1e-6) and other["rank_99"] > rank


def test_beyond_the_limit_singular_values_are_randomised_and_said_so(compared):
    row = compared(state(3), state(), rank_limit=4, n_values=2)("tensor_diffs").set_index("tensor").loc["embed.weight"]
    assert row["rank_method"] == "randomised" and math.isnan(row["effective_rank"]) and row["stable_rank"] > 1


def test_expert_stacks_have_the_mean_rank_of_their_matrices_and_convolutions_are_one_matrix(compared):
    base, after = torch.zeros(2, 6, 5), torch.zeros(2, 6, 5)
    after[0, 0, 0] = 1.0
    after[1, 0, 0] = after[1, 1, 1] = 1.0
    row = compared({"mlp.experts.w": after}, {"mlp.experts.w": base})("tensor_diffs").iloc[0]
    assert row["stable_rank"] == pytest.approx(1.5) and math.isnan(row["relative_change"])
    kernel = torch.zeros(3, 2, 2, 2)
    changed = kernel.clone()
    changed[0, 0, 0, 0] = changed[1, 1, 1, 1] = 1.0
    assert compared({"conv": changed}, {"conv": kernel})("tensor_diffs").iloc[0]["stable_rank"] == pytest.approx(2)


def test_what_is_not_finite_is_counted_and_the_rank_left_out(compared):
    after, base = state(), state()
    after["embed.weight"][0, 0], after["embed.weight"][1, 1] = float("nan"), 9.0
    row = compared(after, base)("tensor_diffs").set_index("tensor").loc["embed.weight"]
    assert (row["n_nonfinite"], row["n_weights"], row["n_changed"]) == (1, 319, 1) and math.isnan(row["stable_rank"])


def test_types_may_differ_and_values_are_compared(compared):
    base = state()
    rows = compared({name: value.to(torch.bfloat16) for name, value in base.items()}, base)("tensor_diffs")
    assert (rows["dtype"] == "bfloat16").all() and (rows["base_dtype"] == "float32").all()
    assert (rows["relative_change"] < 2**-8).all() and (rows["changed_share"] > 0.9).all()


def test_scopes_and_layers_add_up(compared):
    found = compared(subject_from(model(1)), subject_from(model(0)))
    totals = found("diff_totals").set_index("scope")
    rows = found("tensor_diffs")
    assert totals.loc["all weights", "n_changed"] == rows["n_changed"].sum() == totals["n_changed"].iloc[1:].sum()
    assert totals.loc["block matrices", "n_tensors"] == 2 * 7
    layers = found("diff_layers")
    assert layers["n_weights"].sum() == rows[rows["layer"].notna()]["n_weights"].sum()
    for draw in ("change", "most_changed", "rank", "tiles"):
        spec = found.figures[draw]()
        assert len(spec.data) and "against" in spec.sentence
    assert found.provenance["facts"]["base_label"] and "base" in found.provenance["fingerprints"]


# ---------------------------------------------------------------------------------------------------------------------
# Matching


def test_names_behind_another_prefix_are_matched_and_said_how(compared):
    found = compared(state(prefix="module.model."), state(prefix="base."))
    rows = found("tensor_diffs")
    assert (rows["matched"] == "prefix").all() and (rows["n_changed"] == 0).all() and found("unmatched").empty
    assert rows["matched_words"].iloc[0] == "equal names behind the prefixes module.model. and base."
    assert found.one("diff_verdict")["n_by_prefix"] == 4


def test_names_that_share_nothing_are_matched_by_shape(compared):
    after = {f"x{place}": value for place, value in enumerate(state().values())}
    rows = compared(after, state())("tensor_diffs")
    assert (rows["matched"] == "shape").all() and (rows["n_changed"] == 0).all()
    assert set(rows["matched_words"]) == {"the only two of this shape"}


def test_what_cannot_be_matched_is_listed_with_its_reason(compared):
    after, base = state(), state()
    after["embed.weight"] = torch.randn(41, 8)
    after["extra.weight"] = torch.randn(5, 5)
    base["head.one"], base["head.two"] = torch.randn(6, 6), torch.randn(6, 6)
    after["top"] = torch.randn(6, 6)
    found = compared(after, base)("unmatched").set_index("tensor")
    assert found.loc["extra.weight", "reason"] == "no tensor of its name, and none left of its shape"
    assert "its shape is [41, 8] here and [40, 8] there" in found[found["side"] == "model"].loc["embed.weight", "reason"]
    assert found.loc["top", "reason"] == "no tensor of its name, and 2 left of its shape: not clear which"
    assert sorted(found[found["side"] == "base"].index) == ["embed.weight", "head.one", "head.two"]


def test_a_tied_head_is_the_embedding_it_is_tied_to():
    tied, untied = zoo.gpt2()[0], zoo.gpt2()[0]
    untied.lm_head.weight = nn.Parameter(untied.lm_head.weight.detach().clone())
    found = match(list(subject_from(untied).tensors()), list(subject_from(tied).tensors()))
    assert [one.tensor.name for one in found.unmatched] == ["lm_head.weight"]
    assert "tied to transformer.wte.weight, which is matched already" in found.unmatched[0].reason
    assert len(found.pairs) == len(list(subject_from(tied).tensors()))


def test_every_tensor_is_matched_once_or_listed_once():
    one, other = list(subject_from(zoo.llama()[0]).tensors()), list(subject_from(zoo.bert()[0]).tensors())
    found = match(one, other)
    assert sorted([p.after.name for p in found.pairs] + [u.tensor.name for u in found.unmatched if u.side == "model"]) == sorted(
        t.name for t in one
    )
    assert len({p.base.name for p in found.pairs}) == len(found.pairs)


def test_checkpoints_without_a_common_tensor_are_not_compared(compared):
    found = compared({"a": torch.ones(3)}, {"b": torch.ones(4)})
    assert found("tensor_diffs").empty and found.one("diff_verdict")["verdict"] == "not compared"


# ---------------------------------------------------------------------------------------------------------------------
# Adapters


def adapter_folder(tmp_path, a, b, module="model.layers.0.self_attn.q_proj", settings='{"r": 2, "lora_alpha": 6}'):
    folder = tmp_path / "adapter"
    folder.mkdir(exist_ok=True)
    path = f"base_model.model.{module}"
    save_file({f"{path}.lora_A.weight": a, f"{path}.lora_B.weight": b}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(settings)
    return str(folder)


def test_an_adapter_is_what_merging_it_would_change(compared, tiny_llama, tmp_path):
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 16, generator=generator), torch.randn(16, 2, generator=generator)
    found = compared(adapter_folder(tmp_path, a, b), str(tiny_llama))
    row = found("tensor_diffs").iloc[0]
    assert len(found("tensor_diffs")) == 1 and row["base_tensor"] == "model.layers.0.self_attn.q_proj.weight"
    assert row["matched"] == "adapter" and row["matched_words"] == "B A times 6 / 2"
    merged = {"w": load_file(tiny_llama / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].double()}
    base = {"w": merged["w"].clone()}
    merged["w"] = merged["w"] + 3 * b.double() @ a.double()
    other = compared(merged, base)("tensor_diffs").iloc[0]
    for column in ("relative_change", "change_norm", "cosine", "norm_ratio", "stable_rank", "effective_rank", "rank_99"):
        assert row[column] == pytest.approx(other[column], rel=1e-6), column
    assert row["rank_method"] == "factors" and row["rank_99"] <= 2
    said = found.one("diff_verdict")
    assert said["verdict"] == "adapter" and "rank 2 to 1 tensors" in said["words"]


def test_an_adapter_of_a_transposed_or_embedding_matrix_fits(compared, tmp_path):
    base = {"h.0.attn.c_attn.weight": torch.randn(8, 24), "wte.weight": torch.randn(30, 8)}
    a, b = torch.randn(2, 8), torch.randn(24, 2)
    embedding_a, embedding_b = torch.randn(2, 30), torch.randn(8, 2)
    path = "base_model.model.transformer."
    save_file(
        {
            f"{path}h.0.attn.c_attn.lora_A.weight": a, f"{path}h.0.attn.c_attn.lora_B.weight": b,
            f"{path}wte.lora_embedding_A": embedding_a, f"{path}wte.lora_embedding_B": embedding_b,
        },
        tmp_path / "bare.safetensors",
    )  # fmt: skip
    rows = compared(str(tmp_path / "bare.safetensors"), base)("tensor_diffs").set_index("base_tensor")
    assert rows.loc["h.0.attn.c_attn.weight", "change_norm"] == pytest.approx(float((b @ a).norm()), rel=1e-5)
    assert rows.loc["wte.weight", "change_norm"] == pytest.approx(float((embedding_b @ embedding_a).norm()), rel=1e-5)
    assert "scale 1" in rows["matched_words"].iloc[0], "no settings say another"


def test_an_adapter_of_a_matrix_of_several_blocks_is_added_row_by_row(compared, tmp_path):
    generator = torch.Generator().manual_seed(0)
    base, a, b = (torch.randn(shape, generator=generator) for shape in ((900, 100), (2, 100), (900, 2)))
    save_file({"proj.lora_A.weight": a, "proj.lora_B.weight": b}, tmp_path / "bare.safetensors")
    found = compared(str(tmp_path / "bare.safetensors"), {"proj.weight": base}, top_rows=900)
    merged = base.double() + b.double() @ a.double()
    row = found("tensor_diffs").iloc[0]
    assert row["norm_ratio"] == pytest.approx(float(merged.norm() / base.double().norm()), rel=1e-9)
    rows = found("changed_rows").set_index("row").sort_index()
    assert rows["change_norm"].tolist() == pytest.approx((b.double() @ a.double()).norm(dim=1).tolist(), rel=1e-9)


def test_factors_that_fit_nothing_are_listed(compared, tiny_llama, tmp_path):
    found = compared(adapter_folder(tmp_path, torch.ones(2, 9), torch.ones(9, 2)), str(tiny_llama))
    assert "B A is [9, 9] and its base's tensor [16, 16]" in found("unmatched")["reason"].iloc[0]
    gone = compared(adapter_folder(tmp_path, torch.ones(2, 9), torch.ones(9, 2), module="nowhere.proj"), str(tiny_llama))
    assert set(gone("unmatched")["reason"]) == {"its base has no such module"}


def test_an_adapter_as_the_base_is_refused(compared, tiny_llama, tmp_path):
    with pytest.raises(UserError, match="swap the two"):
        compared(str(tiny_llama), adapter_folder(tmp_path, torch.ones(2, 16), torch.ones(16, 2)))


def test_the_scale_is_pefts():
    assert scale_of({"lora_alpha": 16}, "x", 8)[0] == 2
    assert scale_of({"lora_alpha": 16, "use_rslora": True}, "x", 4)[0] == 8
    assert scale_of({"lora_alpha": 16, "alpha_pattern": {"q_proj": 4}}, "layers.0.q_proj", 4)[0] == 1
    assert scale_of(None, "x", 4)[0] == 1
    with pytest.raises(UserError, match="must be a number"):
        scale_of({"lora_alpha": "<b>"}, "x", 4)


# ---------------------------------------------------------------------------------------------------------------------
# As a job


def test_the_base_must_be_named_and_is_part_of_the_key(tmp_path, tiny_llama):
    from analysis.jobs import request
    from analysis.runner import run_key

    with pytest.raises(UserError, match="--with base=REF"):
        request.checked("checkpoint_diff", str(tiny_llama))
    spec = request.checked("checkpoint_diff", str(tiny_llama), inputs={"base": "minilm"})
    one, other = subject_from(model(0)), subject_from(model(1))
    config = CHECKPOINT_DIFF.config()
    assert run_key(CHECKPOINT_DIFF, config, {"model": one, "base": other}) != run_key(
        CHECKPOINT_DIFF, config, {"model": other, "base": one}
    )
    assert spec.inputs == {"base": "minilm"}


def test_a_tensor_larger_than_a_slice_is_compared_piece_by_piece(compared, monkeypatch):
    whole = compared(state(3), state())("tensor_diffs")
    monkeypatch.setattr("analysis.weights.blocks.READ", 120)
    monkeypatch.setattr("analysis.weights.checkpoint_diff_looking.READ", 90)
    pieces = compared(state(3), {**state(), "more": torch.ones(1)})("tensor_diffs")
    for column in ("n_changed", "cosine", "relative_change", "stable_rank", "change_pq_index"):
        assert pieces[column].dropna().tolist() == pytest.approx(whole[column].dropna().tolist(), rel=1e-9), column
