"""A series of checkpoints: a planted jump is found at its step, a smooth series has none, schedules and phases are what was planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis.models import open_subject
from analysis.runner import Work, run
from analysis.spec import IncompatibleSubject, make_config
from analysis.stats.timeline import cubic
from analysis.weights.checkpoint_timeline import CHECKPOINT_TIMELINE
from analysis.weights.checkpoint_timeline_measuring import quantile
from figures.spec import NothingToDraw
from store import Store

N = 40 * 30
SHAPES = {"layers.0.up.weight": (40, 30), "layers.1.up.weight": (40, 30), "norm.weight": (30,)}


def dense(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def pruned(state, share):
    """The smallest share of the matrices' weights set to zero, each matrix by itself; floor(share n) exactly."""
    made = {}
    for name, value in state.items():
        flat = value.reshape(-1).clone()
        if value.dim() > 1:
            flat[flat.abs().argsort()[: int(share * flat.numel())]] = 0.0
        made[name] = flat.reshape(value.shape)
    return made


@pytest.fixture
def seen(tmp_path, own_cache):
    """Run it on states by step."""
    count = iter(range(100))

    def go(states, **settings):
        folder = tmp_path / f"series {next(count)}"
        folder.mkdir()
        for step, state in states.items():
            save_file(state, folder / f"step_{step}.safetensors")
        store = Store(tmp_path / "results")
        info = run(CHECKPOINT_TIMELINE, {"model": open_subject(str(folder))}, make_config(CHECKPOINT_TIMELINE.config, settings), store)

        def read(table):
            return store.read(info, table)

        read.matrices = store.read(info, "timeline").query("scope == 'matrices'").sort_values("step")
        read.provenance = store.provenance(info)
        read.figures = {f.slug: lambda f=f: f.draw(store.read(info, f.table), store.provenance(info)) for f in CHECKPOINT_TIMELINE.figures}
        return read

    return go


# ---------------------------------------------------------------------------------------------------------------------
# Jumps


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_planted_jump_is_found_at_its_step(seen, at):
    shares = [0.1 + 0.005 * i + (0.4 if i >= at else 0) for i in range(6)]
    found = seen({100 * (i + 1): pruned(dense(), share) for i, share in enumerate(shares)})
    jumps = found("timeline_jumps").set_index("measure")
    row = jumps.loc["zero_share"]
    assert row["is_abrupt"] and (row["before_step"], row["step"]) == (100 * at, 100 * (at + 1))
    assert row["jump"] == pytest.approx(int(shares[at] * N) / N - int(shares[at - 1] * N) / N)
    assert f"between steps {100 * at:,} and {100 * (at + 1):,}" in found.provenance["facts"]["jump_words"]
    assert "Abrupt" in found.figures["sparsity"]().sentence


def test_no_jump_is_reported_on_a_smooth_series(seen):
    steps = range(0, 1001, 100)
    for shares in ([cubic(t, 0, 1000, 0.0, 0.8) for t in steps], [0.3] * 11, [t / 2000 for t in steps]):
        found = seen({t: pruned(dense(), share) for t, share in zip(steps, shares)})
        assert not found("timeline_jumps")["is_abrupt"].any()
        assert found.provenance["facts"]["jump_words"] == "No rise was abrupt."


def test_weights_that_shrink_at_once_are_seen_by_the_one_threshold(seen):
    """Nothing is exactly zero: half of each matrix shrinks a hundredfold at step 40, as METHODS A1 looks for."""
    kept = {name: torch.arange(v.numel()).reshape(v.shape) % 2 == 0 for name, v in dense().items()}

    def shrunk(step):
        return {name: torch.where(kept[name], v, v * (0.01 if step >= 40 else 1.0)) for name, v in dense().items()}

    found = seen({step: shrunk(step) for step in (10, 20, 30, 40, 50, 60)}, level=0.5)
    jumps = found("timeline_jumps").set_index("measure")
    assert jumps.loc["below_share", "is_abrupt"] and jumps.loc["below_share", "step"] == 40 and not jumps.loc["zero_share", "is_abrupt"]
    assert found.matrices["below_share"].iloc[-1] == pytest.approx(0.5, abs=0.001), "the threshold is that of the last checkpoint"


def test_three_checkpoints_are_too_few_to_call_a_rise_abrupt(seen):
    found = seen({i: pruned(dense(), share) for i, share in enumerate((0.0, 0.0, 0.9))})
    assert found("timeline_jumps")["is_abrupt"].isna().all()
    assert "cannot be told from 3 checkpoints" in found.provenance["facts"]["jump_words"]


# ---------------------------------------------------------------------------------------------------------------------
# Schedule and phases


def test_a_series_pruned_by_the_cubic_schedule_deviates_by_rounding_only(seen):
    steps = list(range(0, 1001, 100))
    found = seen({t: pruned(dense(), cubic(t, 200, 1000, 0.0, 0.9)) for t in steps})
    (row,) = found("timeline_schedule").to_dict("records")
    assert (row["begin_step"], row["end_step"], row["n_between"], row["n_revived"]) == (200, 1000, 7, 0)
    assert row["deviation"] <= 1 / N < 0.1 < row["linear_deviation"] and row["final_share"] == 0.9
    assert found.matrices["cubic_share"].tolist() == pytest.approx([cubic(t, 200, 1000, 0.0, 0.9) for t in steps], abs=1e-12)
    drawn = found.figures["schedule"]()
    assert set(drawn.data["what"]) == {"this series", "cubic schedule"} and "off the cubic schedule" in drawn.sentence


def test_zeros_that_come_back_are_counted(seen):
    found = seen({1: pruned(dense(), 0.2), 2: pruned(dense(), 0.1), 3: pruned(dense(), 0.5), 4: pruned(dense(), 0.6)})
    assert found("timeline_schedule")["n_revived"].tolist() == [2 * (240 - 120)]
    assert found("timeline_schedule")[["begin_step", "deviation_step"]].to_numpy().tolist() == [[2, 2]], "0.1 where the schedule has 0.2"
    assert "240 zeros became weights again" in found.provenance["facts"]["schedule_words"]
    assert found.matrices["n_revived"].tolist()[1:] == [240, 0, 0]


def test_pruning_in_one_step_says_that_nothing_between_tells_how(seen):
    found = seen({step: pruned(dense(), share) for step, share in ((1, 0.0), (2, 0.5), (3, 0.5), (4, 0.5))})
    assert "between steps 1 and 2, with no checkpoint between that would tell how" in found.provenance["facts"]["schedule_words"]


def test_a_series_without_pruning_has_no_schedule(seen):
    found = seen({step: dense(step) for step in (1, 2, 3, 4)})
    assert found("timeline_schedule").empty and found("timeline")["cubic_share"].isna().all()
    with pytest.raises(NothingToDraw, match="does not rise"):
        found.figures["schedule"]()


def test_phases_of_the_pq_index_are_those_that_were_planted(seen):
    def powered(exponent):
        return {name: v.sign() * v.abs() ** exponent for name, v in dense().items()}

    found = seen({step: powered(e) for step, e in ((1, 2.0), (2, 1.5), (3, 1.0), (4, 1.5), (5, 2.0))})
    assert found("timeline_phases")[["first_step", "last_step", "direction"]].to_numpy().tolist() == [[1, 3, "falls"], [3, 5, "rises"]]
    assert "falls from step 1 to 3" in found.figures["pq_index"]().sentence
    flat = seen({step: dense() for step in (1, 2, 3, 4)})
    assert flat("timeline_phases")["direction"].tolist() == ["flat"]


def test_the_pq_index_of_kept_weights_leaves_zeros_out(seen):
    ones = {"layers.0.w": torch.ones(10, 10)}
    half = {"layers.0.w": torch.ones(10, 10)}
    half["layers.0.w"][:5] = 0.0
    found = seen({1: ones, 2: half, 3: {"layers.0.w": torch.zeros(10, 10)}})
    assert found.matrices["pq_index"].tolist()[:2] == [0.0, 0.5]  # METHODS A12: [1, 1, 0, 0] has .5
    assert found.matrices["pq_index_kept"].tolist()[:2] == [0.0, 0.0] and found.matrices["pq_index_kept"].isna().tolist()[2]


# ---------------------------------------------------------------------------------------------------------------------
# Levels, changes, thresholds


def test_change_is_from_the_checkpoint_before_and_none_for_the_first(seen):
    states = [dense(), {name: 2 * value for name, value in dense().items()}, dense()]
    found = seen({step: state for step, state in zip((10, 20, 30), states)})
    rows = found.matrices
    assert rows["relative_change"].isna().tolist() == [True, False, False]
    assert rows["relative_change"].tolist()[1:] == pytest.approx([1.0, 0.5])
    assert rows["changed_share"].tolist()[1:] == [1.0, 1.0]
    assert rows["norm"].tolist() == pytest.approx(
        [float(sum((v.double() ** 2).sum() for v in s.values() if v.dim() > 1)) ** 0.5 for s in states]
    )
    drawn = found.figures["change"]()
    assert sorted(set(drawn.data["step"])) == [20, 30] and drawn.data["relative_change"].tolist() == pytest.approx([1, 0.5, 1, 0.5])


def test_identical_checkpoints_do_not_change(seen):
    found = seen({step: dense() for step in (1, 2, 3, 4)})
    rows = found("timeline_tensors").dropna(subset=["changed_share"])
    assert len(rows) == 9 and not rows[["changed_share", "change_norm", "relative_change", "n_new_zero", "n_revived"]].any().any()


def test_a_tensor_that_is_new_or_of_another_shape_has_no_change(seen):
    found = seen({1: {"layers.0.w": torch.ones(2, 2)}, 2: {"layers.0.w": torch.ones(3, 2), "layers.1.w": torch.ones(2, 2)}})
    assert found("timeline_tensors")["changed_share"].isna().all()


def test_what_is_not_finite_is_counted_and_left_out(seen):
    broken = dense()
    broken["layers.0.up.weight"][0, :2] = torch.tensor([float("nan"), float("inf")])
    found = seen({1: dense(), 2: broken})
    assert found.matrices["n_nonfinite"].tolist() == [0, 2]


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_threshold_is_the_quantile_of_all_magnitudes(level, tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = {"a": torch.randn(300, 100, generator=generator), "b": 5 * torch.randn(100, 100, generator=generator)}
    save_file(state, tmp_path / "a.safetensors")
    sizes = torch.cat([value.abs().reshape(-1) for value in state.values()]).double()
    found = quantile(open_subject(str(tmp_path / "a.safetensors")).tensors(), level)
    assert level <= float((sizes < found).double().mean()) < level + 2e-4
    assert found == pytest.approx(float(sizes.quantile(level)), rel=2e-3)


def test_a_series_of_vectors_is_refused(seen):
    with pytest.raises(IncompatibleSubject, match="must hold a matrix"):
        seen({1: {"a": torch.ones(3)}, 2: {"a": torch.ones(3)}})


def test_a_stopped_run_goes_on_at_the_checkpoint_it_was_at(tmp_path, own_cache, monkeypatch):
    folder = tmp_path / "series"
    folder.mkdir()
    for step in (1, 2, 3, 4):
        save_file(pruned(dense(step), step / 10), folder / f"step_{step}.safetensors")
    subject, config = open_subject(str(folder)), CHECKPOINT_TIMELINE.config()
    whole = Store(tmp_path / "whole")
    undisturbed = run(CHECKPOINT_TIMELINE, {"model": subject}, config, whole)
    store, report = Store(tmp_path / "results"), Work.report

    def stop(self, share):
        if self._what == "checkpoints" and self._position == 2 and share > 0.5:
            raise KeyboardInterrupt
        report(self, share)

    monkeypatch.setattr(Work, "report", stop)
    with pytest.raises(KeyboardInterrupt):
        run(CHECKPOINT_TIMELINE, {"model": subject}, config, store)
    monkeypatch.setattr(Work, "report", report)
    info = run(CHECKPOINT_TIMELINE, {"model": subject}, config, store)
    for table in CHECKPOINT_TIMELINE.tables:
        one, other = (s.read(i, table.name, order_by=list(table.key)) for s, i in ((store, info), (whole, undisturbed)))
        assert one.to_json() == other.to_json(), table.name
    assert np.isfinite(store.read(info, "timeline")["norm"]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Alike to the checkpoint before


def test_masks_directions_and_norms_are_compared_with_the_checkpoint_before(seen):
    """By hand, of one matrix: [3, 4, 0, 0], then twice that, then [0, 8, 6, 0]."""
    values = ([3.0, 4, 0, 0], [6.0, 8, 0, 0], [0.0, 8, 6, 0])
    found = seen({i: {"layers.0.up.weight": torch.tensor([row])} for i, row in enumerate(values)})
    of_tensor = found("timeline_tensors").sort_values("step")
    for rows in (of_tensor, found.matrices):
        assert rows[["mask_overlap", "mask_chance", "cosine", "norm_ratio"]].iloc[0].isna().all(), "nothing lies before the first"
        assert rows["mask_overlap"].tolist()[1:] == [1, pytest.approx(1 / 3)]
        assert rows["mask_chance"].tolist()[1:] == pytest.approx([1 / 3, 1 / 3]), "of two masks of a half"
        assert rows["cosine"].tolist()[1:] == pytest.approx([1, 64 / 100])
        assert rows["norm_ratio"].tolist()[1:] == pytest.approx([2, 1])
    drawn = found.figures["likeness"]()
    at = {(row["step"], row["what"]): row["value"] for row in drawn.data.to_dict("records")}
    assert at[2, "mask overlap"] == pytest.approx(1 / 3) and at[1, "norm / norm before"] == 2 and at[2, "cosine"] == pytest.approx(0.64)


def test_checkpoints_of_other_shapes_are_like_nothing(seen):
    found = seen({0: dense(), 1: {name: value[:20] for name, value in dense().items()}})
    assert found.matrices["cosine"].isna().all()
    with pytest.raises(NothingToDraw, match="no matrix of the series has one like it in the checkpoint before"):
        found.figures["likeness"]()


def test_what_a_series_leaves_out_is_said_and_which_matrices_have_no_ranks(seen):
    assert CHECKPOINT_TIMELINE.config().rank_side >= 768, "SmolLM2 is 576 wide, GPT-2 768"
    facts = seen({0: dense(), 1: dense(1)}, rank_side=29).provenance["facts"]
    assert "2 matrices have no ranks and outliers, since their shorter side is above 29" in facts["left_out"]
    assert "factorisations" in facts["left_out"]
    assert "no ranks" not in seen({0: dense(), 1: dense(1)}).provenance["facts"]["left_out"]
