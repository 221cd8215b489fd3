"""The attention browser, over sealed runs on tiny seeded models, in the states its pages can be in."""

import json
import re
import shutil

import numpy as np
import pytest

from analysis.attention.tables import HEADS
from analysis.spec import UserError
from figures.spec import FigureError
from store import Filter, Order, Store
from tests.attention_run import make_heads
from tests.toy import HOSTILE
from ui.attention.charts import grid_spec, scatter_spec
from ui.attention.curves import distance_spec, mass_spec, position_spec, slope_words
from ui.attention.head_page import places_among, row_of, state
from ui.attention.heads import Head, find, in_layer, jump, places_of, step
from ui.attention.measures import FIRST, MORE, by_position, measures
from ui.attention.view import View

ATTENTION, HEAD = "pages/attention.py", "pages/head.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sealed files, made once."""
    store = Store(tmp_path_factory.mktemp("made") / "store")
    return {family: make_heads(store, family) for family in ("t5", "albert", "llama")}


def copied(store, run):
    """A sealed run in the store that the pages show: a run is one file, and copying it is enough."""
    path = store.folder / "runs" / run.path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.path, path)
    store.register(path)
    return store.find(run.id)


@pytest.fixture
def run(store, made):
    return copied(store, made["llama"])


@pytest.fixture
def t5(store, made):
    return copied(store, made["t5"])


@pytest.fixture
def albert(store, made):
    return copied(store, made["albert"])


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def table_of(at):
    return at.dataframe[0].value


def view_of(run, **more):
    return View(**({"run": run, "place": None, "measure": None, "bounds": (None, None), "search": ""} | more))


# ---------------------------------------------------------------------------------------------------------------------
# All heads


def test_without_a_run_the_page_says_which_command_makes_one(store, open_page):
    at = open_page(ATTENTION)
    assert "No attention heads have been measured yet" in words_of(at)
    assert any("run head_sparsity --model smollm2" in code.value for code in at.code)


def test_every_number_of_a_head_can_be_chosen_and_has_one_name():
    numbers = {column.name for column in HEADS.columns if column.type == "float" and not column.name.endswith(("_low", "_high"))}
    assert {*FIRST.values(), *MORE.values()} == numbers
    assert len(FIRST) == 6 and not set(FIRST) & set(MORE)


def test_every_measure_is_explained_by_its_declared_meaning_unit_and_evidence(run, open_page):
    text = words_of(open_page(ATTENTION))
    known = measures(run)
    assert known["share of keys"].comment == HEADS["key_share"].comment
    assert known["share of keys"].unit == "share of valid keys"
    for one in known.values():
        assert one.comment.replace("\\", "") in text, one.name


def test_a_measure_that_no_head_has_is_not_offered(run, t5):
    assert "induction score" in measures(run)
    assert "block density" not in measures(run), "its windows are a single block"
    assert "induction score" not in measures(t5)


def test_all_heads_are_there_with_their_stored_numbers(store, run, open_page):
    at = open_page(ATTENTION)
    stored = store.read(run, "heads", order_by=["layer", "head"])
    n = len(stored)
    assert f"Heads 1 to {n} of {n}." in words_of(at)
    assert f"n = {n} heads of llama" in words_of(at)
    shown = table_of(at)
    assert shown["name"].tolist() == [f"{layer}:{head}" for layer, head in zip(stored["layer"], stored["head"], strict=True)]
    for column in FIRST.values():
        assert shown[column].tolist() == stored[column].tolist()


def test_a_view_in_the_address_is_sorted_and_filtered_by_the_database(store, run, open_page):
    at = open_page(ATTENTION, run=run.id, site="1", sort="Gini", order="ascending", more="span")
    stored = store.read(run, "heads", where=[Filter("layer", "=", 1)], order_by=[Order("gini")])
    assert table_of(at)["gini"].tolist() == stored["gini"].tolist()
    assert table_of(at)["span"].tolist() == stored["span"].tolist(), "what colours the grid stands in the table"
    assert "Span (span): " in words_of(at).replace("*", "").replace("`", "")


def test_one_of_the_six_takes_the_place_of_what_the_list_said(run, open_page):
    at = open_page(ATTENTION, run=run.id, more="span")
    assert at.selectbox(key="more").value == "span"
    at.get("button_group")[0].set_value("Gini").run()
    assert not at.exception
    assert at.selectbox(key="more").value is None
    at.selectbox(key="more").set_value("span").run()
    assert not at.exception
    assert at.get("button_group")[0].value in (None, []), "only one of the two is marked"
    at.selectbox(key="more").set_value(None).run()
    assert at.get("button_group")[0].value in ("share of keys", ["share of keys"])
    at.selectbox(key="more").set_value("span").run()
    assert "Span (span): " in words_of(at).replace("*", "").replace("`", "")
    assert "Gini (gini): " in words_of(at).replace("*", "").replace("`", "")


def test_a_range_and_a_search_hold_for_the_grid_the_scatter_and_the_table(store, run, open_page):
    known, places = measures(run), places_of(run)
    stored = store.read(run, "heads")
    middle = float(stored["key_share"].median())
    view = view_of(run, measure=known["share of keys"], bounds=(middle, None))
    n = int((stored["key_share"] >= middle).sum())
    assert 0 < n < len(stored)
    assert grid_spec(view, places, known["Gini"]).data["value"].notna().sum() == n
    assert len(grid_spec(view, places, known["Gini"]).data) == len(stored)
    assert len(scatter_spec(view, places, known["Gini"], known["span"]).data) == n
    at = open_page(ATTENTION, run=run.id, **{"only": "share of keys", "from": f"{middle!r}"})
    assert f"Heads 1 to {n} of {n}." in words_of(at)
    assert (table_of(at)["key_share"] >= middle).all()


@pytest.mark.parametrize(("search", "found"), [("1:2", ["1:2"]), ("L1H2", ["1:2"]), ("2", ["0:2", "1:2"]), ("nothing like it", [])])
def test_a_search_finds_a_head_by_its_numbers(run, open_page, search, found):
    at = open_page(ATTENTION, run=run.id, search=search)
    if found:
        assert table_of(at)["name"].tolist() == found
    else:
        assert "No head meets all of these filters" in words_of(at)
        assert not at.dataframe


def test_a_filter_changes_no_colour(run):
    known, places = measures(run), places_of(run)
    whole, part = (grid_spec(view_of(run, search=text), places, known["Gini"]) for text in ("", "1:2"))
    assert whole.colour.bounds == part.colour.bounds


def test_the_grid_has_a_cell_for_every_head_at_its_place(store, run):
    spec = grid_spec(view_of(run), places_of(run), measures(run)["Gini"])
    stored = store.read(run, "heads").set_index(["layer", "head"])["gini"]
    for row in spec.data.to_dict("records"):
        assert row["value"] == stored[int(row["layer"]), row["head"]]


def test_an_unknown_run_is_said_and_the_newest_shown(run, open_page):
    text = words_of(open_page(ATTENTION, run=HOSTILE))
    assert f"There is no run `{HOSTILE}` with heads" in text
    assert "Heads 1 to" in text


def test_a_model_with_a_hostile_name_is_only_text(store, open_page):
    found = make_heads(store, name=HOSTILE)
    for page, more in ((ATTENTION, {}), (HEAD, {"layer": "0", "head": "0"})):
        at = open_page(page, run=found.id, **more)
        for one in (*at.title, *at.markdown, *at.caption):
            assert "<img" not in re.sub(r"(`+).*?\1", "", str(one.value)).replace("\\<", ""), one.value


# ---------------------------------------------------------------------------------------------------------------------
# One head


def open_head(open_page, run, layer=0, head=0, **more):
    return open_page(HEAD, run=run.id, layer=str(layer), head=str(head), **more)


def test_a_head_shows_its_own_stored_numbers_and_their_place_in_the_model(store, run, open_page):
    at = open_head(open_page, run, 1, 2)
    assert at.title[0].value == "Head 1:2"
    heads = store.read(run, "heads").set_index(["layer", "head"])
    row = heads.loc[(1, 2)]
    assert at.metric[0].value == f"{100 * row['key_share']:.1f} %"
    below = (heads["key_share"] < row["key_share"]).sum() / (len(heads) - 1)
    assert at.metric[0].delta == f"above {100 * below:.0f} % of heads"
    assert f"It needs {row['keys']:,.1f} keys for 90 %" in words_of(at)


def test_the_largest_number_is_above_all_other_heads_and_the_smallest_above_none(store, run):
    places, known = places_of(run), measures(run)
    heads = store.read(run, "heads", order_by=[Order("gini")])
    least, most = (find(places, str(one["layer"]), str(one["head"])) for one in (heads.iloc[0], heads.iloc[-1]))
    assert places_among(run, row_of(run, least), known)["Gini"] == 0
    assert places_among(run, row_of(run, most), known)["Gini"] == 1


def test_attention_by_distance_adds_up_to_one_over_all_bins(run):
    head = find(places_of(run), "0", "1")
    spec = distance_spec(run, head, row_of(run, head))
    assert spec.data["mass"].sum() == pytest.approx(1, abs=1e-6)
    assert spec.data["distance"].tolist() == ["0", "1", "2–3", "4–7", "8–15", "16–31", "32–63"]


def test_more_of_the_attention_needs_more_keys(store, run):
    head = find(places_of(run), "0", "1")
    row = row_of(run, head)
    data = mass_spec(run, head, row).data
    assert data["mass"].tolist() == ["50 %", "90 %", "95 %", "99 %"]
    assert (np.diff(data["value"]) > 0).all()
    assert data["value"].iloc[1] == pytest.approx(row["keys"])
    assert data["share"].iloc[1] == pytest.approx(row["key_share"])


def test_the_curve_over_position_is_the_stored_one_beside_the_median_of_all_heads(store, run):
    head = find(places_of(run), "1", "3")
    data = position_spec(run, head, by_position(run)["keys"]).data
    stored = store.read(run, "head_positions")
    mine = stored[(stored["layer"] == 1) & (stored["head"] == 3)]
    assert data[data["who"] == "head 1:3"]["value"].tolist() == mine["keys"].tolist()
    median = data[data["who"] != "head 1:3"]
    assert median["value"].tolist() == stored.groupby("position_from")["keys"].median().tolist()
    assert (median["low"] <= median["value"]).all() and (median["value"] <= median["high"]).all()
    assert data["position"].min() == mine["position_from"].min() + 1


def test_the_heads_with_the_largest_numbers_can_be_asked_for(store, run, open_page):
    stored = store.read(run, "heads", order_by=[Order("gini", descending=True)])
    at = open_page(ATTENTION, run=run.id, only="Gini", largest="5")
    text = words_of(at)
    assert "Heads 1 to 5 of 5." in text, "of eight"
    shown = next(one.value for one in at.dataframe if "gini" in one.value.columns)
    assert sorted(shown["gini"]) == sorted(stored["gini"].head(5))
    every = open_page(ATTENTION, run=run.id, only="Gini", largest="500")
    assert f"of {len(stored)}." in words_of(every)
    low = float(stored["gini"].iloc[2])
    both = open_page(ATTENTION, run=run.id, only="Gini", largest="5", **{"from": str(low - 1e-9)})
    assert "Heads 1 to 3 of 3." in words_of(both), "both bounds hold"


def test_measures_with_a_parameter_have_curves_over_position_too(store, run):
    head, known = find(places_of(run), "1", "3"), by_position(run)
    assert {"keys for 50%", "keys for 95%", "share of keys for 99%", "below 0.001", "within 16 tokens", "first four tokens"} <= set(known)
    spec = position_spec(run, head, known["keys for 95%"])
    stored = store.read(run, "head_position_levels")
    mine = stored[(stored["measure"] == "keys") & (stored["level"] == 0.95)]
    own = mine[(mine["layer"] == 1) & (mine["head"] == 3)]
    assert spec.data[spec.data["who"] == "head 1:3"]["value"].tolist() == own["value"].tolist()
    assert spec.data[spec.data["who"] != "head 1:3"]["value"].tolist() == mine.groupby("position_from")["value"].median().tolist()
    assert "so much of a query's attention (keys for 95%)" in spec.sentence


def test_cross_attention_has_no_curve_of_local_mass(t5):
    place = next(one for one in places_of(t5) if one.row["crosses"])
    with pytest.raises(FigureError, match="this head has no within 16 tokens at any position"):
        position_spec(t5, Head(place, 0), by_position(t5)["within 16 tokens"])


@pytest.mark.parametrize(
    ("slope", "words"), [(0.0, "hardly"), (0.5, "slower"), (1.0, "the same share"), (1.5, "faster"), (-0.5, "shrinks"), (None, "not known")]
)
def test_the_slope_is_said_in_words(slope, words):
    assert words in slope_words({"slope": slope})


def test_a_head_without_a_number_says_so_instead_of_showing_none(t5, open_page):
    place = next(one for one in places_of(t5) if one.row["crosses"])
    at = open_head(open_page, t5, place.layer, 0, hook=place.hook_name)
    text = words_of(at)
    assert "cross-attention" in text
    assert "Nothing to draw: queries and keys of cross-attention are different sequences" in text
    assert "This head has no number for" in text and "local" in text
    assert not re.search(r"\b(None|nan|NULL)\b", text.partition("Where these")[0].replace("None of", ""))
    nothing = dict.fromkeys(("keys", "key_share", "first_mass", "local_mass"))
    assert state(nothing).startswith("None of its queries has two valid keys")


def test_next_goes_through_all_heads_across_layers_and_around_the_end(run):
    places = places_of(run)
    seen, head = [], Head(places[0], 0)
    for _ in range(sum(place.n_heads for place in places)):
        seen.append(head.name)
        head = step(places, head, 1)
    assert seen == [f"{place.layer}:{i}" for place in places for i in range(place.n_heads)]
    assert head.name == "0:0" and step(places, head, -1).name == seen[-1]


def test_the_buttons_lead_to_the_next_head_and_to_the_same_one_of_the_next_layer(run, open_page):
    at = open_head(open_page, run, 0, 3, curve="span")
    at.button(key="next").click().run()
    assert at.title[0].value == "Head 1:0"
    assert at.selectbox(key="curve").value == "span", "what is looked at goes along"
    at.button(key="layer_before").click().run()
    assert at.title[0].value == "Head 0:0"
    assert at.button(key="layer_before").disabled


def test_the_same_head_of_another_layer_is_one_of_the_same_kind_of_attention(t5):
    places = places_of(t5)
    for place in places:
        for by in (-1, 1):
            other = in_layer(places, Head(place, 0), by)
            if other is not None:
                assert other.place.row["crosses"] == place.row["crosses"]
                assert other.place.hook_name.split(".")[0] == place.hook_name.split(".")[0]
    assert any(in_layer(places, Head(place, 0), 1) for place in places)


def test_two_places_of_a_layer_are_told_apart_by_their_kind(t5):
    labels = [place.label for place in places_of(t5)]
    assert len(set(labels)) == len(labels)
    assert sorted(labels[-2:]) == ["3 causal", "3 cross-attention"]


def test_shared_layers_are_told_apart_by_their_call(albert, open_page):
    places = places_of(albert)
    assert len({place.label for place in places}) == len(places) == 2
    second = Head(places[1], 0)
    assert second.query(albert)["turn"] == "1"
    at = open_page(HEAD, **second.query(albert))
    assert at.title[0].value == "Head 0:0"
    assert in_layer(places, second, -1) == Head(places[0], 0)


def test_what_is_typed_leads_to_a_head_or_is_refused_in_a_sentence(run, open_page):
    places = places_of(run)
    assert [jump(places, typed, places[1]).name for typed in ("0:2", "L0H2", "0.2", "3")] == ["0:2", "0:2", "0:2", "1:3"]
    for typed, words in (("9:0", "layer must be one of 0 to 1"), ("0:99", "must be 0 to 3"), ("x", "layer:head")):
        with pytest.raises(UserError, match=words):
            jump(places, typed, places[0])
    at = open_head(open_page, run)
    at.text_input(key="jump").set_value("9:9").run()
    assert not at.exception and at.title[0].value == "Head 0:0"
    assert "the layer must be one of 0 to 1, got 9" in words_of(at)


@pytest.mark.parametrize(
    ("query", "title", "words"),
    [
        ({}, "No head chosen", "Choose"),
        ({"run": "no-such-run"}, "No such head", "There is no run `no-such-run`"),
        ({"layer": "77", "head": "0"}, "No such head", "the layer must be one of 0 to 1, got 77"),
        ({"layer": "0", "head": "-1"}, "No such head", "two whole numbers"),
    ],
)
def test_an_address_of_no_head_is_answered_in_words(run, open_page, query, title, words):
    asked = query if not query or "run" in query else {"run": run.id, **query}
    at = open_page(HEAD, **asked)
    assert at.title[0].value == title
    shown = words_of(at) + " ".join(link.proto.label for link in at.get("page_link"))
    assert words in shown


def test_every_chart_has_its_sentence_and_an_alternative_text(run, open_page):
    for page, more, n in ((ATTENTION, {}, 2), (HEAD, {"layer": "0", "head": "0"}, 3)):
        at = open_page(page, run=run.id, **more)
        charts = at.get("plotly_chart")
        assert len(charts) == n
        for chart in charts:
            assert json.loads(chart.proto.spec)["data"]
        assert len(re.findall(r"n = \d", words_of(at))) >= n
