"""Two data sets in one run, and draws: a classifier of digits asked about the classes it should keep and those it should forget."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.interventions.pruning import HeldPruning
from analysis.jobs.request import checked
from analysis.models import GivenBatches, subject_from
from analysis.runner import run, run_key
from analysis.second_data import SECOND, second_of
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.sensitivity.study import Study, calibration_for, half_of
from analysis.spec import UserError
from store import Store
from tests.sensitivity_run import all_digits, digits_classifier, trained_digits

TABLES = ("curve_points", "point_losses", "drop_points", "pruned_where", "scope_tensors")


def batches(classes, n=400):
    x, y = all_digits()
    some = torch.isin(y, torch.tensor(classes)).nonzero()[:n, 0]
    return GivenBatches(list(x[some].split(100)), labels=y[some].numpy(), name=f"classes {classes[0]} to {classes[-1]}")


KEEP, FORGET = list(range(7)), [7, 8, 9]


def subject(classes):
    return subject_from(digits_classifier(trained_digits()[0]), data=batches(classes))


def sealed(folder, *, first=KEEP, second=None, progress=None, **settings):
    store, given = Store(folder), subject(first)
    inputs = {"model": given} | ({} if second is None else {SECOND: second_of(given, batches(second))})
    config = EssentialSparsityConfig(**{"kl_positions": 0, "eps": "0.05, 0.2, 0.5", **settings})
    return store, run(ESSENTIAL_SPARSITY, inputs, config, store, progress=progress)


def test_numbers_of_the_first_data_are_the_same_with_and_without_second_data(tmp_path):
    store, alone = sealed(tmp_path)
    _, both = sealed(tmp_path, second=FORGET)
    for table in TABLES:
        rows = store.read(both, table)
        rows = rows[rows["data"] == "first"].reset_index(drop=True) if "data" in rows else rows
        assert rows.equals(store.read(alone, table)), table


def test_numbers_of_the_second_data_are_those_of_a_run_on_them_alone(tmp_path):
    settings = {"levels": "0.3, 0.6, 0.8", "methods": "magnitude, random"}
    store, both = sealed(tmp_path, second=FORGET, **settings)
    _, alone = sealed(tmp_path, first=FORGET, **settings)
    key = ["method", "metric", "level"]
    mine = store.read(both, "curve_points").query("data == 'second'").set_index(key)
    theirs = store.read(alone, "curve_points").set_index(key)
    columns = ["value", "delta", "achieved", "n", "cost_flops"]
    assert len(mine) == len(theirs) and mine[columns].equals(theirs.loc[mine.index, columns])
    assert not mine["low"].equals(theirs.loc[mine.index, "low"]), "draws of the second data are their own"


def test_each_level_is_applied_once_and_the_second_data_may_ask_for_more(tmp_path, monkeypatch):
    asked = []
    at = HeldPruning.at
    monkeypatch.setattr(HeldPruning, "at", lambda self, level: (asked.append(level), at(self, level))[1])
    store, info = sealed(tmp_path, second=FORGET)
    levels = store.read(info, "curve_points").query("metric == 'loss'").groupby("data")["level"].apply(set)
    assert len(asked) == len(set(asked)) and set(asked) == levels["second"] > levels["first"]
    drops = store.read(info, "drop_points").query("metric == 'loss' and answer == 'reached'")
    assert set(drops["data"]) == {"first", "second"} and (drops["above"] - drops["below"] <= 0.0125 + 1e-9).all()


def test_the_difference_between_data_has_an_interval_and_is_not_paired(tmp_path):
    store, info = sealed(tmp_path, second=FORGET, methods="magnitude, random", levels="0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8")
    rows, drops = store.read(info, "drop_differences"), store.read(info, "drop_points").query("is_headline")
    across = rows[~rows["is_paired"]].set_index("one")
    assert across["other"].tolist() == ["magnitude, global, second data", "random, global, seed 0, second data"]
    levels = drops[drops["method"] == "magnitude"].set_index("data")["level"]
    row = across.loc["magnitude, global"]
    assert row["low"] <= levels["first"] - levels["second"] <= row["high"] and row["low"] < row["high"]
    assert across[["one_rank_low", "other_rank_high"]].isna().all(axis=None)
    within = rows[rows["is_paired"]]
    assert len(within) == 2 and set(within["one_rank_high"].dropna()) <= {1, 2}


def test_the_same_data_twice_differ_by_nothing_but_noise(tmp_path):
    """Drawn independently: a paired difference would be 0 in every draw."""
    store, info = sealed(tmp_path, second=KEEP)
    row = store.read(info, "drop_differences").iloc[0]
    assert row["low"] < 0 < row["high"] and not row["is_paired"]


def test_a_stopped_run_of_two_data_repeats_no_level_and_ends_the_same(tmp_path):
    def stop_at(n):
        def stop(progress):
            if progress.what == "measuring levels" and progress.done > n:
                raise KeyboardInterrupt

        return stop

    whole_store, whole = sealed(tmp_path / "whole", second=FORGET, kl_positions=50)
    n_first, n_all = (
        len(whole_store.read(whole, "curve_points").query(f"metric == 'loss' and data == '{name}'")) for name in ("first", "second")
    )
    assert n_first < n_all
    for n in (5, n_first + 1.5):
        with pytest.raises(KeyboardInterrupt):
            sealed(tmp_path / "stopped", second=FORGET, kl_positions=50, progress=stop_at(n))
    store, stopped = sealed(tmp_path / "stopped", second=FORGET, kl_positions=50)
    for table in (*TABLES, "drop_differences"):
        assert store.read(stopped, table).equals(whole_store.read(whole, table)), table


def test_progress_within_a_level_of_two_data_only_grows(tmp_path):
    seen = []
    sealed(tmp_path, second=FORGET, levels="0.5", progress=lambda p: seen.append((p.what, p.done)))
    done = [done for what, done in seen if what == "measuring levels"]
    assert done == sorted(done)


def test_the_run_key_holds_the_second_data():
    given, config = subject(KEEP), EssentialSparsityConfig()
    keys = [run_key(ESSENTIAL_SPARSITY, config, {"model": given})]
    keys += [run_key(ESSENTIAL_SPARSITY, config, {"model": given, SECOND: second_of(given, batches(c))}) for c in (KEEP, FORGET)]
    assert len(set(keys)) == 3


def test_a_request_files_the_second_data_by_its_full_path_and_refuses_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("Some text.")
    spec = checked("essential_sparsity", "smollm2", config={SECOND: "other.txt"})
    assert spec.config[SECOND] == str(tmp_path / "other.txt")
    with pytest.raises(UserError, match=r"nothing\.txt"):
        checked("essential_sparsity", "smollm2", config={SECOND: "nothing.txt"})


def test_the_form_opens_no_second_data_outside_of_the_allowed_folders(tmp_path, monkeypatch):
    from analysis import find_analysis
    from ui import forms

    refused = []
    monkeypatch.setattr(forms, "check_reference", lambda *_: None)
    monkeypatch.setattr(forms, "check_data", lambda text: refused.append(text) or text)
    monkeypatch.setattr(forms.data, "store", lambda: None)
    (tmp_path / "secret.txt").write_text("Some text.")
    forms.checked(find_analysis("essential_sparsity"), "smollm2", forms.Filled(settings={SECOND: str(tmp_path / "secret.txt")}))
    assert refused == [str(tmp_path / "secret.txt")]


def test_data_that_are_asked_something_else_are_refused(tmp_path):
    given = subject(KEEP)
    unlabelled = second_of(given, GivenBatches([all_digits()[0][:200]]))
    with pytest.raises(UserError, match="must be asked the same as the data, classification"):
        run(ESSENTIAL_SPARSITY, {"model": given, SECOND: unlabelled}, EssentialSparsityConfig(), Store(tmp_path))
    with pytest.raises(UserError, match="must come opened"):
        run(ESSENTIAL_SPARSITY, {"model": given}, EssentialSparsityConfig(second_data="other.txt"), Store(tmp_path))


def test_two_curves_stand_in_one_picture_that_names_both_data(tmp_path):
    from figures.screen import to_plotly

    store, info = sealed(tmp_path, second=FORGET, levels="0.3, 0.6, 0.8")
    spec = ESSENTIAL_SPARSITY.figure("curve").draw(store.read(info, "curve_points"), store.provenance(info))
    curves = {name for name in spec.data["series"] if not name.startswith("s*")}
    assert curves == {"magnitude, global", "magnitude, global, second data"} and to_plotly(spec).data
    assert "200 documents (report of classes 0 to 6) and " in spec.sentence and "of classes 7 to 9, the second data)" in spec.sentence
    facts = store.provenance(info)["facts"][SECOND]
    assert facts["name"] == "classes 7 to 9" and facts["noise_floor"] == 0 and facts["n_documents_measured"] == 200


# ----------------------------------------------------------------------------------------------------------------- draws


def test_calibrated_methods_have_a_curve_for_each_draw_and_the_spread_of_their_drop_points(tmp_path):
    store, info = sealed(tmp_path, methods="magnitude, wanda", draws=3)
    drops = store.read(info, "drop_points").query("is_headline").set_index(["method", "seed"])
    assert drops.index.tolist() == [("magnitude", 0), ("wanda", 0), ("wanda", 1), ("wanda", 2)]
    wanda = drops.loc["wanda"]
    levels = wanda["level"].to_numpy()
    assert len(set(levels)) == 3 and (wanda["n_draws"] == 3).all()
    assert wanda["draws_sd"].tolist() == pytest.approx([np.sqrt(((levels - levels.mean()) ** 2).sum() / 2)] * 3)
    assert (wanda["draws_low"] == levels.min()).all() and (wanda["draws_high"] == levels.max()).all()
    assert "a headline needs at least 5" in wanda["note"].iloc[0] and "over 3 draws" in wanda["draws_words"].iloc[0]
    assert drops.loc[("magnitude", 0), ["n_draws", "draws_sd", "draws_words", "note"]].isna().all()
    labels = store.read(info, "drop_differences")["other"]
    assert "wanda, per row" in set(labels) and "wanda, per row, seed 2" in set(labels)


def test_one_draw_of_a_calibrated_method_is_called_one(tmp_path):
    store, info = sealed(tmp_path, methods="wanda", levels="0.3, 0.6, 0.8")
    row = store.read(info, "drop_points").query("is_headline").iloc[0]
    assert row["n_draws"] == 1 and "is not known; a headline needs at least 5" in row["note"]
    assert "a headline needs at least 5" in ESSENTIAL_SPARSITY.headlines(info.summaries)[0].over


def test_a_draw_is_a_half_of_the_calibration_documents_and_the_whole_where_there_is_one():
    given = subject(KEEP)
    whole = Study.of(EssentialSparsityConfig(methods="wanda"), given)
    assert calibration_for(whole, whole.interventions[0]).facts["n_documents"] == 100
    study = Study.of(EssentialSparsityConfig(methods="wanda", draws=2), given)
    assert [calibration_for(study, one).facts["n_documents"] for one in study.interventions] == [50, 50]
    report = set(study.task.data.document.tolist())
    from analysis.tasks import choose_task

    calibration = choose_task(given, split="calibration", seed=0)
    halves = [half_of(calibration, seed).data.document.tolist() for seed in (0, 1, 0)]
    assert halves[0] == halves[2] != halves[1] and len(set(halves[0])) == 50 and not set(halves[0]) & report
    assert (half_of(calibration, 0).examples == np.array(halves[0])).all(), "examples go with their documents"
    with pytest.raises(UserError, match="at least 2 calibration documents"):
        half_of(SimpleNamespace(data=SimpleNamespace(document=np.zeros(9, np.int64))), 0)
