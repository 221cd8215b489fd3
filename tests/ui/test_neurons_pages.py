"""The neuron browser, over a sealed run of the declared tables, in the states its pages can be in."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis.neurons.thresholds import at_threshold
from analysis.stats.histogram import bin_index
from store import Filter, Order, Store
from tests.neuron_run import CONFIG, DOCUMENTS, make_neurons
from tests.toy import HOSTILE
from ui.neurons import queries
from ui.neurons.examples import Choice, choose
from ui.neurons.histogram import bars, histogram
from ui.neurons.units import Site, Unit, find, jump, sites, step
from ui.neurons.words import state, wakes
from ui.python import as_python

NEURONS, NEURON = "pages/neurons.py", "pages/neuron.py"


@pytest.fixture
def run(store):
    return make_neurons(store)


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def table_of(at):
    return at.dataframe[0].value


def unit_of(run, layer=0, neuron=0):
    return {"run": run.id, "layer": str(layer), "hook": f"blocks.{layer}.mlp.hook_post", "neuron": str(neuron)}


# ---------------------------------------------------------------------------------------------------------------------
# All neurons


def test_without_a_run_the_page_says_which_command_makes_one(store, open_page):
    at = open_page(NEURONS)
    assert "No neurons have been measured yet" in words_of(at)
    assert any("run neuron_activity --model smollm2" in code.value for code in at.code)


def test_all_neurons_are_there_with_their_stored_numbers(store, run, open_page):
    at = open_page(NEURONS)
    text = words_of(at)
    assert "Neurons 1 to 25 of 120." in text
    assert "n = 120 neurons in 3 layers" in text
    shown, stored = table_of(at), store.read(run, "neurons", limit=25)
    assert shown["unit"].tolist() == [f"0:{i}" for i in range(25)]
    for column in ("class", "density", "max", "out_norm"):
        assert shown[column].tolist() == stored[column].tolist()
    assert "up_norm" not in shown


def test_silent_neurons_are_told_with_what_is_expected_of_them(run, open_page):
    row = {"n_silent": 3, "expected_wakes": 1.2, "n_documents": 120, "silent_document_bound": 0.0246}
    assert wakes([row, row]).startswith("6 neurons never fired")
    assert "about 2 of them are expected to fire if 120 further documents" in wakes([row, row])
    assert wakes([row | {"n_silent": 0}]) == "No neuron was silent throughout."
    silent = sum(one["n_silent"] for one in run.summaries["layers"])
    assert silent >= 3
    assert f"{silent} neurons never fired" in words_of(open_page(NEURONS))


def test_a_view_in_the_address_is_sorted_filtered_and_paged_by_the_database(store, run, open_page):
    at = open_page(NEURONS, run=run.id, site="1", sort="largest", order="ascending", rows="25", page="2")
    stored = store.read(run, "neurons", where=[Filter("layer", "=", 1)], order_by=[Order("max")], limit=25, offset=25)
    assert table_of(at)["max"].tolist() == stored["max"].tolist()
    assert "Neurons 26 to 40 of 40." in words_of(at)


def test_the_threshold_changes_densities_and_classes_without_a_run(store, run, open_page):
    at = open_page(NEURONS, run=run.id, t="0.25")
    stored = store.read(run, "neurons", derive=at_threshold(run, 0.25), limit=25)
    assert table_of(at)["density"].tolist() == stored["density"].tolist()
    assert table_of(at)["class"].tolist() == stored["class"].tolist()
    assert stored["density"].tolist() != store.read(run, "neurons", limit=25)["density"].tolist()
    assert "active meaning |a| ≥ 0.25" in words_of(at)


def test_moving_the_slider_starts_at_the_first_page_again(run, open_page):
    at = open_page(NEURONS, run=run.id, page="3")
    assert "Neurons 51 to 75" in words_of(at)
    at.select_slider(key="t").set_value("1").run()
    assert not at.exception
    assert "Neurons 1 to 25 of 120." in words_of(at)


def test_a_range_and_a_class_keep_only_what_meets_both(store, run, open_page):
    at = open_page(NEURONS, run=run.id, **{"only": "out norm", "from": "1"})
    assert (table_of(at)["out_norm"] >= 1).all()
    assert f"of {store.count(run, 'neurons', [Filter('out_norm', '>=', 1)])}." in words_of(at)
    at = open_page(NEURONS, run=run.id, **{"class": "dense"})
    assert set(table_of(at)["class"]) == {"dense"}


def test_a_box_in_the_address_narrows_the_table_but_not_the_scatter(store, run, open_page):
    at = open_page(NEURONS, run=run.id, box="0,0.01,-inf,1e9")
    text = words_of(at)
    inside = store.count(run, "neurons", [Filter("density", "<=", 0.01)])
    assert f"of {inside}." in text
    assert "n = 120: the share of tokens" in text
    assert "density 0 to 0.01" in text
    assert "of 120." in words_of(open_page(NEURONS, run=run.id, box="no,box,at,all"))


def test_filters_that_nothing_meets_are_answered_in_words(run, open_page):
    at = open_page(NEURONS, run=run.id, **{"from": "1000000"})
    assert "No neuron meets all of these filters" in words_of(at)
    assert not at.dataframe


def test_an_unknown_run_is_said_and_the_newest_shown(run, open_page):
    text = words_of(open_page(NEURONS, run=HOSTILE))
    assert f"There is no run `{HOSTILE}` with neurons" in text
    assert "of 120." in text


def points_of(at):
    chart = next(one for one in at.get("plotly_chart") if "scattergl" in one.proto.spec)
    traces = [trace for trace in json.loads(chart.proto.spec)["data"] if trace["type"] == "scattergl"]
    return sum(_length(trace["x"]) for trace in traces)


def _length(values):
    import base64

    return len(base64.b64decode(values["bdata"])) // int(values["dtype"][1:]) if isinstance(values, dict) else len(values)


def test_every_neuron_is_a_point_and_many_are_thinned_which_is_said(run, open_page, monkeypatch):
    assert points_of(open_page(NEURONS, run=run.id)) == 120
    monkeypatch.setattr(queries, "DRAWN", 50)
    monkeypatch.setattr(Store.cells, "__kwdefaults__", Store.cells.__kwdefaults__ | {"shape": (5, 5)})
    at = open_page(NEURONS, run=run.id)
    n = points_of(at)
    assert n < 120
    assert f"120 neurons drawn as {n} points" in words_of(at)


@pytest.mark.parametrize("query", [{}, {"site": "2", "sort": "largest"}, {"t": "0.5", "class": "normal"}])
def test_copy_as_python_gives_the_rows_that_are_shown(run, open_page, query):
    at = open_page(NEURONS, run=run.id, rows="250", **query)
    lines = next(code.value for code in at.code if "frame = " in code.value)
    found = {}
    exec(lines, found)
    assert found["frame"]["density"].tolist() == table_of(at)["density"].tolist()
    assert found["frame"]["class"].tolist() == table_of(at)["class"].tolist()


def test_three_lines_are_enough_for_the_runs_own_meaning(run):
    assert len(as_python(run, "neurons", where=[Filter("layer", "=", 1)], folder="results").splitlines()) == 3


# ---------------------------------------------------------------------------------------------------------------------
# One neuron


def test_a_silent_neuron_is_told_in_words_with_its_bound(run, open_page):
    text = words_of(open_page(NEURON, **unit_of(run)))
    assert "Neuron 0:0" in text
    assert "No firing in 61,440 tokens from 120 documents: with 95 % confidence it fires in fewer than 2.5 % of such documents." in text
    assert "dead: silent on enough tokens" in text


def test_a_firing_neuron_has_its_density_with_an_interval_called_an_estimate(store, run, open_page):
    row = store.read(run, "neurons", limit=1, offset=3).iloc[0]
    text = words_of(open_page(NEURON, **unit_of(run, neuron=3)))
    assert f"Active on {row['n_active']:,} of {CONFIG['n_tokens']:,} tokens from {DOCUMENTS} documents" in text
    assert "an estimate" in text
    assert state(row).count("%") >= 5


def test_hostile_tokens_go_to_the_strips_as_they_are_and_into_no_markdown(run, open_page):
    at = open_page(NEURON, **unit_of(run, neuron=3))
    assert HOSTILE not in words_of(at)
    [strips] = [one for one in at.main if False] or [
        one for one in _all(at) if "bidi" in type(one.proto).__name__.lower() and one.proto.json
    ]
    data = json.loads(strips.proto.json)
    tokens = {token for group in data["groups"] for example in group["examples"] for token in example["tokens"]}
    assert HOSTILE in tokens
    assert [group["title"] for group in data["groups"]] == ["Top", "Across its range", "Bottom"]


def _all(block):
    for one in getattr(block, "children", {}).values() if hasattr(block, "children") else block._tree.children.values():
        yield one
        if hasattr(one, "children"):
            yield from _all(one)


def test_next_and_previous_cross_layers_and_wrap(run):
    places = sites(run)
    assert step(places, find(places, "0", "39"), 1).name == "1:0"
    assert step(places, find(places, "1", "0"), -1).name == "0:39"
    assert step(places, find(places, "0", "0"), -1).name == "2:39"


def test_the_next_button_and_the_jump_box_change_the_address(run, open_page):
    at = open_page(NEURON, **unit_of(run, neuron=39))
    at.button(key="next").click().run()
    assert at.query_params["layer"] in ("1", ["1"])
    assert at.query_params["neuron"] in ("0", ["0"])
    at.text_input(key="jump").set_value("2:7").run()
    assert at.title[0].value.replace("\\", "").replace("\u2060", "") == "Neuron 2:7"
    at.text_input(key="jump").set_value("9:7").run()
    assert "layer must be one of 0 to 2, got 9" in words_of(at)


@pytest.mark.parametrize(("typed", "name"), [("2:7", "2:7"), ("L2N7", "2:7"), (" 2 . 7 ", "2:7"), ("7", "1:7")])
def test_what_is_typed_into_the_jump_box_is_understood(run, typed, name):
    places = sites(run)
    assert jump(places, typed, places[1]).name == name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": "7"}, "layer must be one of 0 to 2, got 7"),
        ({"neuron": "40"}, "must be 0 to 39, got 40"),
        ({"neuron": "-1"}, "must be given as layer:neuron"),
        ({"neuron": HOSTILE}, "must be given as layer:neuron"),
        ({"hook": "elsewhere"}, "with hook 'elsewhere'"),
        ({"run": "none"}, "There is no run `none`"),
    ],
)
def test_an_address_of_no_neuron_is_answered_in_a_sentence(run, open_page, change, words):
    assert words in words_of(open_page(NEURON, **(unit_of(run) | change)))


def test_what_was_not_measured_is_one_sentence_with_the_command(run, open_page):
    text = words_of(open_page(NEURON, **unit_of(run)))
    assert "Not measured yet" in text
    assert "What the loss does without groups of neurons has not been measured on this model." in text


def test_sites_that_share_a_layer_are_told_apart():
    rows = [{"layer": 0, "hook_name": name, "n_neurons": 4} for name in ("a", "b")] + [{"layer": 1, "hook_name": "c", "n_neurons": 4}]
    run = type("Run", (), {"summaries": {"layers": rows}})
    assert [site.label for site in sites(run)] == ["0 a", "0 b", "1"]


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def stored(values):
    bins, counts = np.unique(bin_index(values), return_counts=True)
    return bins.tolist(), counts.tolist()


@pytest.mark.parametrize("spread", [1e-6, 0.01, 1.0, 300.0])
@pytest.mark.parametrize("shift", [-2, 0, 2])
def test_bars_lose_no_token_do_not_overlap_and_hold_zero_once(spread, shift):
    values = np.random.default_rng(0).normal(shift * spread, spread, 5000)
    drawn = bars(*stored(values), float(values.min()), float(values.max()))
    assert sum(n for *_, n, _ in drawn) == 5000
    assert all(a[1] <= b[0] for a, b in zip(drawn, drawn[1:]))
    assert sum(zero for *_, zero in drawn) <= 1
    for low, high, n, _ in drawn:
        assert low < high or len(drawn) == 1
        assert n == ((values >= low) & (values < high)).sum() or high == drawn[-1][1] or low < 0
    assert len(drawn) <= 160


def test_a_bar_counts_exactly_the_values_between_its_edges():
    values = np.random.default_rng(1).exponential(1, 3000).astype(np.float32)
    drawn = bars(*stored(values), float(values.min()), float(values.max()))
    for low, high, n, _ in drawn[:-1]:
        assert n == ((values >= np.float32(low)) & (values < np.float32(high))).sum()


def test_a_neuron_of_one_value_still_has_a_histogram_and_one_of_none_has_none():
    assert histogram([], [], 0.0, 0.0, 0) is None
    one = histogram(*stored(np.full(7, 0.5)), 0.5, 0.5, 7)
    assert [bar[2] for bar in one.bars] == [7]
    zero = histogram(*stored(np.zeros(7)), 0.0, 0.0, 7)
    assert [bar[2:] for bar in zero.bars] == [(7, True)]


def example(kind="top", window=0, position=3, value=2.0, tokens="abcdefg", strip=(0, 0, 500, 1000, 0), first=0, **more):
    row = {"kind": kind, "rank": 0, "value": value, "window": window, "position": position, "first": first, "strip": list(strip)}
    return row | {"document": "doc", "start": 10, "tokens": list(tokens)} | more


def test_repeats_and_special_peaks_are_hidden_and_counted():
    special = example(tokens=["a", "b", "c", "[SEP]", "d", "e", "f"])
    frame = pd.DataFrame([example(), example(window=1), example(position=0, window=2), special, example(kind="bottom")])
    chosen = choose(frame, Choice())
    assert [len(group.examples) for group in chosen.groups] == [1, 1]
    assert chosen.words == "Hidden: 1 repeat and 2 peaks on a first or special token."
    assert sum(len(group.examples) for group in choose(frame, Choice(repeats=True, special=True)).groups) == 5


def test_a_strip_gives_every_token_its_value_and_the_peak_its_exact_one():
    [group] = choose(pd.DataFrame([example(value=2.0)]), Choice()).groups
    [strip] = group.examples
    assert [v * strip.unit for v in strip.values] == pytest.approx([0, 0, 1.0, 2.0, 0])
    assert strip.tokens == tuple("abcde")
    assert strip.cut_after
    assert not strip.cut_before
    assert strip.where == "doc, token 13"
    [group] = choose(pd.DataFrame([example(value=2.0)]), Choice(whole_window=True)).groups
    assert group.examples[0].values[-2:] == (None, None)
    assert group.examples[0].tokens == tuple("abcdefg")


def test_negative_peaks_keep_the_signs_of_their_neighbours():
    [group] = choose(pd.DataFrame([example(kind="bottom", value=-2.0, strip=(500, 0, 0, -1000, 0))]), Choice()).groups
    [strip] = group.examples
    assert [v * strip.unit for v in strip.values] == pytest.approx([1.0, 0, 0, -2.0, 0])


def test_a_unit_names_its_rows_and_its_address(run):
    unit = Unit(Site(3, "h", "3", {"n_neurons": 9}), 4)
    assert unit.name == "3:4"
    assert [(f.column, f.value) for f in unit.where] == [("layer", 3), ("hook_name", "h"), ("neuron", 4)]
    assert unit.query(run) == {"run": run.id, "layer": "3", "hook": "h", "neuron": "4"}


@pytest.mark.parametrize("peak", [0, 9, -9])
def test_a_peak_too_small_against_its_strip_leaves_the_neighbours_without_a_value(peak):
    [group] = choose(pd.DataFrame([example(value=0.01, strip=(1000, 0, 0, peak, 0))]), Choice()).groups
    assert group.examples[0].values == (None, None, None, 0.01, None)
