"""What stands beside the planes: times of really smaller models, small pictures layer by layer, and what lowers the loss."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.runner import run
from analysis.sensitivity.curve_figures import FLOOR
from analysis.sensitivity.gain_tables import draw_gain
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from analysis.sensitivity.measured_gain import MEASURED_GAIN, MeasuredGainConfig
from tests.plane_run import learnt, make_plane
from ui.sensitivity import plane_lowers
from ui.sensitivity.plane import costs
from ui.sensitivity.plane_gain import diagonal
from ui.sensitivity.plane_layers import lines_of, runs_of, small_multiples
from ui.sensitivity.plane_lowers import lowered

PAGE = "pages/planes.py"


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def gain(**columns):
    row = {"unit": "neurons", "level": 0.5, "phase": "prefill", "method": "ffn-neurons", "achieved": 0.5, "context": 64, "counted": 0.6,
           "measured": 0.7, "low": 0.65, "high": 0.8, "dense_seconds": 1.0, "smaller_seconds": 0.7, "turns": 3, "parameters": 0.6,
           "difference": 0.0}  # fmt: skip
    return pd.DataFrame([row | columns, row | {"level": 0.25, "counted": 0.8, "measured": 0.85} | columns])


def test_times_are_drawn_over_costs_with_their_interval_and_the_line_of_equal_savings():
    spec = draw_gain("prefill", gain(), {"model_label": "m", "facts": {"machine": "2 threads"}})
    figure = diagonal(spec)
    points = next(trace for trace in figure.data if trace.meta is not None)
    assert list(points.x) == [0.8, 0.6] and list(points.y) == [0.85, 0.7]
    assert list(points.error_y.array) == pytest.approx([-0.05, 0.1]) and list(points.error_y.arrayminus) == pytest.approx([0.2, 0.05])
    line = next(trace for trace in figure.data if trace.name == "time as counted")
    assert list(line.x) == list(line.y) and line.x[0] == 0
    once = diagonal(draw_gain("prefill", gain(low=None, high=None), {"model_label": "m"}))
    assert all(trace.error_y.array is None for trace in once.data), "one turn has no interval"


def test_parts_of_a_layer_are_told_apart_by_role_or_by_number():
    rows = pd.DataFrame({"tensor": ["a", "a", "b", "c"], "layer": [0, 0, 0, 1], "role": ["x", "x", "x", "x"]})
    assert lines_of(rows, "head")["line"].tolist() == ["head 0", "head 0", "head 1", "head 0"]
    assert lines_of(rows, "sublayer")["line"].tolist() == ["x"] * 4


def test_every_layer_has_a_picture_on_the_same_axes_and_lowered_losses_lie_at_the_floor():
    rows = pd.DataFrame([
        {"tensor": f"{layer}.{role}", "layer": layer, "role": role, "level": level, "delta": delta, "low": np.nan, "high": np.nan}
        for layer in range(8) for role in ("attn", "mlp") for level, delta in ((0.5, 0.02), (1.0, -0.3))
    ])  # fmt: skip
    figure = small_multiples(rows, "sublayer")
    assert len(figure.data) == 16 and {trace.name for trace in figure.data if trace.showlegend} == {"attn", "mlp"}
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    assert list(figure.data[0].y) == [FLOOR, 0.02, FLOOR] and list(figure.data[0].x) == [0, 0.5, 1]
    assert "-0.3" in figure.data[0].text[2], "the value itself is told"
    assert len({tuple(figure.layout[f"yaxis{i or ''}"].range) for i in ("", 2, 8)}) == 1
    assert [one.text for one in figure.layout.annotations[:8]] == [f"layer {i}" for i in range(8)]


def test_what_lowers_the_loss_is_listed_once_and_only_where_its_interval_lies_below_0(monkeypatch):
    rows = pd.DataFrame({
        "method": ["a", "a", "b", "c"], "seed": 0, "level": [0.3, 0.3, 0.3, 0.0], "achieved": 0.3, "delta": [-0.2, -0.2, -0.1, -9.0],
        "low": -1.0, "high": [-0.1, -0.1, 0.1, -8.0], "choice_delta": -0.05,
    })  # fmt: skip
    parts = pd.DataFrame({"tensor": ["h", "h", "i"], "level": [0.5, 1.0, 1.0], "delta": [-0.1, -0.4, -0.3], "low": -0.5,
                          "high": [-0.01, -0.02, np.nan]})  # fmt: skip
    monkeypatch.setattr(plane_lowers, "runs_of", lambda weights: {"head": None})
    monkeypatch.setattr(plane_lowers, "weights_of", lambda run: "w")
    monkeypatch.setattr(plane_lowers.data, "rows", lambda run, table, where: parts)
    found, tried = lowered(None, rows)
    assert [(row["what"], row["share"], row["delta"], row["again"]) for row in found] == [("h", 1.0, -0.4, None), ("a", 0.3, -0.2, -0.05)]
    assert tried == 2 + 3


def test_without_runs_beside_it_the_page_says_how_to_measure_them(store, open_page):
    make_plane(store, interventions="magnitude")
    text = words_of(open_page(PAGE))
    assert "run measured_gain" in text and "Costs above are counted, not timed" in text
    assert "run matrix_sensitivity" in text and "--units 'heads, ffn, sublayers, blocks'" in text
    assert "What lowers the loss" in text


def test_times_and_layers_of_the_same_weights_stand_on_the_page(store, open_page):
    plane = make_plane(store, interventions="magnitude")
    subject = learnt()
    run(MEASURED_GAIN, {"model": subject}, MeasuredGainConfig(units="neurons, blocks", levels="0.5", repeats=2, n_tokens=16), store)
    units = MatrixSensitivityConfig(units="heads, blocks", proxies="none", group_levels="1", refine=0)
    run(MATRIX_SENSITIVITY, {"model": subject}, units, store)
    at = open_page(PAGE)
    text = words_of(at)
    assert "run measured_gain" not in text and "the machine saves less than the count says" in text
    assert "**Prefill, B = 1, at 16 positions**" in text and "**Decode, B = 1, at 16 positions**" in text
    assert "of one of the 2 blocks removed, in 2 layers" in text
    assert "heads removed" not in text
    assert re.search(r"of one of the \d heads removed, in 2 layers", words_of(open_page(PAGE, run=plane.id, layers_of="heads")))
    assert set(runs_of(plane.provenance["fingerprints"]["model"]["weights"])) == {"block", "head"} and len(costs(plane))
