"""The comparison of a GPU with the processor: what it lets pass, and what it does not."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from analysis import find_analysis
from analysis.spec import make_config
from benchmarks import check_gpu
from benchmarks.check_gpu import CHECKS, Check, compare, deviation


def frame(*values):
    return pd.DataFrame({"value": values})


def test_the_same_numbers_are_off_by_nothing_and_one_other_number_by_its_share_of_the_largest():
    assert deviation(frame(1.0, 200.0), frame(1.0, 200.0), "value") == 0.0
    assert deviation(frame(1.0, 200.0), frame(3.0, 200.0), "value") == pytest.approx(0.01)


def test_rows_or_gaps_that_differ_are_never_within():
    assert deviation(frame(1.0), frame(1.0, 2.0), "value") == float("inf")
    assert deviation(frame(1.0, None), frame(1.0, 2.0), "value") == float("inf")
    assert deviation(frame(None), frame(None), "value") == 0.0


def test_what_is_too_far_off_is_said():
    check = Check("task_loss", "losses", {}, {"value": 1e-3})
    assert not any(line.endswith("NOT WITHIN") for line in compare(check, frame(1.0), frame(1.0005)))
    assert all(line.endswith("NOT WITHIN") for line in compare(check, frame(1.0), frame(1.01)))


def test_every_check_names_columns_and_settings_there_are():
    for check in CHECKS:
        analysis = find_analysis(check.slug)
        assert set(check.tolerance) <= {column.name for column in analysis.table(check.table).columns}, check.slug
        make_config(analysis.config, dict(check.settings))


def test_without_a_gpu_it_is_content(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["check_gpu"])
    assert check_gpu.main() == 0
    assert capsys.readouterr().out.startswith("Skipped: torch sees no CUDA device")
