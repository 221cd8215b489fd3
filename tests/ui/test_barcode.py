"""The bar code of a model: every layer and row once, honest scales, and the same in words."""

import re
from xml.etree import ElementTree

import pytest

from analysis import ANALYSES
from analysis.spec import Stripe
from figures.palettes import colour_at
from tests.ui.test_headlines import Run, layer
from ui.barcode import bar_code, legend_rows, legend_svg, place

LINEAR = Stripe("a", "a", 0.0, 0.5, lambda summaries: {})
LOG = Stripe("b", "b", 0.01, 1.0, lambda summaries: {}, log=True)


def activity(*densities):
    return Run("neuron_activity", summaries={"layers": [layer(10, d, 0, 0, layer=i) for i, d in enumerate(densities)]})


@pytest.mark.parametrize(
    ("stripe", "value", "at"),
    [(LINEAR, 0, 0), (LINEAR, 0.25, 0.5), (LINEAR, 0.9, 1), (LOG, 0, 0), (LOG, 0.001, 0), (LOG, 0.1, 0.5), (LOG, 1, 1)],
)
def test_a_value_lies_where_its_scale_says_and_never_beyond_its_ends(stripe, value, at):
    assert place(stripe, value) == pytest.approx(at)


def test_every_layer_is_a_bar_as_tall_as_its_value_against_the_highest():
    picture = bar_code([activity(0.1, 0.2, 0.4)])
    root = ElementTree.fromstring(picture.svg)
    row = root.findall("{http://www.w3.org/2000/svg}svg")[0]
    _, *bars = row.findall("{http://www.w3.org/2000/svg}rect")
    tall = [float(bar.get("height")) for bar in bars]
    assert len(bars) == 3
    assert tall[2] == 1
    assert (tall[1] - tall[0]) / (tall[2] - tall[1]) == pytest.approx(0.5, abs=0.01)
    assert bars[0].get("fill") == colour_at(0.1)
    assert "Bar code over 3 layers" in picture.words
    assert "Active neurons 10.0 % to 40.0 %" in picture.words


def test_a_model_without_numbers_per_layer_has_no_bar_code():
    assert bar_code([]) is None
    assert bar_code([Run("never_heard_of"), Run("weight_sparsity")]) is None


def test_the_legend_explains_every_row_there_can_be():
    told = dict(legend_rows(ANALYSES))
    assert set(told) == {stripe.label for analysis in ANALYSES for stripe in analysis.stripes}
    assert "logarithmic scale from 0.01 % or less to 100.0 %" in told["Near-zero weights"]


def test_no_picture_holds_anything_that_could_run_or_call_home():
    for svg in (legend_svg(), bar_code([activity(0.1)]).svg):
        assert not re.search(r"script|href|url\(h|foreignObject|onload", svg)
        ElementTree.fromstring(svg)
