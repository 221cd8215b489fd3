"""Plotly: the right numbers, hover texts with units, nothing that Plotly would take for HTML, a page that loads nothing."""

import html.parser
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figures.screen import PLOTLY_CONFIG, plain, shown_numbers, to_html, to_plotly
from figures.spec import Axis, FigureSpec


def _texts(node):
    """Every string anywhere in a figure."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, (list, tuple, np.ndarray)):
        for value in node:
            yield from _texts(value)


def test_a_click_leads_back_to_the_row_it_shows(specs):
    figure = to_plotly(specs["bars"])
    for trace in figure.data:
        rows = specs["bars"].data.iloc[trace.customdata[:, 0]]
        assert rows["zeros"].tolist() == list(trace.y)
    heat = to_plotly(specs["heatmap"]).data[0]
    assert specs["heatmap"].data["h"].to_numpy()[np.asarray(heat.customdata)[..., 0]].tolist() == np.asarray(heat.z).tolist()


def test_hover_names_series_value_unit_and_further_columns(specs):
    assert to_plotly(specs["bars"]).data[1].hovertext[0] == "Model: b<br>Tensor: q<br>Zeros: 0.3 share<br>n: 3"
    assert to_plotly(specs["histogram"]).data[0].hovertext[0] == "Layer: 0<br>Density: 0.0001 to 0.001 share of tokens<br>Neurons: 5"
    assert to_plotly(specs["line"]).data[2].hovertext[0] == "Sparsity: 0 share<br>Loss: 1 nats<br>Loss, band: 0.9 to 1.1"


def test_axes_carry_units_and_scales(specs):
    layout = to_plotly(specs["histogram"]).layout
    assert (layout.xaxis.title.text, layout.xaxis.type, layout.yaxis.title.text) == ("Density (share of tokens)", "log", "Neurons")
    assert to_plotly(specs["heatmap"]).layout.coloraxis.colorbar.title.text == "Entropy (nats)"


def test_histogram_bars_are_exactly_as_wide_as_their_bins(specs):
    bar = to_plotly(specs["histogram"]).data[0]
    assert bar.offset == 0
    np.testing.assert_allclose(np.asarray(bar.x) + np.asarray(bar.width), [1e-3, 1e-2, 1e-1], rtol=1e-12)


def test_many_points_are_drawn_with_webgl_and_few_are_not():
    def spec(n):
        data = pd.DataFrame({"a": range(n), "b": range(n)})
        return FigureSpec("scatter", data, Axis("a", "A"), Axis("b", "B"), "t", "s")

    assert to_plotly(spec(5_000)).data[0].type == "scatter"
    assert to_plotly(spec(5_001)).data[0].type == "scattergl"


def test_backgrounds_and_the_colour_of_text_are_left_to_the_page(specs, kind):
    layout = to_plotly(specs[kind]).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.font.color is None
    assert to_plotly(specs[kind], dark=True).layout.font.color != to_plotly(specs[kind], dark=False).layout.font.color


def test_no_text_in_a_figure_holds_markup_but_our_own_line_breaks(hostile_specs):
    for spec in hostile_specs.values():
        for text in _texts(to_plotly(spec).to_plotly_json()):
            assert "<" not in text.replace("<br>", "").replace("<sup>", "").replace("</sup>", ""), text
            assert "\n" not in text and "\x00" not in text


def test_hover_texts_are_no_templates(hostile_specs):
    for spec in hostile_specs.values():
        for trace in to_plotly(spec).data:
            assert trace.hovertemplate is None and trace.texttemplate is None


def test_plain_text_reads_back_as_it_was_given():
    assert plain('<b>&amp;"') == '&lt;b&gt;&amp;amp;"'


class _Loads(html.parser.HTMLParser):
    """Collects every attribute that makes a browser fetch something, and the text of the body."""

    def __init__(self):
        super().__init__()
        self.fetched, self.tags, self.text, self.inside = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append(tag)
        names = {"src", "href", "srcset", "data", "action", "poster", "background"}
        self.fetched += [(tag, k, v) for k, v in attrs if k in names]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" not in self.inside and "style" not in self.inside:
            self.text.append(data)


@pytest.fixture
def page(specs, provenance):
    return to_html(specs["stacked_bars"], provenance)


def test_the_page_loads_nothing_and_forbids_loading(page):
    reader = _Loads()
    reader.feed(page)
    assert reader.fetched == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(reader.tags)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert policy.startswith("default-src 'none'") and "http" not in policy and "connect-src" not in policy


def test_the_button_to_the_cloud_is_off(page):
    assert PLOTLY_CONFIG["showSendToCloud"] is False and "sendChartToCloud" in PLOTLY_CONFIG["modeBarButtonsToRemove"]
    call = page[page.rindex("Plotly.newPlot(") :]
    assert '"showSendToCloud": false' in call
    assert "cloud.plotly.com" not in call and "plotlyServerURL" not in call


def test_words_and_provenance_stand_below_as_text(hostile_specs, hostile, provenance):
    reader = _Loads()
    reader.feed(to_html(replace(hostile_specs["bars"], notes=("A limit.", *hostile)), provenance))
    text = " ".join(reader.text)
    assert "A limit." in text and "<img src=x onerror=alert(1)>" in text and "<b>tiny</b>" in text and "2048" in text
    assert "img" not in reader.tags and "b" not in reader.tags
    assert reader.tags.count("script") == to_html(hostile_specs["bars"], {}).count("<script") == 3


def test_data_cannot_close_the_script_it_stands_in(hostile_specs, provenance):
    page = to_html(hostile_specs["bars"], provenance)
    call = page[page.rindex("Plotly.newPlot(") : page.rindex("</script>")]
    assert "</script" not in call.lower() and "<img" not in call


def test_the_same_spec_gives_the_same_page(specs, provenance):
    assert to_html(specs["scatter"], provenance) == to_html(specs["scatter"], provenance)


def test_a_figure_is_valid_for_the_browser(specs, kind):
    made = json.loads(to_plotly(specs[kind]).to_json())
    assert made["data"] and "NaN" not in json.dumps(made)


def test_what_is_read_back_changes_when_a_number_changes(specs):
    before = shown_numbers(to_plotly(specs["bars"]))
    after = shown_numbers(to_plotly(replace(specs["bars"], data=specs["bars"].data.assign(zeros=[0.1, 0.2, 0.3, 0.5]))))
    assert before == [[0.1, 0.2], [0.3, 0.4]] and after == [[0.1, 0.2], [0.3, 0.5]]
