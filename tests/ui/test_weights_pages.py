"""The pages of weights over real sealed runs of small seeded checkpoints: what was planted is told, named, drawn and linked."""

import json
import re
import time

import pytest

from store import Filter, Order, Store
from tests import zoo
from tests.neuron_run import make_neurons
from tests.weight_runs import DEAD, DEAD_ROWS, FIRST, HOSTILE_TENSOR, JUMP, N_LAYERS, OFFENDER, dense_state, make_weights
from ui import data
from ui.charts import clickable
from ui.runs import beside, readable, weights_of
from ui.serve import FOLDERS_VARIABLE, STORE_VARIABLE
from ui.weights import charts, maps, over_time, runs, verdict
from ui.weights.view import MEASURES

WEIGHTS, TENSOR = "pages/weights.py", "pages/tensor.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("weights")
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        found = make_weights(folder)
        yield found
        found.store.close()


@pytest.fixture
def shown(made, monkeypatch):
    """The store with all runs, which the pages show."""
    monkeypatch.setenv(STORE_VARIABLE, str(made.store.folder))
    monkeypatch.setenv(FOLDERS_VARIABLE, str(made.folder))
    return made


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.error, at.success, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def specs_of(at):
    return [json.loads(one.proto.spec) for one in at.get("plotly_chart")]


def links_of(at):
    return [(one.proto.label, one.proto.page, one.proto.query_string) for one in at.get("page_link")]


def of(run, tensor):
    return {"run": run.id, "tensor": tensor}


# ---------------------------------------------------------------------------------------------------------------------
# All weights


def test_without_a_run_the_page_says_which_command_makes_one(store, open_page):
    at = open_page(WEIGHTS)
    assert "No weights have been measured yet" in words_of(at)
    assert any("run weight_sparsity --model smollm2" in code.value for code in at.code)


def test_a_checkpoint_that_is_2_of_4_is_confirmed_with_its_denominator(shown, open_page):
    at = open_page(WEIGHTS, run=shown.pruned.id)
    assert "This checkpoint is 2 of 4 kept in 13 of 13 matrices" in words_of(at)
    assert not at.error


def test_one_that_claims_2_of_4_and_is_not_is_refuted_with_the_first_group_and_a_link_to_it(shown, open_page):
    at = open_page(WEIGHTS, run=shown.half.id)
    said = words_of(at)
    assert "claims to be 2 of 4 kept and is not: 12 of 13 matrices are" in said.replace("**", "")
    assert f"First offending group: `{OFFENDER}`, row {FIRST[0]}, group {FIRST[1]}, with 3 non-zeros." in said
    assert any("tensor" in page and "down_proj" in query for _, page, query in links_of(at))


def test_one_that_claims_nothing_is_told_how_many_are_2_of_4_all_the_same(shown, open_page):
    said = words_of(open_page(WEIGHTS, run=shown.dense.id))
    assert "No N of M is claimed, and 0 of 13 matrices are 2 of 4 kept." in said
    assert "dense 14" in said and "3 vectors" in said


def test_too_narrow_for_a_group_is_said_as_such():
    claim = {"pattern": "2 of 4 kept", "source": "its name", "confirmed": False, "n_matrices": 2, "n_conforming": 1, "tensor": "w",
             "first_line": None, "first_group": None, "first_nonzeros": None}  # fmt: skip
    assert "too narrow for a group" in verdict.claim_words(claim)


def test_every_tensor_is_a_rectangle_of_its_size_and_every_block_matrix_a_cell(shown, open_page):
    tree, heat = specs_of(open_page(WEIGHTS, run=shown.half.id, measure="zeros"))[:2]
    [trace] = tree["data"]
    stored = shown.store.read(shown.half, "tensors")
    assert len(trace["ids"]) == len(stored) + N_LAYERS + 2
    areas = [value for value, one in zip(_numbers(trace["values"]), trace["ids"], strict=True) if one.startswith("row ")]
    assert sorted(areas) == sorted(stored["n_weights"])
    z = _numbers(heat["data"][0]["z"])
    assert sum(one is not None and one == one for one in z) == 13
    cells = heat["data"][1]
    assert len(cells["x"]) == 13 and cells["mode"] == "markers"


def _numbers(values):
    import base64

    import numpy as np

    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def test_a_click_on_a_cell_opens_its_tensor(shown, open_page):
    at = open_page(WEIGHTS, run=shown.half.id)
    at.session_state[maps.OPEN] = OFFENDER
    at.run()
    assert not at.exception
    assert at.title[0].value == f"`{OFFENDER}`"


def test_points_of_the_map_are_in_step_with_the_rows_they_open(shown, monkeypatch):
    monkeypatch.setattr(maps, "ask", asking(shown.store))
    found = maps.shown_of(shown.half, MEASURES["zeros"], None)
    assert (found.n_tensors, found.n_matrices) == (17, 13)
    spec = maps.map_spec(shown.half, found)
    points = clickable(spec).data[1]
    for x, y, (row,) in zip(points.x, points.y, points.customdata, strict=True):
        assert f".{x}." in spec.data["tensor"][row]
        assert (
            spec.data["tensor"][row].endswith(spec.data["place"][row])
            and y.replace("&lt;", "<").replace("&gt;", ">") == spec.data["place"][row]
        )


def asking(store):
    return lambda run, question, table, **more: getattr(store, question)(run, table, **more)


def test_a_measure_of_another_analysis_is_offered_once_it_has_been_run(shown, open_page):
    assert "stable rank" in open_page(WEIGHTS, run=shown.half.id).selectbox(key="measure").options
    assert "stable rank" not in open_page(WEIGHTS, run=shown.dense.id).selectbox(key="measure").options
    at = open_page(WEIGHTS, run=shown.half.id, measure="stable rank")
    assert "Stable rank / that of a random matrix of each matrix in the blocks" in words_of(at)


@pytest.mark.parametrize(
    "measure, variant, words, table, column, only",
    [
        ("N of M groups", {"pattern": "4 of 8 kept"}, "Groups that are 4 of 8", "tensor_patterns", "conforming_share", "along = 'input'"),
        ("N of M energy", {"pattern": "1 of 4 kept"}, "Energy kept by 1 of 4", "tensor_patterns", "retained_energy", "along = 'input'"),
        ("zero tiles", {"side": "4"}, "All-zero tiles of side 4", "tensor_blocks", "zero_tile_share", ""),
        ("density under a ratio", {"method": "lamp"}, "Density that lamp would give", "layer_ratios", "tensor_density", "shown"),
        ("change from a base", {}, "Change from dense.safetensors", "tensor_diffs", "relative_change", ""),
        ("NaN or infinite", {}, "NaN or infinite weights", "tensors", "n_nonfinite", ""),
    ],
)
def test_the_pictures_are_coloured_by_every_variant_of_a_measure(shown, open_page, measure, variant, words, table, column, only):
    run = {"layer_ratios": shown.ratios, "tensor_diffs": shown.diff}.get(table, shown.half)
    at = open_page(WEIGHTS, run=shown.half.id, measure=measure, **variant)
    assert f"{words} (" in words_of(at)
    where = [Filter(name, "=", int(value) if name == "side" else value) for name, value in variant.items()]
    if only == "shown":
        where += [Filter("density", "=", shown.store.provenance(run)["facts"]["shown_density"])]
    elif only:
        where += [Filter("along", "=", "input")]
    stored = shown.store.read(run, table, where=where).set_index("tensor")[column]
    inside = [one for one in stored.index if ".layers." in one and stored[one] == stored[one] and "layernorm" not in one]
    drawn = [one for one in _numbers(specs_of(at)[1]["data"][0]["z"]) if one is not None and one == one]
    assert sorted(drawn) == pytest.approx(sorted(stored[inside])) and len(drawn) == 13


def test_ratios_and_changes_are_offered_once_they_have_been_asked_for(shown, open_page):
    at = open_page(WEIGHTS, run=shown.dense.id)
    assert not {"density under a ratio", "change from a base"} & set(at.selectbox(key="measure").options)
    assert "zero tiles" in at.selectbox(key="measure").options
    assert not [one for one in at.selectbox if one.key in ("pattern", "side", "method")], "variants stand behind their measure"


def test_the_table_is_filtered_sorted_and_paged_by_the_database(shown, open_page):
    at = open_page(WEIGHTS, run=shown.half.id, layer="2", sort="zeros")
    order = [Order("zero_share", descending=True)]
    stored = shown.store.read(shown.half, "tensors", where=[Filter("layer", "=", 2)], order_by=order)
    assert at.dataframe[0].value["tensor"].tolist() == stored["tensor"].tolist()
    assert at.dataframe[0].value["tensor"][0] == DEAD
    assert "Tensors 1 to 5 of 5." in words_of(at)
    at.text_input(key="name").set_value("nowhere").run()
    assert "No tensor meets all of these filters" in words_of(at)


def test_a_structure_and_a_bound_keep_only_what_meets_both(shown, open_page):
    at = open_page(WEIGHTS, run=shown.half.id, structure="2 of 4 kept", **{"only": "zeros", "from": "0.51"})
    assert at.dataframe[0].value["tensor"].tolist() == [DEAD], "the two dead rows are what is above one half"


def test_many_tensors_are_thinned_to_the_largest_and_that_is_said(shown, monkeypatch):
    monkeypatch.setattr(maps, "ask", asking(shown.store))
    monkeypatch.setattr(maps, "DRAWN", 4)
    monkeypatch.setattr(maps, "ROLES", 2)
    found = maps.shown_of(shown.half, MEASURES["zeros"], None)
    assert (len(found.tree), found.n_tensors) == (4, 17)
    assert "n = 4 of 17 tensors" in maps.treemap_spec(shown.half, found).sentence
    drawn = maps.map_spec(shown.half, found)
    assert set(drawn.data["place"]) == {"mlp.up_proj.weight", "mlp.down_proj.weight"}
    assert drawn.data["layer"].nunique() == N_LAYERS, "fewer matrices, but those in every layer"
    assert "7 smaller matrices left out: the map holds 2 rows" in drawn.notes[0]


def test_two_towers_with_the_same_matrices_do_not_hide_each_other(shown):
    import pandas as pd

    names = [f"{tower}.layers.0.fc.weight" for tower in ("encoder", "decoder")]
    frame = pd.DataFrame({"tensor": names, "layer": [0, 0], "role": "fc.weight", "shape": [[2, 2]] * 2, "n_weights": 4, "n_rows": 2,
                          "structure": "dense", "value": [0.1, 0.2]})  # fmt: skip
    spec = maps.map_spec(shown.half, maps.Shown(frame, maps.largest_roles(frame), 2, 2, MEASURES["zeros"]))
    assert spec.data["place"].tolist() == ["encoder.layers.*.fc.weight", "decoder.layers.*.fc.weight"]


# ---------------------------------------------------------------------------------------------------------------------
# Beside another, and over a series


def test_the_difference_tells_the_mask_with_its_chance_level_and_lists_what_changed_most(shown, open_page):
    at = open_page(WEIGHTS, run=shown.half.id, view="beside another")
    said = words_of(at)
    assert "half-2of4 against dense.safetensors: pruned and retrained." in said.replace("**", "")
    metrics = {one.label: (one.value, one.delta) for one in at.metric}
    assert "by chance" in metrics["Mask overlap"][1]
    stored = shown.store.read(shown.diff, "tensor_diffs", order_by=[Order("relative_change", descending=True)])
    assert at.dataframe[0].value["tensor"].tolist() == stored["tensor"].tolist()


def test_the_base_of_a_comparison_finds_it_too_and_is_told_so(shown, open_page):
    said = words_of(open_page(WEIGHTS, run=shown.dense.id, view="beside another"))
    assert "is the base of that comparison" in said


def test_where_nothing_was_compared_the_page_says_how_to(shown, open_page):
    at = open_page(WEIGHTS, run=shown.pruned.id, view="beside another")
    assert "has not been compared with another one yet" in words_of(at)
    assert any("run checkpoint_diff" in code.value and "--with base=" in code.value for code in at.code)


def test_the_jump_is_marked_where_it_was_planted(shown, open_page):
    at = open_page(WEIGHTS, run=shown.last.id, view="over a series")
    shapes = specs_of(at)[0]["layout"]["shapes"]
    assert [shape["x0"] for shape in shapes] == [JUMP]
    assert specs_of(at)[0]["layout"]["annotations"][0]["text"] == "jump of 43 points"
    assert at.selectbox(key="step").value == str(JUMP), "the table begins at the jump"
    assert "None of the series measured holds" not in words_of(at)
    assert "None of the series measured holds half" in words_of(open_page(WEIGHTS, run=shown.half.id, view="over a series"))


def test_a_series_can_be_ordered_by_how_alike_each_tensor_is_to_the_one_before(shown, open_page):
    at = open_page(WEIGHTS, run=shown.last.id, view="over a series", by="mask overlap")
    step = (Filter("step", "=", JUMP),)
    stored = shown.store.read(shown.series, "timeline_tensors", where=step, order_by=[Order("mask_overlap")])
    assert at.dataframe[0].value["tensor"].tolist() == stored["tensor"].tolist()
    assert stored["mask_overlap"].iloc[0] < 0.6 < stored["mask_overlap"].iloc[-1], "the order means something"
    assert {"mask_overlap", "cosine", "norm_ratio"} <= set(at.dataframe[0].value.columns)
    assert "factorisations" in words_of(at), "what a series leaves out is said"


def test_a_series_without_a_jump_names_its_largest_rise_instead(shown):
    from dataclasses import replace

    from analysis.drawing import draw

    jump = {"measure": "zero_share", "jump": 0.021, "before_step": 100, "step": 200, "is_abrupt": False}
    spec, _ = draw(shown.store, shown.series, "sparsity")
    said = over_time.marked(replace(shown.series, summaries={"timeline_jumps": [jump]}), spec)
    assert not said.marks and "the largest rise is 2.1 points, from step 100 to 200" in said.notes[-1]


# ---------------------------------------------------------------------------------------------------------------------
# One tensor


def test_a_tensor_tells_its_structure_dead_rows_and_first_offending_group(shown, open_page):
    said = words_of(open_page(TENSOR, **of(shown.half, OFFENDER)))
    assert f"The first that does not: row {FIRST[0]}, group {FIRST[1]} (columns 12 to 15), with 3 non-zeros." in said
    said = words_of(open_page(TENSOR, **of(shown.half, DEAD)))
    assert "2 rows of 64 are all zero: 5, 9." in said.replace("**", "")
    assert "2 of 4 along the input: all 512 groups conform." in said
    assert list(DEAD_ROWS) == [5, 9]


def test_it_has_histogram_thumbnail_profiles_spectrum_and_densities(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, DEAD))
    said = words_of(at)
    for heading in ("Magnitudes", "The matrix", "Along its rows", "Along its columns", "Spectrum", "Density that methods would give it"):
        assert f"## {heading}" in said
    assert len(specs_of(at)) == 6
    assert "root mean square" in [one["text"] for one in specs_of(at)[0]["layout"]["annotations"]]
    assert "Beside another checkpoint" in said


def test_counts_in_the_histogram_are_those_that_are_not_zero(shown):
    row = data.first_row(shown.store.read(shown.half, "tensors", where=[Filter("tensor", "=", DEAD)]))
    bins = shown.store.read(shown.half, "tensor_histograms", where=[Filter("tensor", "=", DEAD)])
    spec = charts.histogram_spec(row, bins, 1e-3)
    assert spec.data["n_weights"].sum() == row["n_weights"] - row["n_zero"]
    assert f"{row['n_zero']:,} of them exact zeros" in spec.sentence


def test_the_thumbnail_shows_the_dead_rows_empty(shown):
    row = data.first_row(shown.store.read(shown.half, "tensors", where=[Filter("tensor", "=", DEAD)]))
    tiles = shown.store.read(shown.half, "tensor_tiles", where=[Filter("tensor", "=", DEAD)], order_by=["start"])
    spec = charts.thumbnail_spec(row, tiles)
    sums = spec.data.groupby("row")["rms"].sum()
    assert (sums.loc[list(DEAD_ROWS)] == 0).all() and (sums.drop(list(DEAD_ROWS)) > 0).all()


def test_what_was_not_measured_is_one_sentence_with_the_way_to_start_it(shown, open_page):
    at = open_page(TENSOR, **of(shown.dense, DEAD))
    assert "It has not been run on this model." in words_of(at)
    starts = [query for label, page, query in links_of(at) if "Start" in label]
    assert any("weight_spectrum" in query and "dense.safetensors" in query for query in starts)
    assert any("layer_ratios" in query for query in starts)
    assert any("run neuron_activity" in code.value for code in at.code)


def test_next_previous_and_the_layers_beside_change_the_address(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, "model.layers.1.mlp.up_proj.weight"))
    at.button(key="layer_after").click().run()
    assert _asked(at) == "model.layers.2.mlp.up_proj.weight"
    assert at.button(key="layer_after").disabled
    at.button(key="next").click().run()
    assert _asked(at) == "model.layers.2.self_attn.o_proj.weight"
    at.button(key="previous").click().run()
    assert _asked(at) == DEAD


def _asked(at):
    value = at.query_params["tensor"]
    return value[0] if isinstance(value, list) else value


def test_the_ends_have_no_neighbour(shown, open_page):
    names = shown.store.read(shown.half, "tensors", columns=["tensor"])["tensor"]
    assert open_page(TENSOR, **of(shown.half, names.iloc[0])).button(key="previous").disabled
    assert open_page(TENSOR, **of(shown.half, names.iloc[-1])).button(key="next").disabled


def test_the_jump_box_takes_a_name_or_part_of_one_and_answers_the_rest_in_words(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, DEAD))
    at.text_input(key="tensor_jump").set_value("embed").run()
    assert _asked(at) == "model.embed_tokens.weight"
    at.text_input(key="tensor_jump").set_value("q_proj").run()
    assert "is in more than one name" in words_of(at)
    at.button(key="candidate-model.layers.1.self_attn.q_proj.weight").click().run()
    assert _asked(at) == "model.layers.1.self_attn.q_proj.weight"
    at.text_input(key="tensor_jump").set_value("nowhere").run()
    assert "must hold what is typed in its name, got 'nowhere'" in words_of(at)


def test_a_vector_has_no_matrix_parts(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, "model.layers.0.input_layernorm.weight"))
    said = words_of(at)
    assert "## Magnitudes" in said and "## The matrix" not in said and "## N of M" not in said


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "No tensor chosen"),
        ({"run": "none"}, "There is no run `none` of weights"),
        ({"run": "../../etc/passwd"}, "There is no run"),
        ({"tensor": "nowhere"}, "has no tensor `nowhere`"),
        ({"tensor": "'; DROP TABLE tensors; --"}, "has no tensor"),
    ],
)
def test_an_address_of_no_tensor_is_answered_in_a_sentence(shown, open_page, query, words):
    given = {"run": shown.half.id} | query if "tensor" in query else query
    assert words in words_of(open_page(TENSOR, **given))


def test_a_name_with_html_is_shown_as_text_everywhere(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, HOSTILE_TENSOR))
    assert at.title[0].value == f"`{HOSTILE_TENSOR}`", "a code span, in which nothing is read as anything else"
    for page in (at, open_page(WEIGHTS, run=shown.half.id)):
        for spec in specs_of(page):
            assert "<img" not in json.dumps(spec)
        for one in (*page.markdown, *page.caption):
            assert "<img" not in re.sub(r"`[^`]*`", "", one.value).replace("\\<img", "")


@pytest.fixture
def measured(shown):
    """Neurons of the same weights: three layers of 64."""
    [one] = [run for run in readable("neuron_activity")] or [
        make_neurons(shown.store, name=weights_of(shown.half), n_layers=N_LAYERS, n_neurons=64, n_examples=1)
    ]
    return one


def test_the_dead_rows_of_an_up_projection_are_linked_as_the_neurons_they_are(shown, measured, open_page):
    at = open_page(TENSOR, **of(shown.half, DEAD))
    assert "Each of its rows writes one neuron of layer 2 (64 neurons)." in words_of(at)
    to_neurons = [query for _, page, query in links_of(at) if page == "neuron"]
    assert [re.search(r"neuron=(\d+)", query)[1] for query in to_neurons] == [str(row) for row in DEAD_ROWS]
    assert all(measured.id in query and "layer=2" in query for query in to_neurons)
    assert "Each of its columns is read from one neuron of layer 1" in words_of(open_page(TENSOR, **of(shown.half, OFFENDER)))


def test_an_attention_matrix_says_that_its_heads_have_not_been_measured(shown, open_page):
    at = open_page(TENSOR, **of(shown.half, "model.layers.0.self_attn.q_proj.weight"))
    assert "It belongs to an attention part." in words_of(at)
    assert any("run head_sparsity" in code.value for code in at.code)


def test_an_attention_matrix_is_linked_to_the_heads_it_belongs_to(store, open_page):
    import numpy as np

    from analysis import find_analysis
    from analysis.models import TextWindows, subject_from
    from analysis.runner import run
    from analysis.spec import make_config

    model = zoo.llama()[0]
    data = TextWindows.from_ids(np.random.default_rng(0).integers(0, 50, (2, 12)), document=np.arange(2))
    subject = subject_from(model, name="tiny", data=data)
    sealed = {slug: run(find_analysis(slug), {"model": subject}, make_config(find_analysis(slug).config, {}), store)
              for slug in ("weight_sparsity", "head_sparsity")}  # fmt: skip
    [tensor] = [name for name in store.read(sealed["weight_sparsity"], "tensors")["tensor"] if ".1." in name and "q_proj" in name]
    at = open_page(TENSOR, **of(sealed["weight_sparsity"], tensor))
    heads = model.config.num_attention_heads
    assert f"It belongs to the attention of layer 1, which has {heads} heads of queries." in words_of(at)
    [query] = [query for label, page, query in links_of(at) if "Heads of layer" in label]
    assert sealed["head_sparsity"].id in query and "site=1" in query


# ---------------------------------------------------------------------------------------------------------------------
# The model's own page


def test_the_models_page_says_what_its_weights_say(shown, open_page):
    at = open_page("pages/checkpoint.py", model=str(shown.folder / "half-2of4.safetensors"))
    said = words_of(at).replace("**", "")
    assert "What its weights say" in said
    assert "This checkpoint claims to be 2 of 4 kept and is not: 12 of 13 matrices are" in said
    assert "Against dense.safetensors: pruned and retrained" in said
    assert "is nearest to what it has" in said and "The effective rank of its 13 block matrices is" in said
    assert sum(page == "weights" and shown.half.id in query for _, page, query in links_of(at)) == 5, "four sentences, one answer"


def test_a_model_whose_weights_were_not_asked_has_no_such_part(store, open_page, tmp_path):
    from safetensors.torch import save_file

    save_file(dense_state(), tmp_path / "fresh.safetensors")
    assert "What its weights say" not in words_of(open_page("pages/checkpoint.py", model=str(tmp_path / "fresh.safetensors")))


# ---------------------------------------------------------------------------------------------------------------------
# Which runs


def test_runs_of_a_model_are_found_by_its_weights_not_its_name(shown, monkeypatch):
    monkeypatch.setenv(STORE_VARIABLE, str(shown.store.folder))
    assert beside(shown.half, "weight_spectrum").id == shown.spectrum.id
    assert beside(shown.dense, "weight_spectrum") is None
    assert [one.id for one in runs.differences(shown.dense)] == [one.id for one in runs.differences(shown.half)] == [shown.diff.id]
    assert runs.differences(shown.pruned) == []
    assert [one.id for one in runs.series_with(shown.last)] == [shown.series.id]
    assert runs.series_with(shown.dense) == []


def test_a_page_asks_few_questions_and_answers_at_once(shown, open_page, monkeypatch):
    """All questions to the sealed files of one view together stay below 300 ms, and a second view asks none."""
    import streamlit as st

    spent, asked = [], []
    for name in ("read", "count", "groups"):
        plain = getattr(Store, name)

        def timed(self, *given, _plain=plain, _name=name, **more):
            begin = time.perf_counter()
            try:
                return _plain(self, *given, **more)
            finally:
                spent.append(time.perf_counter() - begin)
                asked.append((_name, *given[1:2]))

        monkeypatch.setattr(Store, name, timed)
    for page, query in ((WEIGHTS, {"run": shown.half.id}), (TENSOR, of(shown.half, DEAD))):
        st.cache_data.clear()
        spent.clear()
        asked.clear()
        open_page(page, **query)
        assert sum(spent) < 0.3, (page, sum(spent), asked)
        assert len(asked) <= 25, asked
        asked.clear()
        open_page(page, **query)
        assert not asked, "sealed runs never change, so their answers are kept"


def every_spec(shown):
    """Every picture of the pages, of a checkpoint in which a tensor has HTML for a name."""
    read = shown.store.read
    tensor = (Filter("tensor", "=", DEAD),)
    row = data.first_row(read(shown.half, "tensors", where=tensor))
    found = maps.shown_of(shown.half, MEASURES["zeros"], None)
    yield maps.treemap_spec(shown.half, found)
    yield maps.map_spec(shown.half, found)
    yield charts.histogram_spec(row, read(shown.half, "tensor_histograms", where=tensor), 1e-3)
    yield charts.thumbnail_spec(row, read(shown.half, "tensor_tiles", where=tensor))
    yield charts.profile_spec(row, read(shown.half, "tensor_rows", where=tensor), "row", "zero_share")
    numbers = data.first_row(read(shown.spectrum, "spectra", where=tensor))
    yield charts.spectrum_spec(row, read(shown.spectrum, "spectrum_curves", where=tensor), numbers)
    yield charts.series_spec(row, read(shown.series, "timeline_tensors", where=tensor))


@pytest.mark.parametrize("suffix", ["pdf", "svg", "csv", "html"])
def test_every_picture_can_be_taken_along_and_says_what_n_and_unit(shown, monkeypatch, suffix):
    from figures.export import render

    monkeypatch.setattr(maps, "ask", asking(shown.store))
    for spec in every_spec(shown):
        content = render(spec, suffix, {"model": "half"})
        assert len(content) > 500
        assert "n = " in spec.sentence and spec.sentence.endswith("."), spec.sentence
        assert b"<img src=x" not in content or suffix == "csv"
