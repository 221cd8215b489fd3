"""A series of checkpoints: the measures of weight_sparsity and weight_spectrum over steps, and the step a structure was planted at."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from analysis.models import open_subject
from analysis.runner import run
from analysis.spec import make_config
from analysis.stats.patterns import mask_of
from analysis.weights.checkpoint_timeline import CHECKPOINT_TIMELINE
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY
from analysis.weights.weight_spectrum import WEIGHT_SPECTRUM
from store import Store

NAMES = ("layers.0.up.weight", "layers.1.up.weight", "layers.2.up.weight", "layers.3.up.weight")
STEPS = (100, 200, 300, 400)


def dense():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(64, 32, generator=generator) for name in NAMES} | {"norm.weight": torch.ones(32)}


def planted():
    """Layer 0 becomes 2:4 at step 300, layer 1 loses blocks of 8 at 200, layer 2 rows at 400; layer 3 stays dense."""
    states = {step: {name: value.clone() for name, value in dense().items()} for step in STEPS}
    for step in (300, 400):
        value = states[step][NAMES[0]]
        value *= torch.as_tensor(mask_of(value.abs().numpy(), 2, 4))
    for step in (200, 300, 400):
        for start in (0, 16):
            states[step][NAMES[1]][start : start + 8, 8:16] = 0.0
    states[400][NAMES[2]][10:20] = 0.0
    return states


@pytest.fixture
def series(tmp_path, own_cache):
    """The sealed run on states by step, its store, and the files."""

    def go(states, **settings):
        folder = tmp_path / "series"
        folder.mkdir()
        for step, state in states.items():
            save_file(state, folder / f"step_{step}.safetensors")
        store = Store(tmp_path / "results")
        info = run(CHECKPOINT_TIMELINE, {"model": open_subject(str(folder))}, make_config(CHECKPOINT_TIMELINE.config, settings), store)
        return store, info, folder

    return go


def test_the_step_at_which_a_matrix_took_each_structure_is_the_planted_one(series):
    store, info, _ = series(planted())
    turned = store.read(info, "timeline_turns", order_by=["step"])
    assert turned[["tensor", "before_step", "step", "before", "structure"]].to_numpy().tolist() == [
        [NAMES[1], 100, 200, "dense", "blocks of 8"],
        [NAMES[0], 200, 300, "dense", "2 of 4 kept"],
        [NAMES[2], 300, 400, "dense", "rows"],
    ]
    kept = store.read(info, "timeline_structures").set_index(["step", "tensor"])["structure"]
    assert [kept[step, NAMES[0]] for step in STEPS] == ["dense", "dense", "2 of 4 kept", "2 of 4 kept"]
    assert {kept[step, "norm.weight"] for step in STEPS} == {"vector"}
    words = store.provenance(info)["facts"]["structure_words"]
    assert words == ("Of 4 matrices 1 became blocks of 8 at step 200; 1 became 2 of 4 kept at step 300; 1 became rows at step 400.")


def test_a_series_that_stays_dense_turns_into_nothing(series):
    store, info, _ = series({step: dense() for step in STEPS})
    assert store.read(info, "timeline_turns").empty
    assert store.provenance(info)["facts"]["structure_words"] == "None of 4 matrices changed its structure."


def test_measures_over_steps_are_those_of_each_checkpoint_alone(series):
    """The same numbers as `weight_sparsity` and `weight_spectrum` of the file give."""
    store, info, folder = series(planted())
    found = store.read(info, "timeline_measures").query("step == 300").set_index(["tensor", "measure", "detail"])["value"]
    subject = open_subject(str(folder / "step_300.safetensors"))
    alone = run(WEIGHT_SPARSITY, {"model": subject}, WEIGHT_SPARSITY.config(), store)
    tensors = store.read(alone, "tensors").set_index("tensor")
    for name in NAMES:
        for measure in ("gini", "hoyer", "kurtosis"):
            assert found[name, measure, "whole"] == tensors.loc[name, measure]
        assert found[name, "mean_abs", "whole"] == tensors.loc[name, "l1"] / 2048
    for row in store.read(alone, "tensor_patterns").to_dict("records"):
        detail = f"{row['pattern']}, {row['along']}"
        assert found[row["tensor"], "conforming_share", detail] == row["conforming_share"]
        assert found[row["tensor"], "retained_energy", detail] == pytest.approx(row["retained_energy"], rel=1e-14)
    for row in store.read(alone, "tensor_blocks").to_dict("records"):
        assert found[row["tensor"], "zero_tile_share", f"side {row['side']}"] == row["zero_tile_share"]
    spectra = store.read(run(WEIGHT_SPECTRUM, {"model": subject}, WEIGHT_SPECTRUM.config(), store), "spectra").set_index("tensor")
    for measure in ("stable_rank", "effective_rank", "numerical_rank", "break_even_error"):
        assert found[NAMES[1], measure, "whole"] == pytest.approx(spectra.loc[NAMES[1], measure], rel=1e-9)


def test_scopes_pool_shares_and_average_what_is_one_number_of_a_tensor(series):
    store, info, _ = series(planted())
    found = store.read(info, "timeline_scope_measures").set_index(["step", "scope", "measure", "detail"])
    assert found.loc[(400, "matrices", "zero_row_share", "whole"), "value"] == 10 / (4 * 64)
    assert found.loc[(400, "matrices", "zero_tile_share", "side 8"), "value"] == 2 / (4 * 32), "rows 10 to 20 fill no tile of 8 x 8"
    assert found.loc[(300, "matrices", "zero_tile_share", "side 8"), "value"] == 2 / 128
    each = store.read(info, "timeline_measures").query("step == 400 and measure == 'gini' and layer.notna()")["value"]
    assert found.loc[(400, "matrices", "gini", "whole"), "value"] == pytest.approx(each.mean(), rel=1e-12)
    assert found.loc[(400, "matrices", "gini", "whole"), "n_tensors"] == 4
    assert found.loc[(400, "all weights", "gini", "whole"), "n_tensors"] == 5
    own = store.read(info, "timeline_measures").query("step == 300 and measure == 'conforming_share' and detail == '2 of 4 kept, input'")
    assert found.loc[(300, "matrices", "conforming_share", "2 of 4 kept, input"), "value"] == pytest.approx(own["value"].mean())


def test_ranks_are_left_out_beyond_the_side_asked_for(series):
    store, info, _ = series({step: dense() for step in STEPS}, rank_side=31)
    assert not store.read(info, "timeline_measures")["measure"].isin(["stable_rank", "outlier_share"]).any()


def test_a_tensor_that_is_not_finite_has_no_groups_and_says_so(series):
    states = {step: dense() for step in STEPS}
    states[200][NAMES[0]][0, 0] = float("nan")
    store, info, _ = series(states)
    own = store.read(info, "timeline_measures").query(f"tensor == '{NAMES[0]}' and step == 200")
    assert not own["measure"].isin(["conforming_share", "zero_tile_share", "stable_rank"]).any() and (own["measure"] == "gini").any()
    turned = store.read(info, "timeline_turns", order_by=["step"])
    assert turned["structure"].tolist() == ["not finite", "dense"]


def test_the_figures_of_structure_and_concentration_say_what_happened(series):
    store, info, _ = series(planted())
    rows, provenance = store.read(info, "timeline_scope_measures"), store.provenance(info)
    drawn = {f.slug: f.draw(rows, provenance) for f in CHECKPOINT_TIMELINE.figures if f.table == "timeline_scope_measures"}
    assert "became 2 of 4 kept at step 300" in drawn["structure"].sentence
    groups = drawn["structure"].data.query("what == 'groups that are 2 of 4'").sort_values("step")["value"].tolist()
    assert groups[0] < 0.25 <= groups[2], "all groups of one of four matrices conform from step 300 on"
    assert set(drawn["concentration"].data["what"]) == {"Gini index", "Hoyer sparsity"}
