"""What may be drawn, what is left out and said, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figures import paper, screen
from figures.palettes import Ink
from figures.prepared import Group, caption, outline, prepare, value_limits
from figures.spec import Axis, FigureError, FigureSpec, Series
from figures.words import distinct, label, number, shorten, tick_labels, visible


def test_no_rows_is_a_sentence_and_never_an_empty_picture(specs, kind):
    empty = replace(specs[kind], data=specs[kind].data.iloc[:0])
    for draw in (screen.to_plotly, paper.to_matplotlib):
        with pytest.raises(FigureError, match="must have at least one row to draw, got 0; "):
            draw(empty)


def test_only_missing_values_is_a_sentence_too(specs, kind):
    spec = specs[kind]
    column = spec.colour.column if kind == "heatmap" else spec.y.column
    with pytest.raises(FigureError, match="at least one value to draw, got none"):
        prepare(replace(spec, data=spec.data.assign(**{column: np.nan})))


def test_a_missing_bar_is_left_out_and_said(specs):
    data = specs["bars"].data.assign(zeros=[0.1, None, 0.3, 0.4])
    spec = replace(specs["bars"], data=data)
    assert [g["y"].tolist() for g in prepare(spec).groups] == [[0.1], [0.3, 0.4]]
    assert caption(spec)[-1] == "1 of 4 values were not available and are left out."


def test_a_zero_on_a_logarithmic_line_is_a_gap_and_said(specs):
    spec = replace(specs["line"], data=specs["line"].data.assign(loss=[0.0, 1.0, 4.0]))
    ys = prepare(spec).groups[0]["y"]
    assert np.isnan(ys[0]) and ys[1:].tolist() == [1.0, 4.0]
    assert caption(spec)[-1] == "1 of 3 values of Loss are 0 or below and cannot be shown on a logarithmic scale."


def test_a_histogram_refuses_to_lose_its_bin_at_zero(specs):
    data = specs["histogram"].data.assign(low=[0.0, 1e-3, 1e-2] * 2)
    with pytest.raises(FigureError, match="Density must be above 0 on a logarithmic axis, got 0; "):
        prepare(replace(specs["histogram"], data=data))


def test_two_rows_for_one_bar_are_refused_because_one_would_hide_the_other(specs):
    for kind in ("bars", "stacked_bars", "histogram", "heatmap"):
        spec = specs[kind]
        with pytest.raises(FigureError, match="got several; aggregate"):
            prepare(replace(spec, data=pd.concat([spec.data, spec.data.iloc[:1]])))


def test_infinity_text_and_unknown_columns_are_refused_by_name(specs):
    spec = specs["line"]
    with pytest.raises(FigureError, match="column loss .* must be finite"):
        prepare(replace(spec, data=spec.data.assign(loss=[1.0, np.inf, 2.0])))
    with pytest.raises(FigureError, match="column loss .* must hold numbers"):
        prepare(replace(spec, data=spec.data.assign(loss=["one", "two", "three"])))
    with pytest.raises(FigureError, match=r"must have the columns \['lss'\], got s, loss, low, high"):
        prepare(replace(spec, y=Axis("lss", "Loss")))
    with pytest.raises(FigureError, match="pieces of stacked bars must be 0 or more, got -1"):
        prepare(replace(specs["stacked_bars"], data=specs["stacked_bars"].data.assign(share=-1.0)))


def test_series_keep_the_declared_order_and_unlisted_ones_follow(specs):
    data = specs["bars"].data.assign(model=["z", "z", "a", "a"])
    names = [g.name for g in prepare(replace(specs["bars"], data=data, series=Series("model", "Model", ("a",)))).groups]
    assert names == ["a", "z"]


def test_the_value_axis_starts_at_zero_and_a_count_of_one_has_height_on_a_logarithmic_one(specs):
    assert value_limits(prepare(specs["stacked_bars"])) == (0.0, 1.0)
    assert value_limits(prepare(specs["bars"])) == pytest.approx((0.0, 0.416))
    assert value_limits(prepare(replace(specs["histogram"], y=Axis("n", "Neurons", scale="log")))) == (0.5, 10.5)


def test_the_outline_of_a_histogram_drops_to_the_floor_between_separate_bins():
    columns = {"row": np.arange(2), "x": np.array([3.0, 0.0]), "x_end": np.array([4.0, 1.0]), "y": np.array([5.0, 2.0])}
    group = Group("", Ink("#000000"), columns)
    xs, ys = outline(group, 0.0)
    assert xs.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert ys.tolist() == [0, 2, 2, 0, 0, 5, 5, 0]


def test_categories_that_read_the_same_stay_two_bars():
    data = pd.DataFrame({"token": ["a\n", "a↵"], "n": [1, 2]})
    spec = FigureSpec("bars", data, Axis("token", "Token", scale="category"), Axis("n", "Count"), "Tokens", "Two tokens.")
    assert prepare(spec).x_labels == ("a↵", "a↵ (2)")
    assert distinct(["a", "a", "a"]) == ("a", "a (2)", "a (3)")


def test_words_make_everything_visible_and_keep_numbers_readable():
    assert visible("a\tb\x1b\u202e\ud800") == "a⇥b\\u001b\\u202e\\ud800"
    assert [label(v) for v in (None, float("nan"), pd.NA, 3, 3.0, 0.123456, True)] == ["(none)"] * 3 + ["3", "3", "0.1235", "yes"]
    assert number(1234567) == "1,234,567" and number(float("nan")) == "not available"
    assert shorten("abcdefghij", 7) == "ab…ghij"


def test_tick_labels_drop_only_what_all_names_share():
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in (3, 14)]
    assert tick_labels(names) == (["3", "14"], "model.layers.*.self_attn.q_proj.weight")
    assert tick_labels(["a.x", "b.x"]) == (["a.x", "b.x"], "")
    assert tick_labels(["same." * 8 + "end"] * 2)[0] == ["end", "end"]
