"""allocation: chosen on one split, measured on the other, beside others; and its model, opened again in plain transformers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from analysis.__main__ import main
from analysis.given_run import given_run
from analysis.interventions.pruning import WeightPruning
from analysis.models import subject_from
from analysis.runner import run, run_key
from analysis.sensitivity.allocation import ALLOCATION, AllocationConfig
from analysis.sensitivity.exporting import export_masks, export_model
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from analysis.spec import UnknownName, UserError
from analysis.tasks import choose_task
from store import Store
from tests import zoo
from tests.sensitivity.planted import USELESS, planted


def grid(store, subject, **settings):
    settings = {"levels": "0.3, 0.5, 0.7, 0.9, 1", "stack": 5, "proxies": "none", "split": "choice", **settings}
    return run(MATRIX_SENSITIVITY, {"model": subject}, MatrixSensitivityConfig(**settings), store)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("allocation"))
    subject = planted()
    given = given_run(store, grid(store, subject).id)
    return store, given, run(ALLOCATION, {"model": subject, "run": given}, AllocationConfig(levels="0.3, 0.5, 0.7"), store)


def test_the_useless_block_goes_first(found):
    store, _, info = found
    shares = store.read(info, "allocation").set_index(["level", "tensor"])["share"]
    assert (shares.loc[0.5][[f"blocks.{USELESS}.up.weight", f"blocks.{USELESS}.down.weight"]] == 1).all()
    weights = store.read(info, "allocation").set_index(["level", "tensor"])["n_weights"]
    for level in (0.3, 0.5, 0.7):
        assert (shares.loc[level] * weights.loc[level]).sum() / weights.loc[level].sum() == pytest.approx(level)


def test_on_both_splits_it_is_better_than_uniform_where_there_is_something_useless(found):
    store, given, info = found
    outcomes = store.read(info, "allocation_outcomes").set_index(["level", "other"])
    assert set(outcomes["split"]) == {"report"}, "the grid was measured on choice"
    for level in (0.5, 0.7):
        assert outcomes.loc[(level, "uniform"), "words"] == "the allocation is better"
        assert outcomes.loc[(level, "erk"), "difference"] < 0
    subject = planted()
    task = choose_task(subject, split="choice", seed=0)
    from analysis.sensitivity.allocating import interventions

    named = interventions("uniform", "mean", subject, given)
    for level in (0.3, 0.5, 0.7):
        losses = {}
        for name, pruning in named.items():
            with pruning.apply(subject, level) as applied:
                assert applied.achieved == pytest.approx(level, abs=0.25), "the useless block's zeros are there before"
                losses[name] = task.losses(subject.model).total.sum()
        assert losses["allocated"] <= losses["uniform"] + 1e-6


def test_outcomes_are_the_paired_differences_of_the_points(found):
    store, _, info = found
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index(["method", "scope", "level"])["value"]
    outcomes = store.read(info, "allocation_outcomes").set_index(["level", "other"])["difference"]
    ours = points.loc[("magnitude allocated", "per_matrix", 0.5)]
    assert outcomes.loc[(0.5, "uniform")] == pytest.approx(ours - points.loc[("magnitude", "per_matrix", 0.5)], abs=1e-9)
    assert outcomes.loc[(0.5, "global")] == pytest.approx(ours - points.loc[("magnitude", "global", 0.5)], abs=1e-9)
    assert outcomes.loc[(0.5, "dense")] == pytest.approx(ours - points.loc[("magnitude", "per_matrix", 0.0)], abs=1e-9)


def test_all_figures_draw_and_name_the_split(found):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store, _, info = found
    for figure in ALLOCATION.figures:
        spec = figure.draw(store.read(info, figure.table), store.provenance(info))
        assert to_plotly(spec).data and to_matplotlib(spec).axes
    assert "report of" in spec.sentence


def test_a_grid_of_the_report_split_is_measured_on_the_choice_split(tmp_path):
    store, subject = Store(tmp_path), planted(400)
    given = given_run(store, grid(store, subject, split="report").id)
    info = run(ALLOCATION, {"model": subject, "run": given}, AllocationConfig(levels="0.5", others="uniform"), store)
    assert set(store.read(info, "curve_points")["split"]) == {"choice"}


def test_the_run_is_part_of_the_key_and_a_stopped_allocation_goes_on(found, tmp_path):
    store, given, info = found
    subject, config = planted(), AllocationConfig(levels="0.3, 0.5, 0.7")
    assert store.provenance(info)["fingerprints"]["run"] == {"run": given.id}
    from dataclasses import replace

    keys = {run_key(ALLOCATION, config, {"model": subject, "run": one}) for one in (given, replace(given, id="another"))}
    assert len(keys) == 2

    def stop(progress):
        if progress.what == "measuring levels" and progress.done >= 5:
            raise KeyboardInterrupt

    other = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(ALLOCATION, {"model": subject, "run": given}, config, other, progress=stop)
    again = run(ALLOCATION, {"model": planted(), "run": given}, config, other)
    for table in ("curve_points", "allocation_outcomes", "allocation"):
        assert other.read(again, table).equals(store.read(info, table)), table


def test_refusals_say_what_to_give(found, tmp_path):
    store, given, info = found
    subject = planted()

    def ask(run_given=given, of=subject, **settings):
        return run(ALLOCATION, {"model": of, "run": run_given}, AllocationConfig(**settings), Store(tmp_path))

    with pytest.raises(UserError, match="the run must be one of matrix_sensitivity"):
        ask(given_run(store, info.id))
    with pytest.raises(UserError, match="seed must be that of the run"):
        ask(seed=3)
    with pytest.raises(UserError, match="the data must be those of the run"):
        ask(of=planted(400))
    with pytest.raises(UnknownName, match="others must be of"):
        ask(others="best")
    other = planted()
    other.model.head.weight.data.mul_(2)
    with pytest.raises(UserError, match="same weights"):
        ask(of=subject_from(other.model, data=other.data))
    with pytest.raises(UserError, match="needs the input 'run'"):
        run(ALLOCATION, {"model": subject}, AllocationConfig(), Store(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Taking it out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny LLaMA on disk, as transformers writes it, with a text beside it."""
    folder = tmp_path_factory.mktemp("llama")
    model, _ = zoo.llama()
    for p in model.parameters():
        p.data.mul_(4.0 if p.dim() > 1 else 1.0)
    model.save_pretrained(folder / "model")
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(3, 60, (64, 8)))
    return folder


def loss_of(model, ids):
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


def test_an_exported_model_opens_in_plain_transformers_with_the_same_loss(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    from analysis.models import open_subject
    from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig

    store = Store(tmp_path / "store")
    subject = open_subject(str(folder / "model"), str(folder / "ids.npy"))
    info = run(ESSENTIAL_SPARSITY, {"model": subject}, EssentialSparsityConfig(levels="0.5", task="divergence"), store)
    subject = open_subject(str(folder / "model"), str(folder / "ids.npy"))
    settings = MatrixSensitivityConfig(proxies="none", task="divergence", split="choice")
    given = given_run(store, run(MATRIX_SENSITIVITY, {"model": subject}, settings, store).id)
    allocated = run(ALLOCATION, {"model": subject, "run": given}, AllocationConfig(levels="0.5", others="uniform"), store)
    ids = torch.from_numpy(np.load(folder / "ids.npy"))
    for one in (info, allocated):
        made = export_model(store, one.id, 0.5, tmp_path / one.slug)
        masks = export_masks(store, one.id, 0.5, tmp_path / f"{one.slug}.safetensors")
        opened = AutoModelForCausalLM.from_pretrained(made)
        card = json.loads((made / "sparsescope.json").read_text())
        assert card["run"] == one.id and card["level"] == 0.5
        from safetensors.torch import load_file

        kept = load_file(masks)
        n, zeros = sum(mask.numel() for mask in kept.values()), sum(int((~mask).sum()) for mask in kept.values())
        assert zeros / n == pytest.approx(card["achieved"]) and card["achieved"] == pytest.approx(0.5, abs=5e-3)
        dense = open_subject(str(folder / "model")).model
        before = loss_of(dense, ids)
        for name, mask in kept.items():
            dense.get_parameter(name).data.mul_(mask)
        assert loss_of(opened, ids) == pytest.approx(loss_of(dense, ids), abs=1e-6) != pytest.approx(before, abs=1e-4)
        with pytest.raises(UserError, match="must be new"):
            export_model(store, one.id, 0.5, made)
    with pytest.raises(UserError, match="must be of essential_sparsity or allocation"):
        export_masks(store, given.id, 0.5, tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="curve must be one of the run's"):
        export_masks(store, info.id, 0.5, tmp_path / "no.safetensors", curve="wanda")


def test_the_command_line_takes_a_run_as_input_and_exports(folder, tmp_path, capsys):
    def here(*words):
        code = main([*words, "--store", str(tmp_path)])
        out, err = capsys.readouterr()
        return code, out.strip().splitlines(), err

    def elsewhere(*words):
        """In a process of its own, which costs seconds: once is enough to see that nothing but the store links the calls."""
        done = subprocess.run(
            [sys.executable, "-m", "analysis", *words, "--store", str(tmp_path)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip().splitlines(), done.stderr

    data = ["--model", str(folder / "model"), "--data", str(folder / "ids.npy"), "--now"]
    code, out, err = here(
        "run", "matrix_sensitivity", *data, "--split", "choice", "--proxies", "none", "--levels", "0.5, 0.9", "--task", "divergence"
    )
    assert code == 0, err
    one = out[-1].rpartition("/")[2].removesuffix(".duckdb")
    code, out, err = elsewhere("run", "allocation", *data, "--with", f"run={one}", "--levels", "0.4", "--others", "uniform")
    assert code == 0, err
    two = out[-1].rpartition("/")[2].removesuffix(".duckdb")
    code, out, err = here("export-masks", two, "--level", "0.4", "--to", str(tmp_path / "masks.safetensors"))
    assert code == 0 and out[-1].endswith("masks.safetensors"), err
    code, _, err = here("run", "allocation", *data, "--with", "run=nothing")
    assert code == 2 and "fits none" in err


def test_uniform_pruning_of_a_scope_without_a_curve_keeps_it_dense():
    from analysis.interventions.ratios.allocated import Allocated

    subject = planted()
    curve = {"blocks.2.up.weight": (np.array([0.0, 1.0]), np.array([0.0, 0.1]))}
    with WeightPruning(scope="per_matrix", ratio=Allocated(curve, "x")).on(subject) as held:
        applied = held.at(0.1)
    zero = {count.name: count.n_zero - count.n_already_zero for count in applied.counts}
    assert {name for name, n in zero.items() if n} == {"blocks.2.up.weight"}
