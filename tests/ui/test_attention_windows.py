"""Patterns, similar heads and stored windows on the pages of attention, over sealed runs on tiny seeded models."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis.attention.looked_at import top_tokens
from analysis.attention.patterns_tables import HEADS as PATTERN_HEADS
from store import Filter, Store
from tests.attention_run import make_examples, make_heads, make_patterns
from ui.attention import matrix, windows
from ui.attention.charts import grid_spec, words_spec
from ui.attention.head_page import copying_words, pattern_words
from ui.attention.heads import Head, places_of
from ui.attention.matrix import drawn, kept_spec, whole_spec
from ui.attention.measures import OF_PATTERNS, pattern_measures
from ui.attention.patterns import NO_WORD
from ui.attention.similar import neighbours, tree_figure
from ui.attention.thumbnails import thumbnails_spec
from ui.attention.view import View
from ui.attention.windows import Window, strip_of

ATTENTION, HEAD = "pages/attention.py", "pages/head.py"
MAKERS = {"heads": make_heads, "patterns": make_patterns, "examples": make_examples}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sealed files, made once."""
    store = Store(tmp_path_factory.mktemp("made") / "store")
    return {(family, what): make(store, family) for family in ("llama", "t5", "vit") for what, make in MAKERS.items()}


@pytest.fixture
def runs(store, made):
    """All of them, in the store that the pages show."""
    for run in made.values():
        path = store.folder / "runs" / run.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.path, path)
        store.register(path)
    return {key: store.find(run.id) for key, run in made.items()}


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def strips_of(at):
    """What the page hands to the strips, as text."""
    found = [one.proto.json for one in at.get("bidi_component") if one.proto.json]
    assert found
    return json.dumps([json.loads(one) for one in found])


def view_of(runs, family="llama", **more):
    return View(**({"run": runs[family, "heads"], "place": None, "measure": None, "bounds": (None, None), "search": "",
                    "patterns": runs[family, "patterns"]} | more))  # fmt: skip


def window_of(store, runs, family, head, number=0, queries=(), keys=()):
    run = runs[family, "examples"]
    where = [*head.where, Filter("window", "=", number)]
    return Window(run, head, number, "here", queries, keys, store.read(run, "head_examples", where=where, order_by=["query"]))


# ---------------------------------------------------------------------------------------------------------------------
# Tokens


def test_tokens_are_ranked_by_the_attention_they_get_and_by_how_sharply_they_look():
    rows = pd.DataFrame(
        {
            "window": [0, 0, 0, 1, 1],
            "query": [1, 2, 3, 1, 2],
            "keys": [[0, 1], [0], [2, 0], [1, 0], [0]],
            "weights": [[0.75, 0.25], [1.0], [0.5, 0.25], [0.5, 0.5], [0.5]],
        }
    )
    text = {0: ("the", "cat", "sat", "cat"), 1: ("a", "cat", "sat")}
    at, out_of = top_tokens(rows, text, text)
    assert at["token"].tolist() == ["the", "a", "cat", "sat"]
    assert at["attention"].tolist() == pytest.approx([2.0 / 5, 1.0 / 5, 0.75 / 5, 0.5 / 5])
    assert at["positions"].tolist() == [1, 1, 3, 2]
    assert out_of["token"].tolist() == ["sat", "cat"], "one query of a token would say little"
    assert out_of["attention"].tolist() == pytest.approx([(1.0 + 0.5) / 2, (0.75 + 0.5 + 0.5) / 3])
    assert out_of["queries"].tolist() == [2, 3]


def test_the_head_page_shows_as_many_tokens_as_asked_for(store, runs, open_page):
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    asked = {"run": runs["llama", "heads"].id, "layer": "0", "head": "1"}
    rows = store.read(runs["llama", "examples"], "head_examples", where=head.where)
    for most in (10, 20):
        at = open_page(HEAD, **asked, **({} if most == 10 else {"tokens": str(most)}))
        shown = [one.value for one in at.dataframe if list(one.value.columns) == ["token", "attention", "positions"]]
        assert [len(one) for one in shown] == [most]
        assert shown[0]["attention"].is_monotonic_decreasing
        assert shown[0]["attention"].sum() < rows["weights"].map(sum).mean()
    assert "of the attention of" in words_of(at)


def test_patches_of_an_image_have_no_tokens_to_rank(runs, open_page):
    at = open_page(HEAD, run=runs["vit", "heads"].id, layer="0", head="1")
    assert not [one for one in at.dataframe if "positions" in one.value.columns]
    assert "### Tokens" not in words_of(at)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes


def test_every_number_of_a_pattern_can_be_chosen_and_has_one_name():
    assert set(OF_PATTERNS.values()) == {column.name for column in PATTERN_HEADS.columns if column.type == "float"}


def test_a_shape_is_filtered_by_the_database_and_the_grid_shows_the_stored_words(store, runs, open_page):
    stored = store.read(runs["llama", "patterns"], "head_patterns")
    spec = words_spec(view_of(runs), places_of(runs["llama", "heads"]), "shape")
    shown = {(int(row["at"]), row["head"]): row["word"] for row in spec.data.to_dict("records")}
    assert shown == {(row["layer"], row["head"]): row["shape"] for row in stored.to_dict("records")}
    shape = stored["shape"].iloc[0]
    wanted = stored[stored["shape"] == shape]
    at = open_page(ATTENTION, run=runs["llama", "heads"].id, shape=shape, more="shape")
    assert at.dataframe[0].value["name"].tolist() == [f"{row.layer}:{row.head}" for row in wanted.itertuples()]
    assert set(at.dataframe[0].value["shape"]) == {shape}
    some = words_spec(view_of(runs, shapes=(shape,)), places_of(runs["llama", "heads"]), "shape")
    assert len(some.data) == len(wanted)


def test_a_number_of_the_patterns_colours_the_grid_by_head(store, runs):
    known = pattern_measures(runs["llama", "patterns"])
    spec = grid_spec(view_of(runs), places_of(runs["llama", "heads"]), known["recall of HiP"])
    stored = store.read(runs["llama", "patterns"], "head_patterns").set_index(["layer", "head"])["hip_recall"]
    assert [stored[int(row["layer"]), row["head"]] for row in spec.data.to_dict("records")] == spec.data["value"].tolist()
    assert len(spec.data) == len(stored)


def test_a_head_says_its_shape_its_class_and_how_much_that_keeps(store, runs, open_page):
    row = store.read(runs["llama", "patterns"], "head_patterns", where=[Filter("layer", "=", 1), Filter("head", "=", 2)]).iloc[0]
    text = words_of(open_page(HEAD, run=runs["llama", "heads"].id, layer="1", head="2"))
    recall = max(row["a_shape_recall"], row["lines_recall"], row["blocks_recall"])
    assert f"looks like this: {row['shape']} (" in text and f"classes {row['pattern']} suits it best" in text
    kept = float(re.search(r"it keeps ([\d.]+) %", text)[1]) / 100
    assert recall - 0.002 < kept < recall + 0.001, "the simpler class where two are within .001"


def test_heads_of_cross_attention_have_no_shape_and_say_so(runs):
    places = places_of(runs["t5", "heads"])
    spec = words_spec(view_of(runs, "t5"), places, "shape")
    crosses = {i for i, place in enumerate(places) if place.row["crosses"]}
    assert {row["at"] for row in spec.data.to_dict("records") if row["word"] == NO_WORD} == crosses


def test_without_the_other_analyses_the_pages_say_how_to_run_them(store, open_page):
    run = make_heads(store)
    text = words_of(open_page(ATTENTION, run=run.id))
    assert "run head_patterns --model" in text and "run head_examples --model" in text
    text = words_of(open_page(HEAD, run=run.id, layer="0", head="1"))
    assert "run head_patterns --model" in text and "run head_examples --model" in text


# ---------------------------------------------------------------------------------------------------------------------
# Similar heads


def test_every_other_head_of_the_layer_is_a_pair_once(store, runs):
    place = places_of(runs["llama", "heads"])[1]
    pairs = neighbours(runs["llama", "patterns"], Head(place, 2))
    inside = pairs[pairs["within"]]
    assert sorted(inside["head"]) == [0, 1, 3] and set(inside["layer"]) == {1}
    row = store.read(runs["llama", "patterns"], "head_patterns", where=Head(place, 2).where).iloc[0]
    assert inside["divergence"].min() == pytest.approx(row["nearest_divergence"])


def test_the_tree_has_a_joint_at_the_height_of_every_merge(store, runs):
    place = places_of(runs["llama", "heads"])[0]
    merges, heads = (store.read(runs["llama", "patterns"], one, where=place.where) for one in ("head_merges", "head_patterns"))
    near = float(merges["distance"].median())
    figure = tree_figure(merges, heads.sort_values("leaf"), near, 1)
    lines = {trace.name: [y for y in trace.y if y is not None] for trace in figure.data if trace.mode == "lines"}
    assert sorted({max(ys[i : i + 4]) for ys in lines.values() for i in range(0, len(ys), 4)}) == sorted(merges["distance"])
    assert max(lines[f"joined below {near:g}"]) <= near < min(ys for ys in lines["joined above"] if ys > near)
    foot = figure.data[-1]
    assert sorted(foot.x) == list(range(len(heads))) and sum(size == max(foot.marker.size) for size in foot.marker.size) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Stored windows


def test_a_strip_points_where_the_stored_weights_are(store, runs):
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    window = window_of(store, runs, "llama", head, 1, *[tuple(f"t{i}" for i in range(64))] * 2)
    strip = strip_of(window)
    for row in window.rows.to_dict("records"):
        assert strip.looks[row["query"]] == tuple(zip(row["keys"].tolist(), row["weights"].tolist(), strict=True))
    assert sum(strip.values) == pytest.approx(window.rows["mass_kept"].mean(), abs=1e-3), "what tokens get is what was kept"
    assert not strip.looked_at


def test_a_long_window_is_cropped_and_says_so(store, runs, open_page, monkeypatch):
    monkeypatch.setattr(windows, "LONGEST", 10)
    monkeypatch.setattr(matrix, "SIDE", 12)
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    strip = strip_of(window_of(store, runs, "llama", head, 0, *[tuple(f"t{i}" for i in range(64))] * 2))
    assert len(strip.tokens) == len(strip.looks) == 10 and strip.cut_after
    assert all(key < 10 for looks in strip.looks if looks is not None for key, _ in looks)
    at = open_page(HEAD, **(head.query(runs["llama", "heads"]) | {"matrix": "the largest keys"}))
    assert "Cropped: the first 10 of 64 tokens" in words_of(at)
    assert "Cropped: the picture shows the first 12 of 64 tokens" in words_of(at)


def test_cross_attention_points_to_the_tokens_of_the_other_sequence(store, runs):
    place = next(one for one in places_of(runs["t5", "heads"]) if one.row["crosses"])
    found = store.read(runs["t5", "examples"], "head_windows", where=[Filter("window", "=", 0)]).set_index("stream")["tokens"]
    window = window_of(store, runs, "t5", Head(place, 0), 0, tuple(found["decoder"]), tuple(found["input"]))
    strip = strip_of(window)
    assert strip.tokens == window.queries and strip.looked_at == window.keys
    assert all(key < len(window.keys) for looks in strip.looks if looks for key, _ in looks)


def test_an_image_has_a_matrix_but_no_text(runs, open_page):
    at = open_page(HEAD, run=runs["vit", "heads"].id, layer="0", head="0")
    assert "no tokens" in words_of(at)
    assert "each row adds up to 1" in words_of(at)


def matrix_of(store, runs, most, least):
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    window = window_of(store, runs, "llama", head)
    spec = kept_spec(runs["llama", "examples"], head.name, window.rows, (), (), most, least)
    return window, spec


def test_all_stored_keys_keep_the_stored_mass_and_one_the_largest_weight(store, runs):
    for most, mass in ((8, lambda rows: rows["mass_kept"]), (1, lambda rows: rows["weights"].str[0])):
        window, spec = matrix_of(store, runs, most, 0.0)
        assert spec.data.groupby("query")["attention"].sum().to_numpy() == pytest.approx(mass(window.rows).to_numpy(), abs=1e-4)
        assert (spec.data["attention"] > 0).groupby(spec.data["query"]).sum().max() == most
        assert f"{100 * mass(window.rows).mean():.1f} % of the attention" in spec.sentence


def test_a_threshold_keeps_what_reaches_it_and_says_where_more_may_be(store, runs):
    window, spec = matrix_of(store, runs, None, 0.05)
    kept = spec.data["attention"][spec.data["attention"] > 0]
    assert kept.min() >= 0.05
    assert len(kept) == sum((weights >= 0.05).sum() for weights in window.rows["weights"])
    _, low = matrix_of(store, runs, None, 1e-9)
    assert any("may have more such weights than the 8" in note for note in low.notes)


def test_a_causal_matrix_is_blank_where_nobody_may_look(store, runs):
    _, spec = matrix_of(store, runs, 8, 0.0)
    assert (spec.data["key"] <= spec.data["query"]).all()
    assert len(spec.data) == 64 * 65 // 2


def test_the_whole_matrix_leaves_nothing_out_and_the_switches_change_only_the_picture(runs):
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    where = (*head.where, Filter("window", "=", 0))
    spec = whole_spec(runs["llama", "examples"], head.name, where, [f"t{i}" for i in range(64)], [f"t{i}" for i in range(64)])
    assert spec.data.groupby("query")["attention"].sum().to_numpy() == pytest.approx(np.ones(64), abs=1e-2)
    assert spec.data["key token"].iloc[5] == "t5"
    plain, bare, log = (drawn(spec, log=log, sink=sink) for log, sink in ((False, True), (False, False), (True, True)))
    assert plain.data["attention"].tolist() == spec.data["attention"].tolist()
    assert bare.data["attention"][bare.data["key"] == 0].isna().all() and bare.data["attention"][bare.data["key"] > 0].notna().all()
    assert log.colour.scale == "log" and (log.data["attention"].dropna() > 0).all()


def test_pictures_of_a_layer_show_every_head_apart(store, runs):
    place = places_of(runs["llama", "heads"])[1]
    where = [*place.where, Filter("window", "=", 0)]
    rows = store.read(runs["llama", "examples"], "head_maps", where=where, order_by=["head"])
    data = thumbnails_spec(rows, runs["llama", "examples"], place, 0).data
    ends = data.dropna(subset=["value"]).groupby("head")["x"].agg(["min", "max"])
    assert len(ends) == 4 and (ends["min"].to_numpy()[1:] == ends["max"].to_numpy()[:-1] + 2).all()
    sums = (data.dropna(subset=["value"]).assign(value=lambda one: one["value"] ** 2)).groupby(["head", "y"])["value"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(sums)), abs=1e-2), "each row of cells adds up to 1 before the root"


def test_text_that_looks_like_html_goes_to_the_strip_as_it_is_and_into_no_markdown(runs, open_page, monkeypatch):
    hostile = "<img src=x onerror=alert(1)>"
    real = windows._chosen
    monkeypatch.setattr(windows, "_chosen", lambda *args: dataclasses.replace(real(*args), queries=(hostile,) * 64, keys=(hostile,) * 64))
    at = open_page(HEAD, run=runs["llama", "heads"].id, layer="0", head="1")
    assert "<img" not in "\n".join(str(one.value) for kind in (at.markdown, at.caption) for one in kind).replace("\\<", "")
    assert hostile in strips_of(at)


@pytest.mark.parametrize(("score", "words"), [(1.0, "it copies"), (0.5, "little to do"), (0.0, "works against")])
def test_the_copying_score_is_said_in_words(score, words):
    assert words in copying_words(score)


def test_what_is_moved_takes_the_place_of_attention_largest_first(store, runs, open_page):
    head = Head(places_of(runs["llama", "heads"])[0], 1)
    window = window_of(store, runs, "llama", head, 0, *[tuple(f"t{i}" for i in range(64))] * 2)
    strip = strip_of(window, "moved")
    for row in window.rows.to_dict("records"):
        found = dict(strip.looks[row["query"]])
        assert found == dict(zip(row["keys"].tolist(), row["moved"].tolist(), strict=True))
        assert list(found.values()) == sorted(found.values(), reverse=True)
    at = open_page(HEAD, **(head.query(runs["llama", "heads"]) | {"shares": "what is moved"}))
    assert "how much of what is moved" in strips_of(at)


def test_an_address_that_fits_no_run_falls_back_to_what_there_is(runs, open_page):
    address = {"kept": "99", "matrix": "the largest keys", "window": "none such", "shares": "nothing"}
    text = words_of(open_page(HEAD, run=runs["llama", "heads"].id, layer="0", head="1", **address))
    assert "number 1 of 4 windows kept" in text and "with the 8 largest weights of each query alone" in text
    at = open_page(ATTENTION, run=runs["llama", "heads"].id, shape="no such shape", alike="77", more="nothing like it")
    assert "Heads 1 to 8 of 8." in words_of(at)


@pytest.mark.parametrize(("pattern", "kept"), [("A-shape", "10.0 %"), ("vertical-slash", "20.0 %"), ("block-sparse", "30.0 %")])
def test_the_class_is_told_with_its_own_recall(pattern, kept):
    row = {"shape": "local", "shape_agreement": 1.0, "n_windows": 4, "pattern": pattern, "keys": 8, "oracle_mass": 0.9}
    said = pattern_words(row | {"a_shape_recall": 0.1, "lines_recall": 0.2, "blocks_recall": 0.3})
    assert f"{pattern} suits it best: with 8 keys per query it keeps {kept} of the attention" in said
