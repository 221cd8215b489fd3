"""Treemaps and marks: areas are the numbers, frames hold what is theirs, lines stand where they are said to stand."""

from dataclasses import replace

import numpy as np
import pytest

from figures import paper, screen
from figures.prepared import prepare
from figures.spec import FigureError, Mark
from figures.treemap import boxes, squarify, worst


def test_by_hand_six_six_and_the_rest_of_the_papers_example():
    """Bruls et al., figure 4: 6, 6, 4, 3, 2, 2, 1 in a box of 6 x 4 begins with two squares of 3 wide, 2 high."""
    placed = squarify(np.array([6.0, 6, 4, 3, 2, 2, 1]), (0, 0, 6, 4))
    np.testing.assert_allclose(placed[:2], [[0, 0, 3, 2], [0, 2, 3, 2]])
    np.testing.assert_allclose(placed[2:4, 3], 7 / 3)
    np.testing.assert_allclose(placed[:, 2] * placed[:, 3], [6, 6, 4, 3, 2, 2, 1])


def test_one_rectangle_is_the_whole_box_and_equal_ones_are_squares():
    np.testing.assert_allclose(squarify(np.array([7.0]), (1, 2, 3, 4)), [[1, 2, 3, 4]])
    placed = squarify(np.ones(4), (0, 0, 2, 2))
    np.testing.assert_allclose(placed[:, 2:], 1)
    assert worst(np.array([4.0]), 2) == 1


def test_rectangles_fill_the_box_without_overlap():
    sizes = np.random.default_rng(0).lognormal(0, 2, 60)
    placed = squarify(sizes, (0, 0, 3, 1))
    np.testing.assert_allclose(placed[:, 2] * placed[:, 3], sizes / sizes.sum() * 3)
    points = np.random.default_rng(1).random((2000, 2)) * [3, 1]
    inside = (points[:, None] >= placed[None, :, :2]) & (points[:, None] < placed[None, :, :2] + placed[None, :, 2:])
    assert (inside.all(-1).sum(1) == 1).all()


def test_every_rectangle_lies_in_the_frame_of_its_series(specs):
    frames, inside = boxes(prepare(specs["treemap"]), 2.0)
    for frame, (_, placed) in zip(frames, inside, strict=True):
        assert (placed[:, :2] >= frame[:2] - 1e-9).all()
        assert (placed[:, :2] + placed[:, 2:] <= frame[:2] + frame[2:] + 1e-9).all()
    assert sum((placed[:, 2] * placed[:, 3]).sum() for _, placed in inside) == pytest.approx(111)


def test_a_click_on_a_rectangle_leads_back_to_its_row_and_a_frame_to_none(specs):
    trace = screen.to_plotly(specs["treemap"]).data[0]
    rows = [row for (row,) in trace.customdata]
    assert rows == [-1, -1, -1, 0, 1, 2, 3, 4]
    assert [trace.values[3 + row] for row in range(5)] == specs["treemap"].data["weights"].tolist()


@pytest.mark.parametrize(("change", "words"), [({"colour": None}, "in colour"), ({"series": None}, "in series")])
def test_a_treemap_without_colour_or_frames_is_refused(specs, change, words):
    with pytest.raises(FigureError, match=words):
        prepare(replace(specs["treemap"], **change))


def test_a_rectangle_of_no_size_is_refused(specs):
    spec = specs["treemap"]
    with pytest.raises(FigureError, match="larger than 0, got 0"):
        prepare(replace(spec, data=spec.data.assign(weights=0.0)))


@pytest.mark.parametrize("which", ["line", "histogram"])
def test_marks_stand_at_their_x_on_screen_and_on_paper(specs, which):
    spec = replace(specs[which], marks=(Mark(0.01, "the <b>root</b>"),))
    layout = screen.to_plotly(spec).layout
    assert [shape.x0 for shape in layout.shapes] == [0.01]
    assert layout.annotations[0].x == (-2 if which == "histogram" else 0.01), "words lie by the logarithm on a logarithmic axis"
    assert layout.annotations[0].text == "the &lt;b&gt;root&lt;/b&gt;"
    axes = paper.to_matplotlib(spec).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_gid() is None and line.get_linestyle() == ":"] == [[0.01, 0.01]]
    assert any(text.get_text() == "the <b>root</b>" for text in axes.texts)
