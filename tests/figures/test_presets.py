"""Presets: pages of exactly the width a style file gives, all fonts embedded, nothing too small to read, the same numbers."""

import io
import re
import shutil
import subprocess

import pytest

from figures import paper
from figures.export import render
from figures.presets import PRESETS, SMALLEST_PT, find_preset
from figures.spec import FigureError

MM = {
    "icml-single": 82.55, "icml-double": 171.45, "neurips": 139.7, "iclr": 139.7, "acl-single": 77, "acl-double": 160, "thesis": 150,
    "slides": 140, "plain": 139.7, "neurips-half": 68.58, "iclr-half": 68.58,
}  # fmt: skip


def poppler(command, content, tmp_path):
    if shutil.which(command) is None:
        pytest.skip(f"{command} (poppler-utils) is not installed")
    path = tmp_path / "figure.pdf"
    path.write_bytes(content)
    return subprocess.run([command, str(path)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("slug", PRESETS)
def test_a_page_has_the_width_of_its_preset_to_a_tenth_of_a_millimetre(specs, provenance, tmp_path, slug):
    out = poppler("pdfinfo", paper.render(specs["stacked_bars"], "pdf", provenance, preset=find_preset(slug)), tmp_path)
    width = float(re.search(r"Page size:\s+([0-9.]+) x", out)[1]) * 25.4 / 72
    assert width == pytest.approx(MM[slug], abs=0.1)


def test_two_columns_and_what_is_between_them_are_both_columns():
    assert 2 * MM["icml-single"] + 0.25 * 25.4 == pytest.approx(PRESETS["icml-double"].width_mm)
    assert 2 * MM["acl-single"] + 6 == PRESETS["acl-double"].width_mm


@pytest.mark.parametrize("typeface", ["serif", "sans"])
def test_every_font_is_embedded_whatever_the_typeface(specs, kind, provenance, tmp_path, typeface):
    content = paper.render(specs[kind], "pdf", provenance, preset=find_preset("icml-single", typeface), title=True)
    lines = poppler("pdffonts", content, tmp_path).splitlines()[2:]
    assert lines
    for line in lines:
        assert "TrueType" in line and "Type 3" not in line and line.split()[-5] == "yes", line
    family = {"serif": "STIX", "sans": "DejaVuSans"}[typeface]
    assert any(family in line for line in lines)


@pytest.mark.parametrize("slug", PRESETS)
def test_no_word_is_smaller_than_seven_points(specs, kind, slug):
    from matplotlib.text import Text

    figure = paper.to_matplotlib(specs[kind], preset=find_preset(slug), title=True)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert sizes and min(sizes) >= SMALLEST_PT


@pytest.mark.parametrize("slug", ["icml-single", "neurips-half", "slides"])
def test_nothing_leaves_the_page_at_a_columns_width(specs, kind, slug):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    preset = find_preset(slug)
    figure = paper.to_matplotlib(specs[kind], preset=preset)
    with paper.our_settings(preset):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    drawn = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes] + [one.get_window_extent() for one in figure.legends]
    assert all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1 for box in drawn)


def test_slides_stay_low_enough_for_a_slide(specs, kind):
    assert paper.to_matplotlib(specs[kind], preset=find_preset("slides")).get_size_inches()[1] * 25.4 <= 66.0001


def test_a_preset_changes_looks_and_no_number(specs, kind):
    plain, other = (paper.shown_numbers(paper.to_matplotlib(specs[kind], preset=find_preset(p))) for p in ("plain", "icml-single"))
    assert [pytest.approx(one) for one in plain] == other


@pytest.mark.parametrize(("dpi", "pixels"), [(100, 325), (300, 975), (600, 1950)])
def test_a_png_has_the_dots_asked_for(specs, provenance, dpi, pixels):
    from PIL import Image

    content = render(specs["bars"], "png", provenance, preset=find_preset("icml-single"), dpi=dpi)
    assert Image.open(io.BytesIO(content)).size[0] == pixels


def test_what_cannot_be_is_a_sentence(specs, provenance):
    with pytest.raises(FigureError, match="preset must be one of plain, icml-single, .*, got 'nature'; choose"):
        find_preset("nature")
    with pytest.raises(FigureError, match="typeface must be one of serif, sans, got 'comic'; choose"):
        find_preset("plain", "comic")
    with pytest.raises(FigureError, match="dpi must be between 30 and 1200, got 5; "):
        render(specs["bars"], "png", provenance, dpi=5)
