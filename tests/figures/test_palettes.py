"""The promises the palettes make: order in grey, visible on light and dark, distinct without red-green or blue-yellow vision."""

import itertools

import numpy as np
import pytest

from figures.palettes import ACTIVITY, QUALITATIVE, SEQUENTIAL, colour_at, inks, lightness, luminance, rgb
from figures.spec import FigureError

# Viénot, Brettel and Mollon 1999 for the red-green cases, as matrices on linear RGB; the third is Machado 2009 at severity 1.
SIGHTS = {
    "usual": np.eye(3),
    "protan": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deutan": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def _linear(colour):
    c = np.array(rgb(colour)) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(linear, 0, 1)
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_lightness_of_black_white_and_middle_grey():
    assert lightness("#000000") == pytest.approx(0, abs=1e-9)
    assert lightness("#ffffff") == pytest.approx(100)
    assert lightness("#777777") == pytest.approx(50.03, abs=0.05)


def test_activity_classes_get_lighter_in_order_so_a_grey_print_keeps_them_apart():
    steps = np.diff([lightness(ink.colour) for ink in ACTIVITY.values()])
    assert list(ACTIVITY) == ["dead", "rare", "undecided", "normal", "dense"]
    assert (steps > 7).all()


@pytest.mark.parametrize("sight", SIGHTS)
def test_activity_classes_differ_for_every_kind_of_colour_vision(sight):
    seen = {name: _lab(SIGHTS[sight] @ _linear(ink.colour)) for name, ink in ACTIVITY.items()}
    closest = min((np.linalg.norm(seen[a] - seen[b]), a, b) for a, b in itertools.combinations(seen, 2))
    assert closest[0] > 15, closest


@pytest.mark.parametrize("sight", ["protan", "deutan"])
def test_the_first_six_qualitative_colours_differ_without_red_green_vision(sight):
    seen = [_lab(SIGHTS[sight] @ _linear(c)) for c in QUALITATIVE[:6]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 9


def test_the_darkest_class_shows_on_a_dark_page_and_only_undecided_is_hatched_grey():
    assert _contrast(ACTIVITY["dead"].colour, "#0e1117") >= 3
    assert [name for name, ink in ACTIVITY.items() if ink.hatched] == ["undecided"]
    assert len(set(rgb(ACTIVITY["undecided"].colour))) == 1


def test_the_sequential_scale_only_gets_lighter_and_hits_its_anchors():
    assert (np.diff([lightness(c) for c in SEQUENTIAL]) > 0).all()
    assert [colour_at(i / 9) for i in range(10)] == list(SEQUENTIAL)
    assert colour_at(0.5 / 9) == "#092c5f"  # half way from (0, 34, 78) to (18, 53, 112): (9, 43.5, 95)


def test_sixteen_series_all_look_different():
    assert len(set(inks("qualitative", [str(i) for i in range(16)]))) == 16


def test_unknown_palettes_and_classes_are_refused_with_the_known_ones():
    with pytest.raises(FigureError, match="qualitative, activity, sequential, got 'jet'"):
        inks("jet", ["a"])
    with pytest.raises(FigureError, match="dead, rare, undecided, normal, dense, got 'alive'"):
        inks("activity", ["alive"])
