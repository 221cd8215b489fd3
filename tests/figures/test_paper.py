"""Paper: the same numbers as the screen, exact pages, embedded fonts, equal bytes, provenance inside, names as text."""

import io
import json
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figures import paper, screen
from figures.paper_layout import category_ticks, legend_columns, words
from figures.spec import Axis, FigureError, FigureSpec, Series

SVG = "{http://www.w3.org/2000/svg}"


def _poppler(command, content, tmp_path, *options):
    if shutil.which(command) is None:
        pytest.skip(f"{command} (poppler-utils) is not installed")
    path = tmp_path / "figure.pdf"
    path.write_bytes(content)
    return subprocess.run(
        [command, *options, str(path), *(["-"] if command == "pdftotext" else [])], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def once():
    """One drawing of each spec in each format, for all tests that look at it: they are the same specs in every test."""
    kept: dict[tuple[str, str], bytes] = {}

    def drawn(specs, kind, file_format, provenance):
        if (kind, file_format) not in kept:
            kept[kind, file_format] = paper.render(specs[kind], file_format, provenance)
        return kept[kind, file_format]

    return drawn


def test_both_renderers_show_the_same_numbers(specs, kind):
    on_screen = screen.shown_numbers(screen.to_plotly(specs[kind]))
    on_paper = paper.shown_numbers(paper.to_matplotlib(specs[kind]))
    assert len(on_screen) == len(on_paper) and sum(map(len, on_screen)) > 0
    for a, b in zip(on_screen, on_paper, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_both_renderers_show_the_numbers_of_the_data(specs):
    assert paper.shown_numbers(paper.to_matplotlib(specs["stacked_bars"])) == [pytest.approx([(i + 1) / 15] * 3) for i in range(5)]
    assert paper.shown_numbers(paper.to_matplotlib(specs["histogram"])) == [[5, 0, 7], [1, 2, 3]]
    assert paper.shown_numbers(paper.to_matplotlib(specs["line"])) == [[1, 2, 4]]
    assert paper.shown_numbers(paper.to_matplotlib(specs["heatmap"])) == [[0, 1, 10, 11, 20, 21]]


def test_both_renderers_agree_on_a_logarithmic_heatmap_with_a_missing_cell(specs):
    spec = replace(specs["heatmap"], data=specs["heatmap"].data.iloc[1:], colour=Axis("h", "Entropy", scale="log"))
    expected = [[1, 10, 11, 20, 21]]
    np.testing.assert_allclose(screen.shown_numbers(screen.to_plotly(spec)), expected)
    np.testing.assert_allclose(paper.shown_numbers(paper.to_matplotlib(spec)), expected)


def test_stacked_pieces_stand_on_each_other(specs):
    bars = [p for p in paper.to_matplotlib(specs["stacked_bars"]).axes[0].patches if p.get_gid()]
    at_zero = sorted((b for b in bars if abs(b.get_x() + b.get_width() / 2) < 1e-9), key=lambda b: b.get_y())
    tops = np.cumsum([b.get_height() for b in at_zero])
    np.testing.assert_allclose([b.get_y() for b in at_zero], [0, *tops[:-1]], atol=1e-12)


@pytest.mark.parametrize(("width", "height"), [(3.25, 2.2), (5.5, None), (6.75, 3.3333)])
def test_the_page_is_exactly_as_large_as_asked(specs, provenance, tmp_path, width, height):
    out = _poppler("pdfinfo", paper.render(specs["stacked_bars"], "pdf", provenance, width_in=width, height_in=height), tmp_path)
    size = next(line for line in out.splitlines() if line.startswith("Page size:")).split()
    tenth_of_mm = 72 / 254
    assert float(size[2]) == pytest.approx(width * 72, abs=tenth_of_mm)
    if height is not None:
        assert float(size[4]) == pytest.approx(height * 72, abs=tenth_of_mm)
    assert "CreationDate" not in out


def test_all_fonts_are_embedded_truetype(once, specs, kind, provenance, tmp_path):
    lines = _poppler("pdffonts", once(specs, kind, "pdf", provenance), tmp_path).splitlines()[2:]
    assert lines
    for line in lines:
        assert "TrueType" in line and "Type 3" not in line
        assert line.split()[-5] == "yes", line  # emb sub uni object ID


def test_text_in_a_pdf_can_be_searched(once, specs, provenance, tmp_path):
    text = _poppler("pdftotext", once(specs, "stacked_bars", "pdf", provenance), tmp_path)
    assert "undecided" in text and "Neurons (share of the layer)" in text
    assert "Neurons by class" not in text  # no title unless asked for
    assert "Neurons by class" in _poppler("pdftotext", paper.render(specs["stacked_bars"], "pdf", provenance, title=True), tmp_path)


def test_svg_is_xml_with_shapes_and_without_images_or_references(once, specs, kind, provenance):
    content = once(specs, kind, "svg", provenance)
    root = ET.fromstring(content)
    images = root.findall(f".//{SVG}image")
    assert (len(images) == 1) == (kind in ("heatmap", "scatter", "treemap"))  # the colour bar's ramp, nothing else
    assert root.findall(f".//{SVG}path") and not root.findall(f".//{SVG}text") and not root.findall(f".//{SVG}script")
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert all(v.startswith(("#", "data:image/png;base64,")) for v in links)


@pytest.mark.parametrize("file_format", ["pdf", "svg", "png"])
def test_the_same_spec_gives_the_same_bytes(once, specs, kind, provenance, file_format):
    content = once(specs, kind, file_format, provenance)
    assert content == paper.render(specs[kind], file_format, provenance)
    assert b"dc:date" not in content and b"CreationDate" not in content


def test_a_users_matplotlib_settings_change_nothing_and_are_left_alone(once, specs, provenance):
    import matplotlib

    plain = once(specs, "bars", "svg", provenance)
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "none", "axes.facecolor": "red"}):
        assert paper.render(specs["bars"], "svg", provenance) == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_threads_draw_the_same_as_one(once, specs, provenance):
    expected = {kind: once(specs, kind, "svg", provenance) for kind in specs}
    got: dict[str, bytes] = {}
    threads = [threading.Thread(target=lambda k=k: got.update({k: paper.render(specs[k], "svg", provenance)})) for k in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_nothing_is_registered_with_pyplot(specs):
    script = "import sys, figures.paper, pandas as pd\nfrom figures.spec import *\n"
    script += "s = FigureSpec('bars', pd.DataFrame({'a': ['x'], 'b': [1]}), Axis('a', 'A'), Axis('b', 'B'), 't', 's')\n"
    script += "assert 'matplotlib' not in sys.modules\nfigures.paper.render(s, 'pdf', {})\nassert 'matplotlib.pyplot' not in sys.modules"
    import sys

    subprocess.run([sys.executable, "-c", script], check=True)


def test_provenance_and_caption_are_in_the_metadata(specs, provenance, tmp_path):
    spec = replace(specs["bars"], notes=("One limit.",))
    out = _poppler("pdfinfo", paper.render(spec, "pdf", provenance), tmp_path)
    fields = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert json.loads(fields["Keywords"]) == provenance
    assert fields["Subject"].strip() == "Share of zeros, 4 tensors. One limit."
    root = ET.fromstring(paper.render(spec, "svg", provenance))
    assert root.findtext(f"{SVG}desc") == "Share of zeros, 4 tensors. One limit."
    assert json.dumps(provenance, sort_keys=True) in ET.tostring(root, encoding="unicode", method="text")
    from PIL import Image

    image = Image.open(io.BytesIO(paper.render(spec, "png", provenance, width_in=3.25, height_in=2.0)))
    assert image.size == (975, 600)
    assert json.loads(image.info["Provenance"]) == provenance and image.info["Description"].startswith("Share of zeros")


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_drawn_as_text(hostile_specs, provenance, tmp_path):
    for spec in hostile_specs.values():
        for file_format in ("pdf", "svg", "png"):
            content = paper.render(spec, file_format, provenance, title=True)
            if file_format == "svg":
                root = ET.fromstring(content)
                assert not root.findall(f".//{SVG}script") and not root.findall(".//img")
    text = _poppler("pdftotext", paper.render(hostile_specs["bars"], "pdf", provenance, width_in=20), tmp_path)
    assert "$x$ and $y$" in text and "<img src=x onerror=alert(1)>" in text and "DROP TABLE" in text


def test_dollars_backslashes_and_missing_glyphs_survive_as_written():
    from matplotlib.text import Text

    for name in ("$x$", "$", r"\$a\$", r"C:\new", "a$b"):
        shown, is_maths = Text(text=words(name))._preprocess_math(words(name))
        assert (shown, is_maths) == (name, False)
    assert words("東 ok") == "\\u6771 ok"


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_tick_labels_do_not_touch_and_nothing_leaves_the_page(width):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = [f"model.layers.{i // 7}.{part}.weight" for i in range(210) for part in [("q", "k", "v", "o", "gate", "up", "down")[i % 7]]]
    data = pd.DataFrame({"t": names, "z": np.linspace(0, 1, 210)})
    many = FigureSpec("bars", data, Axis("t", "Tensor", scale="category"), Axis("z", "Zeros", "share of the tensor"), "t", "s")
    rows = [(layer, c, 0.2) for layer in range(30) for c in ("dead", "rare", "undecided", "normal", "dense")]
    strip_data = pd.DataFrame(rows, columns=["layer", "class", "share"])
    series = Series("class", "Class", (), "activity")
    strip = FigureSpec(
        "stacked_bars", strip_data, Axis("layer", "Layer", scale="category"), Axis("share", "Share"), "t", "s", series=series
    )
    for spec in (many, strip):
        figure = paper.to_matplotlib(spec, width_in=width)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = [t.get_window_extent(canvas.get_renderer()) for t in figure.axes[0].get_xticklabels()]
        assert len(boxes) >= 5
        assert all(a.x1 <= b.x0 + 0.5 for a, b in zip(boxes, boxes[1:], strict=False))
        page = figure.bbox
        inside = [figure.axes[0].get_tightbbox(canvas.get_renderer()), *(legend.get_window_extent() for legend in figure.legends)]
        assert all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= page.x1 + 1 and b.y1 <= page.y1 + 1 for b in inside)
        assert all(not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent()) for legend in figure.legends)


def test_numbers_thin_out_by_fives_and_names_turn_before_they_thin():
    at, texts, upright = category_ticks([str(i) for i in range(30)], 2.0)
    assert (at[:3], texts[:3], upright) == ([0, 5, 10], ["0", "5", "10"], False)
    at, _, upright = category_ticks(["a_long_name"] * 10, 2.0)
    assert (len(at), upright) == (10, True)
    assert legend_columns(["dead", "rare", "undecided", "normal", "dense"], 3.25) == 5
    assert legend_columns(["a rather long series name"] * 4, 3.25) == 1


def test_impossible_sizes_and_formats_are_refused(specs):
    with pytest.raises(FigureError, match="width_in must be between 1 and 40 inches, got 0.1"):
        paper.to_matplotlib(specs["bars"], width_in=0.1)
    with pytest.raises(FigureError, match="one of pdf, svg, png, got 'eps'"):
        paper.render(specs["bars"], "eps", {})
