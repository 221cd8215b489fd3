"""The page of planes over a real sealed run of a tiny LLaMA, in the states it can be in."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis.latents.dictionary import open_dictionary
from analysis.latents.sae_quality import SAE_QUALITY, SaeQualityConfig
from analysis.runner import run as sealed_run
from analysis.sensitivity.plane import SparsityPlaneConfig
from figures.paper import to_matplotlib
from figures.spec import NothingToDraw
from store import Store
from tests.latents.saes import made as made_sae
from tests.plane_run import make_plane
from tests.toy import HOSTILE
from ui.runs import weights_of
from ui.sensitivity.curves import ABOVE
from ui.sensitivity.figure import picture
from ui.sensitivity.plane import DECODE, PREFILL, Place, View, cheapest, contexts, costs, curve_of, on_fronts, points
from ui.sensitivity.plane_combined import grid_spec
from ui.sensitivity.plane_draw import achieved_spec, by_target, draw_plane, plane_spec, reach
from ui.sensitivity.plane_latents import latents_spec, rows_of, show_latents
from ui.sensitivity.plane_one import cost_table, evidence_words
from ui.sensitivity.words import answer
from ui.words import percent

PAGE = "pages/planes.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sealed run in a store of its own, measured once."""
    kept = Store(tmp_path_factory.mktemp("plane"))
    return kept, make_plane(kept)


@pytest.fixture
def plane(store, made):
    """The same run in the store of the pages."""
    kept, info = made
    shutil.copytree(kept.folder, store.folder, dirs_exist_ok=True)
    return store.find(info.id)


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def points_of(**columns):
    """Hand-built rows of one panel; loss on choice as told, on report in the opposite order."""
    frame = pd.DataFrame(columns)
    return frame.assign(delta=0.5 - frame["choice_delta"], level=0.5)


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


def test_a_front_is_of_one_class_and_dearer_than_dense_is_never_on_it():
    found = points_of(
        runs_on=["nothing", "nothing", "gathers", "gathers", "gathers"],
        share=[0.5, 0.6, 0.7, 0.8, 1.2],
        choice_delta=[0.1, 0.2, 0.3, np.nan, -0.1],
    )
    # 0.6 is beaten by 0.5 in its class; 0.7 is on its own although another class beats it; no number is on no front; 1.2 beats the loss
    assert on_fronts(found).tolist() == [True, False, True, False, True]
    assert on_fronts(points_of(runs_on=["nothing"], share=[1.1], choice_delta=[0.1])).tolist() == [False]


def test_the_cheapest_within_a_tolerance_is_picked_by_the_choice_documents():
    found = points_of(runs_on=["nothing", "nothing", "blocks"], share=[0.4, 0.6, 0.9], choice_delta=[0.2, 0.05, 0.3])
    best = cheapest(found, 0.1)
    assert best["share"].tolist() == [0.6] and best["delta"].tolist() == [0.45]  # 0.4 hurts too much there, blocks have none
    assert not len(cheapest(found.assign(share=1.0), 1.0)), "what costs as much as the dense model is no saving"


def test_the_fronts_of_everything_are_the_stored_ones(store, plane):
    rows, stored = costs(plane), store.read(plane, "fronts")
    for context in contexts(plane):
        for phase in (PREFILL, DECODE):
            found = points(rows, View(), Place(phase, context))
            own = stored[(stored["phase"] == phase) & (stored["context"] == context) & (stored["batch"] == 1)]
            front = found[found["front"]]
            assert len(front) and set(zip(front["method"], front["level"])) == set(zip(own["method"], own["level"]))


def test_a_filter_leaves_what_it_says_and_the_front_is_that_of_the_selection(plane):
    rows, at = costs(plane), Place(PREFILL, 16)
    found = points(rows, View(targets=("weights",)), at)
    assert set(found["target"]) == {"weights"}
    assert set(points(rows, View(classes=("2 of 4",)), at)["method"]) == {"magnitude-2-of-4"}
    alone = points(rows, View(methods=("wanda",)), at)
    assert set(alone["method"]) == {"wanda"} and alone["front"].any()
    assert (found["level"] > 0).all()


def test_panels_are_drawn_on_screen_and_paper_with_what_was_stored(plane):
    rows, view = costs(plane), View(eps=0.1, one="wanda")
    for near in (False, True):
        view = View(eps=0.1, near=near, one="wanda")
        for place in (Place(PREFILL, 16), Place(DECODE, 64, 32)):
            found = points(rows, view, place)
            spec = plane_spec(plane, found, place, view, "words")
            assert to_matplotlib(spec).axes and f"at {place.context} positions" in spec.sentence
            figure = draw_plane(spec, view, reach([found]))
            drawn = sorted(x for trace in figure.data if trace.meta is not None for x in trace.x)
            assert drawn == sorted(found["share"].tolist())
            assert any(trace.marker.symbol == "circle-open" for trace in figure.data), "the one looked at is ringed"


def test_an_infinite_loss_is_said_and_not_drawn(plane):
    found = points(costs(plane), View(), Place(PREFILL, 16))
    broken = found.assign(delta=found["delta"].where(found["method"] != "wanda"))
    spec = plane_spec(plane, broken, Place(PREFILL, 16), View(), "words")
    assert "wanda" not in set(spec.data["method"]) and any("2 points not drawn" in note for note in spec.notes)
    with pytest.raises(NothingToDraw, match="infinite"):
        plane_spec(plane, broken[broken["method"] == "wanda"], Place(PREFILL, 16), View(), "words")


def test_lines_of_all_targets_have_a_colour_for_each(store, plane):
    rows = store.read(plane, "curve_points").query("metric == 'loss'")
    figure = by_target(achieved_spec(plane, rows, None, View()))
    legend = [trace.name for trace in figure.data if trace.showlegend and trace.meta is not None]
    assert sorted(legend) == ["activations", "attention", "weights"]
    shades = {trace.line.color for trace in figure.data if trace.meta is not None and trace.name == "weights"}
    assert len(shades) == 1


def test_words_of_a_curve_on_activations_do_not_speak_of_weights(plane):
    curve = curve_of(plane, "ffn-topk")
    spec = picture([curve], ABOVE, 0.1).spec
    assert "weights" not in f"{spec.x.title} {spec.sentence} {answer(curve, 0.1)}".lower() and "FFN" in curve.denominator
    assert picture([curve_of(plane, "wanda")], ABOVE, 0.1).spec.x.label == "Weights removed"


def test_costs_of_a_level_are_a_row_each_and_a_column_for_each_length(plane):
    rows = costs(plane)
    table = cost_table(rows[(rows["method"] == "sink-window") & (rows["level"] == 0.6)], [16, 64])
    assert table["Cost"].tolist() == ["Prefill", "Decode, B = 1", "Decode, B = 32", "Bytes held"]
    assert list(table.columns) == ["Cost", "At 16 positions", "At 64 positions"] and "FLOP)" in table["At 16 positions"][0]


def test_an_intervention_says_its_recall_how_far_its_definition_is_verified_and_how_it_differs(store, open_page):
    run = make_plane(store, interventions="contextual-predicted, contextual-oracle, zipvl, h2o", levels="0.5", contexts="64")
    stored = store.read(run, "curve_points").query("metric == 'loss' and level == 0.5").set_index("method")["recall"]
    assert 0 < stored["contextual-predicted"] < 1 and stored.drop("contextual-predicted").isna().all()
    at = open_page(PAGE, run=run.id, one="contextual-predicted")
    (shown,) = [metric.value for metric in at.metric if metric.label == "Recall"]
    assert shown == percent(stored["contextual-predicted"])
    unverified = open_page(PAGE, run=run.id, one="zipvl")
    assert "Definition: unverified definition." in words_of(unverified) and "Evidence: K" not in words_of(unverified)
    assert "Recall" not in [metric.label for metric in unverified.metric]
    assert "The local policy" in words_of(open_page(PAGE, run=run.id, one="h2o"))


def test_tags_of_evidence_are_words():
    assert evidence_words("O, 3") == "our own definition; read in the paper's text or a third-party implementation"


def test_a_grid_of_two_is_coloured_by_the_excess():
    rows = pd.DataFrame({"method": "a", "other": "b", "level": [0.3, 0.6] * 2, "other_level": [0.3, 0.3, 0.6, 0.6]})
    rows = rows.assign(delta=1.0, delta_method=0.2, delta_other=0.3, excess=[0.5, 0.5, np.nan, 0.1], excess_low=0.1, excess_high=0.9)
    spec = grid_spec(rows, "nats")
    assert spec.data["excess"].tolist() == [0.5, 0.5, 0.1] and "at 3 pairs" in spec.sentence and to_matplotlib(spec).axes


# ---------------------------------------------------------------------------------------------------------------------
# Reconstructions


def reconstructions():
    common = {"place": "blocks.0", "tokens": "all", "sae": "mine", "text": "notes", "unit": "nats", "n": 9, "n_documents": 3}
    rows = pd.DataFrame({"method": ["sae", "pca", "zero ablation"], "l0": [4.0, 4.0, np.nan], "delta": [0.1, 0.2, 3.0]})
    return rows.assign(low=0.0, high=1.0, **common)


def test_reconstructions_stand_over_l0_and_ablations_in_words():
    spec = latents_spec(reconstructions(), "m")
    assert spec.data["method"].tolist() == ["sae", "pca"] and spec.data["l0"].tolist() == [4, 4]
    assert any("zero ablation at blocks.0 +3" in note for note in spec.notes) and to_matplotlib(spec).axes
    with pytest.raises(NothingToDraw):
        latents_spec(reconstructions().tail(1), "m")


def test_an_sae_of_the_same_weights_stands_over_l0_and_one_of_others_does_not(store, tmp_path, open_page):
    from tests.latents.test_sae_quality import SMALL, folder, subject

    dictionary = open_dictionary(folder(tmp_path / "sae", made_sae("topk", d_in=16, d_sae=40)))
    judged = sealed_run(SAE_QUALITY, {"model": subject(), "sae": dictionary}, SaeQualityConfig(**SMALL), store)
    make_plane(store, name="other", interventions="magnitude")
    assert "loss over L0" not in words_of(open_page(PAGE))
    own = make_plane(store, subject=subject(), interventions="magnitude")
    assert weights_of(own) == weights_of(judged)
    text = words_of(open_page(PAGE, run=own.id))
    assert "Reconstructions: loss over L0" in text and "zero ablation at blocks.0.hook_resid_post +" in text
    rows = rows_of([judged])
    own, zero = rows[rows["method"] == "SAE"], rows[rows["method"] == "zero ablation"]
    assert len(own) == 1 and own["l0"].gt(0).all() and len(zero) and zero["l0"].isna().all()


def test_no_panel_of_costs_shows_a_reconstruction(plane):
    assert not costs(plane)["method"].str.contains("sae").any()
    assert show_latents(weights_of(plane), "tiny") is None  # none was judged: nothing is shown


# ---------------------------------------------------------------------------------------------------------------------
# States of the page


def test_without_a_run_the_page_says_what_it_would_show_and_which_command_makes_it(store, open_page):
    at = open_page(PAGE)
    assert "have not been compared yet" in words_of(at)
    assert any("run sparsity_plane --model smollm2" in one.value for one in at.code)


def test_a_model_without_a_run_is_named_though_others_have_one(store, plane, open_page):
    assert "tokens of `minilm` have not been compared yet" in words_of(open_page(PAGE, model="minilm"))


def test_an_unknown_run_is_said_and_another_shown(store, plane, open_page):
    at = open_page(PAGE, run="nothing-1")
    assert "There is no run `nothing-1`" in words_of(at) and at.get("plotly_chart")


def test_the_page_has_two_panels_at_two_lengths_and_says_where_the_loss_was_measured(store, plane, open_page):
    text = words_of(open_page(PAGE))
    assert "At 16 positions, where the loss was measured" in text
    assert "At 64 positions, costs by formula, the loss is that at 16" in text
    assert text.count("**Prefill, B = 1**") == 2 and text.count("**Decode, B = 1**") == 2
    assert "Operating point: prefill: one pass over 64 positions" in text
    assert "6 interventions at 11 levels in all" in text and "Two at once" in text


def test_filters_and_the_one_looked_at_are_in_the_address(store, plane, open_page):
    at = open_page(PAGE, run=plane.id, target="weights", one="wanda", at="30.0 %", batch="32")
    text = words_of(at)
    assert "4 of 6 interventions" in text and "(`wanda`, acts on weights)" in text and "B = 32" in text
    assert any('"interventions": "wanda@0.3"' in one.value for one in at.code)


def test_the_configuration_is_what_run_accepts_and_measures_that_point_alone(store, plane, open_page):
    at = open_page(PAGE, run=plane.id, one="ffn-topk", at="60.0 %")
    chosen = json.loads(next(one.value for one in at.code if one.value.startswith("{")))
    assert SparsityPlaneConfig(**chosen).interventions == "ffn-topk@0.6"
    again = make_plane(store, **chosen)
    assert store.read(again, "plane_costs").query("level > 0")["level"].unique().tolist() == [0.6]
    assert any("run sparsity_plane" in one.value and "--config plane-ffn-topk-0.6.json" in one.value for one in at.code)


def test_what_does_not_suit_is_listed_with_its_reason(store, monkeypatch, open_page):
    from dataclasses import replace

    from analysis.interventions import catalogue

    listed = tuple(replace(one, needs_causal=False) if one.slug == "wanda" else one for one in catalogue.INTERVENTIONS)
    monkeypatch.setattr(catalogue, "INTERVENTIONS", listed)
    make_plane(store, interventions="magnitude, wanda")
    text = words_of(open_page(PAGE))
    assert "Does not suit this model" in text and "`wanda` (weights): wanda must be given" in text


def test_a_hostile_name_is_shown_as_text(store, open_page):
    make_plane(store, name=HOSTILE, interventions="magnitude")
    at = open_page(PAGE)
    assert not any("<img" in str(one.value) for kind in (at.markdown, at.caption) for one in kind if one.allow_html)


def test_a_growing_plane_says_how_much_is_there():
    from ui.sensitivity.live import GROWING, _said

    rows = pd.DataFrame({"method": ["a", "a", "b", "b"], "seed": 0, "level": [0.0, 0.3, 0.0, 0.3], "phase": "prefill"})
    assert _said(rows) == "2 interventions begun, 2 levels measured."
    assert set(GROWING["sparsity_plane"]) == {"prefill", "decode", "achieved"}
