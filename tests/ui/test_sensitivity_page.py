"""The sensitivity page over real sealed runs of tiny models whose curves are known, in the states it can be in."""

import math
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from analysis.jobs import processes
from analysis.sensitivity.allocation import ALLOCATION
from figures.paper import to_matplotlib
from figures.screen import to_plotly
from store import Filter
from tests.sensitivity_run import FIRST_TO_GO, make_allocation, make_digits, make_flat, make_loud, make_matrices, make_words, stop_after
from tests.toy import HOSTILE
from ui.sensitivity.between import compared, why_not
from ui.sensitivity.curves import ABOVE, NEAR, PERPLEXITY, curves_of, measures, run_labels
from ui.sensitivity.figure import comparable, draw, picture
from ui.sensitivity.grid import drop_spec
from ui.sensitivity.live import growing
from ui.sensitivity.tokens import about, strip_of
from ui.sensitivity.whatif import expected, short, words
from ui.sensitivity.words import answer, so_far

PAGE = "pages/sensitivity.py"


@pytest.fixture
def digits(store):
    return make_digits(store, methods="magnitude, random", levels="0.1, 0.3, 0.5, 0.6, 0.8", kl_positions=8)


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    shown = "\n".join(str(one.value) for kind in kinds for one in kind) + "\n".join(one.label for one in at.expander)
    return re.sub(r"[\\\u2060]", "", shown)


def metrics_of(at):
    return {one.label: one.value for one in at.metric}


# ---------------------------------------------------------------------------------------------------------------------
# States


def test_without_a_run_the_page_says_what_it_would_show_and_which_command_makes_it(store, open_page):
    at = open_page(PAGE)
    assert "Nobody has yet measured" in words_of(at)
    assert any("run essential_sparsity --model smollm2" in code.value for code in at.code)


def test_a_model_without_a_run_is_named_though_others_have_one(store, digits, open_page):
    at = open_page(PAGE, model="minilm")
    assert "Nobody has yet measured how much of the weights of `minilm`" in words_of(at) and not at.get("plotly_chart")


def test_an_unknown_run_is_said_and_another_shown(store, digits, open_page):
    at = open_page(PAGE, run="nothing-1")
    assert "There is no run `nothing-1`" in words_of(at) and at.get("plotly_chart")


def test_the_page_says_how_much_can_go_with_interval_denominator_and_what_it_is_not(store, digits, open_page):
    text = words_of(open_page(PAGE))
    row = next(d for d in digits.summaries["drop_points"] if d["is_headline"] and d["method"] == "magnitude")
    interval = f"{100 * row['level']:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}] of 8,192 weights of 2 tensors"
    assert interval in text and f"before the loss rises by {row['eps']:g} nats" in text
    assert "no fine-tuning" in text and "values published after fine-tuning are not comparable" in text
    assert "Noise floor: measured a second time" in text and "8,192 weights of 2 tensors may be removed. Left alone:" in text


def test_another_tolerance_in_the_address_has_another_answer(store, digits, open_page):
    text = words_of(open_page(PAGE, run=digits.id, eps="0.5"))
    row = next(d for d in digits.summaries["drop_points"] if d["eps"] == 0.5 and d["method"] == "magnitude")
    assert f"{100 * row['level']:.1f} % [" in text and "before the loss rises by 0.5 nats" in text


def test_a_flat_curve_is_not_reached_and_few_documents_are_said(store, open_page):
    make_flat(store)
    text = words_of(open_page(PAGE))
    assert re.search("Not reached: with up to 99.0 % of .* removed, the loss never rises by 0.05 nats", text)
    assert "Only 20 documents: fewer than 30" in text


def test_a_perplexity_beyond_1e10_is_drawn_and_one_that_is_no_number_is_said(store, open_page):
    run = make_loud(store)
    (curve,) = curves_of([run])
    shown = picture([curve], PERPLEXITY, 0.05)
    data = shown.spec.data[shown.spec.data["series"] == curve.label]
    assert data["shown"].max() > 1e10 and data["shown"].isna().tolist() == [False] * 6 + [True]
    assert to_plotly(shown.spec).data and to_matplotlib(shown.spec).axes
    text = words_of(open_page(PAGE, y="Perplexity"))
    assert "at 100.0 % removed the perplexity is infinite or beyond 1e300" in text
    assert "at 100.0 % removed the loss is infinite or no number" in words_of(open_page(PAGE))


def test_a_hostile_name_is_shown_as_text(store, open_page):
    make_digits(store, name=HOSTILE, levels="0.5")
    at = open_page(PAGE)
    assert not any("<img" in str(one.value) for kind in (at.markdown, at.caption) for one in kind if one.allow_html)


# ---------------------------------------------------------------------------------------------------------------------
# The picture


def test_points_bands_and_drop_bars_are_the_stored_ones(store, digits):
    curves = curves_of([digits])
    shown = picture(curves, NEAR, 0.2)
    stored = store.read(digits, "curve_points", where=[Filter("metric", "=", "loss"), Filter("method", "=", "magnitude")])
    drawn = shown.spec.data[shown.spec.data["series"] == "magnitude, global"]
    for column, name in (("shown", "delta"), ("low", "low"), ("high", "high"), ("level", "level")):
        assert drawn[column].tolist() == stored[name].tolist()
    row = next(d for d in digits.summaries["drop_points"] if d["eps"] == 0.2 and d["method"] == "magnitude")
    bar = shown.spec.data[shown.spec.data["series"] == "s*: magnitude, global"]
    assert bar["level"].tolist() == [row["low"], row["level"], row["high"]] and set(bar["shown"]) == {0.2}


def test_a_bar_has_the_colour_of_its_curve_and_the_tolerance_no_points(store, digits):
    figure = draw(picture(curves_of([digits]), ABOVE, 0.2))
    named = {trace.name: trace for trace in figure.data if trace.meta is not None}
    for name in ("magnitude, global", "random, global, seed 0"):
        assert named[f"s*: {name}"].line.color == named[name].line.color and not named[f"s*: {name}"].showlegend
    assert named["within 0.2"].mode == "lines"


def test_every_way_of_looking_can_be_drawn_on_screen_and_paper(store, digits):
    curves = curves_of([digits])
    assert set(measures(curves)) == {"loss", "near", "accuracy", "kl"}
    for measure in measures(curves).values():
        spec = picture(curves, measure, 0.2).spec
        assert to_plotly(spec).data and to_matplotlib(spec).axes


def test_accuracy_is_marked_at_one_point_and_kl_at_nothing(store, digits):
    curves = curves_of([digits])
    by_name = measures(curves)
    assert picture(curves, by_name["accuracy"], 0.2).tolerance == "within 0.01"
    assert picture(curves, by_name["kl"], 0.2).tolerance is None


def test_differences_below_the_floor_are_drawn_at_it_and_keep_their_value(store, digits):
    data = picture(curves_of([digits]), ABOVE, 0.2).spec.data
    dense = data[(data["level"] == 0) & data["delta"].notna()]
    assert (dense["shown"] == 1e-3).all() and (dense["delta"] == 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Several runs


def test_two_models_share_the_axes_and_are_told_apart(store, digits, open_page):
    other = make_digits(store, name="other", seed=1, levels="0.3, 0.6")
    curves = curves_of([digits, other])
    assert [curve.label for curve in curves] == ["digits: magnitude, global", "digits: random, global, seed 0", "other: magnitude, global"]
    text = words_of(open_page(PAGE, run=digits.id, **{"with": other.id}))
    assert "other: magnitude, global" in text and "3 curves" in text
    assert "Each curve is measured against the dense model of its own run." in text


def test_runs_of_one_model_are_told_apart_too(store, digits):
    again = make_digits(store, levels="0.3")
    assert len(set(run_labels([digits, again]).values())) == 2


def test_curves_in_another_unit_are_left_out_in_words(store, digits):
    flat = make_flat(store)
    shown, others = comparable(curves_of([digits, flat]))
    assert {curve.run.id for curve in shown} == {digits.id} and {curve.run.id for curve in others} == {flat.id}


def test_methods_of_a_run_are_compared_with_an_interval(store, digits, open_page):
    at = open_page(PAGE)
    row = store.read(digits, "drop_differences").iloc[0]
    table = next(one.value for one in at.dataframe if "difference" in one.value)
    assert table["difference"].tolist() == [row["difference"]] and table["low"].tolist() == [row["low"]]


def test_runs_on_the_same_documents_are_compared_by_the_interval_of_their_difference(store, digits, open_page):
    again = make_digits(store, methods="magnitude", levels="0.2, 0.4, 0.6, 0.8", kl_positions=8)
    one, random, other = curves_of([digits, again])
    found = compared(one, other, 0.2)
    assert found.level == 0.6 and found.loss.value == 0, "the same method at the same level of the same documents"
    assert compared(random, other, 0.2).drop.words == "told apart"
    at = open_page(PAGE, run=digits.id, eps="0.2", **{"with": again.id})
    table = next(one.value for one in at.dataframe if "loss_words" in one.value)
    assert len(table) == 2 and table["difference"].tolist()[1] == compared(random, other, 0.2).drop.value
    assert "Differences between runs" in words_of(at) and "Not compared" not in words_of(at)


def test_runs_on_other_documents_are_not_compared_and_the_page_says_why(store, digits, open_page):
    other, flat = make_digits(store, levels="0.3, 0.6", split="all"), make_flat(store)
    (first, *_), (second,), (third,) = curves_of([digits]), curves_of([other]), curves_of([flat])
    assert "their setting split differs (report and all)" in why_not(first, second)
    assert "other data" in why_not(first, third) or "in nats" in why_not(first, third)
    text = words_of(open_page(PAGE, run=digits.id, **{"with": other.id}))
    assert "Not compared by their difference: their setting split differs" in text and "Compare their intervals" in text


# ---------------------------------------------------------------------------------------------------------------------
# Token by token


def test_the_token_that_hangs_on_the_removed_weight_is_the_one_that_gets_worse(store):
    run = make_words(store)
    rows = store.read(run, "point_tokens", where=[Filter("level", "=", FIRST_TO_GO)])
    worse = set(rows.loc[rows["delta"] > 0.1, "token"])
    assert worse == {"e"}
    example = rows.loc[rows["token"] == "e", "example"].iloc[0]
    strip = strip_of(rows[rows["example"] == example], causal=True)
    assert strip.tokens[strip.peak] == "e" and strip.value == rows["delta"].max() and strip.first == 1
    assert "1 worse by more than 0.1 nats, 0 better" in about(rows[rows["example"] == example])


def test_places_that_were_not_scored_are_dots_and_an_infinite_loss_is_told():
    import pandas as pd

    rows = pd.DataFrame({"example": 3, "document": 1, "position": [2, 4, 5], "token_id": [7, 8, 9], "token": ["a", None, "c"],
                         "delta": [0.2, -0.3, np.nan]})  # fmt: skip
    strip = strip_of(rows, causal=False)
    assert strip.tokens == ("a", "·", "#8 ", "c") and strip.values == (0.2, None, -0.3, None) and (strip.first, strip.peak) == (2, 0)
    assert about(rows) == (
        "3 tokens: 1 worse by more than 0.1 nats, 1 better by more; mean change -0.05 nats; of 1 the loss is infinite or no number."
    )
    assert strip_of(rows.assign(delta=np.nan), causal=False) is None


def test_the_page_shows_the_tokens_at_the_chosen_level_and_the_document_in_the_address(store, open_page):
    run = make_words(store)
    text = words_of(open_page(PAGE, run=run.id, at="50.0 %"))
    assert "Which tokens get worse" in text and "examples, not a sample to count on" in text
    rows = store.read(run, "point_tokens")
    second = sorted(set(zip(rows["example"], rows["document"])))[1]
    at = open_page(PAGE, run=run.id, at="50.0 %", example=f"document {second[1]}, window {second[0]}")
    assert next(one for one in at.selectbox if one.label == "Document").value == f"document {second[1]}, window {second[0]}"
    assert "This is the dense model itself" in words_of(open_page(PAGE, run=run.id, at="0.0 %"))


def test_a_classifier_has_no_tokens_to_show(store, digits, open_page):
    assert "Which tokens" not in words_of(open_page(PAGE, run=digits.id))


# ---------------------------------------------------------------------------------------------------------------------
# What if, and where


def test_what_if_is_linear_between_the_measured_levels_and_says_between_which(store):
    (curve,) = curves_of([make_digits(store, levels="0.2, 0.6")])
    rows = curve.of("loss").set_index("level")
    at = expected(curve, 0.3)
    assert (at.below, at.above) == (0.2, 0.6) and not at.is_measured
    assert at.delta == pytest.approx(0.75 * rows.loc[0.2, "delta"] + 0.25 * rows.loc[0.6, "delta"])
    assert at.costs["cost_params"] == pytest.approx(rows.loc[0.0, "cost_params"] - 0.3 * 8192, abs=1)
    assert "between the measured levels 20.0 % and 60.0 %" in words(curve, at)
    measured = expected(curve, 0.6)
    assert measured.is_measured and measured.delta == rows.loc[0.6, "delta"] and "measured there" in words(curve, measured)
    assert expected(curve, 0.9).level == 0.6, "nothing is made up beyond the last level"


def test_what_if_next_to_a_loss_that_is_no_number_is_no_number(store):
    (curve,) = curves_of([make_loud(store)])
    assert expected(curve, 0.99).delta is None and expected(curve, 0.99).perplexity is None
    at = expected(curve, 0.96)
    assert at.perplexity == pytest.approx(math.exp(np.interp(0.96, [0.95, 0.97], curve.of("loss")["value"].iloc[4:6])))


def test_the_level_in_the_address_sets_the_slider(store, digits, open_page):
    at = open_page(PAGE, run=digits.id, level="30")
    level = expected(curves_of([digits])[0], 0.3)
    assert metrics_of(at)["Loss above dense"] == f"{level.delta:+.3g}"
    assert metrics_of(at)["Parameters left"] == short(level.costs["cost_params"])


def test_where_the_weights_sit_is_told_of_one_matrix_with_the_way_to_it(store, digits, open_page):
    at = open_page(PAGE, run=digits.id, at="60.0 %", tensor="2.weight")
    row = store.read(digits, "pruned_where", where=[Filter("level", "=", 0.6), Filter("tensor", "=", "2.weight")]).iloc[0]
    text = words_of(at)
    assert f"of its 4,096 weights are zero ({int(row['n_zero']):,})" in text and "with 60.0 % of the scope removed" in text


# ---------------------------------------------------------------------------------------------------------------------
# Every matrix alone


def test_without_a_grid_the_page_says_how_to_get_one(store, digits, open_page):
    assert "Which matrix hurts most when it is pruned alone has not been measured" in words_of(open_page(PAGE))


def test_the_grid_shows_a_level_a_matrix_its_rank_and_the_ranking(store, digits, open_page):
    run = make_matrices(store)
    at = open_page(PAGE, alone="90.0 %", matrix="2.weight")
    text = words_of(at)
    assert "What it costs to remove 90% of one matrix" in text and "when 90% of one matrix is removed, for 2 matrices" in text
    row = next(one for one in run.summaries["matrix_ranking"] if one["tensor"] == "2.weight")
    assert f"`2.weight`**: number {row['rank']} of 2 by sensitivity" in text and row["words"] in text
    assert "The most sensitive" in text and "allocation --model" in text and f"--with run={run.id}" in text


def test_drop_points_of_single_matrices_are_the_stored_ones(store):
    run = make_matrices(store)
    spec = drop_spec(run, list(run.summaries["matrix_ranking"]))
    stored = {row["tensor"]: row["drop"] for row in run.summaries["matrix_ranking"]}
    assert dict(zip(spec.data["tensor"], spec.data["drop"], strict=True)) == stored and to_plotly(spec).data


def test_a_grid_is_shown_without_any_curve(store, open_page):
    make_matrices(store)
    text = words_of(open_page(PAGE))
    assert "Nobody has yet measured" in text and "What it costs to remove 60% of one matrix" in text


def test_a_measured_allocation_is_shown_with_its_differences_and_shares(store, digits, open_page):
    run = make_allocation(store, make_matrices(store, split="choice"))
    at = open_page(PAGE, run=digits.id)
    text = words_of(at)
    assert "Shared out among the matrices" in text and "allocation --model" not in text, "the command makes room for the result"
    outcomes, shares = (ALLOCATION.figure(slug).draw(store.read(run, ALLOCATION.figure(slug).table), store.provenance(run))
                        for slug in ("outcomes", "shares"))  # fmt: skip
    assert outcomes.title in text and shares.title in text
    assert "report of" in outcomes.sentence and to_plotly(shares).data


def test_an_allocation_of_other_weights_is_not_shown(store, open_page):
    make_allocation(store, make_matrices(store, split="choice"))
    other = make_digits(store, name="other", seed=1, levels="0.3, 0.6")
    assert "Shared out among the matrices" not in words_of(open_page(PAGE, run=other.id))


# ---------------------------------------------------------------------------------------------------------------------
# Sentences


def test_a_share_too_small_for_one_digit_is_not_rounded_to_its_neighbour(store, digits):
    curve = curves_of([digits])[0]
    drop = {"answer": "reached", "level": 0.00094, "low": 0.00087, "high": 0.00101, "below": 0.0, "above": 0.1, "last_level": 0.9}
    row = {"metric": "loss", "eps": 0.2, "unit": "nats", "is_headline": True, "words": "", "n_draws": 1, **curve.key, **drop}
    digits.summaries["drop_points"][:] = [row]
    said = answer(curve, 0.2)
    assert "0.094 % [0.087 %, 0.1 %]" in said and "between the measured 0.0 % and 10.0 %" in said


def test_noise_above_a_third_of_the_tolerance_is_not_resolvable(digits):
    curve = curves_of([digits])[0]
    assert curve.drop(0.01, "accuracy")["answer"] == "not resolvable"
    assert answer(curve, 0.01, "accuracy").startswith("Not resolvable: the noise (standard error 0.00")


def test_a_pattern_has_no_drop_point_but_its_loss(store, open_page):
    make_digits(store, structures="2:4", levels="0.5")
    text = words_of(open_page(PAGE))
    assert "A pattern without a continuum, 50.0 % of the scope removed: the loss rises by" in text


def test_an_unfinished_curve_says_up_to_where_it_stays_within_and_no_drop_point():
    import pandas as pd

    rows = pd.DataFrame({"level": [0.0, 0.1, 0.2, 0.3], "delta": [0.0, 0.02, 0.005, 0.2]})
    assert so_far(rows, (0.01, 0.05, 0.3)) == "4 levels measured, up to 30.0 %; within 0.01 up to 0.0 %; within 0.05 up to 20.0 %."


# ---------------------------------------------------------------------------------------------------------------------
# While it is at work


def entered(store, slug, status):
    """A job of the only unfinished attempt there is, as its process would have entered it."""
    (folder,) = store.runs_folder.glob("*.partial")
    spec = {"slug": slug, "model": "digits", "data": None, "config": {}, "device": "cpu"}
    own = processes.identity()
    job = store.jobs.add("job1", spec, origin="page", host=own.host, pid=own.pid, process_start=own.start)
    key = folder.name.rpartition("-")[0]
    store.jobs.change(job.id, status=status, key=key, started=datetime.now(UTC), what="measuring levels", done=4.0, total=9.0)
    return store.jobs.get(job.id)


def test_the_points_so_far_are_on_the_page_of_a_job_at_work_and_on_the_sensitivity_page(store, open_page):
    with pytest.raises(KeyboardInterrupt):
        make_digits(store, levels="0.1, 0.3, 0.5, 0.7", progress=stop_after(4))
    job = entered(store, "essential_sparsity", "running")
    assert growing(job).rows("curve_points").query("metric == 'loss'")["level"].tolist() == [0, 0.1, 0.3]
    for page, query in (("pages/job.py", {"job": job.id}), (PAGE, {})):
        at = open_page(page, **query)
        text = words_of(at)
        assert "Unfinished] magnitude, global: 3 levels measured, up to 30.0 %" in text and "s*" not in text
        assert len(at.get("plotly_chart")) == 1
    assert "Nobody has yet measured" in text, "what is unfinished is no run"


def test_what_a_stopped_job_measured_is_marked_as_stopped(store, open_page):
    with pytest.raises(KeyboardInterrupt):
        make_digits(store, levels="0.1, 0.3, 0.5, 0.7", progress=stop_after(3))
    job = entered(store, "essential_sparsity", "cancelled")
    assert "Unfinished, stopped] magnitude, global: 2 levels measured" in words_of(open_page("pages/job.py", job=job.id))


def test_a_grid_grows_too(store, open_page):
    with pytest.raises(KeyboardInterrupt):
        make_matrices(store, progress=stop_after(1))
    job = entered(store, "matrix_sensitivity", "running")
    text = words_of(open_page("pages/job.py", job=job.id))
    assert re.search(r"Unfinished\] \d places? measured, at \d points?", text) and "Unfinished: Increase of the loss of digits when" in text


def test_a_job_without_a_key_has_nothing_to_grow(store):
    job = store.jobs.add("j1", {"slug": "essential_sparsity", "model": "m", "data": None, "config": {}}, origin="page", host="h", pid=1,
                         process_start=0.0)  # fmt: skip
    assert growing(job) is None


def test_patterns_are_answered_with_the_last_one_within_and_never_between(store, open_page):
    run = make_digits(store, structures="n:4", eps="0.05")
    (curve,) = curves_of([run])
    said = "25.0 % of 8,192 weights .* may go before the loss rises by 0.05 nats per example: 3 of 4 kept is the last"
    assert re.match(said, answer(curve, 0.05))
    at = open_page(PAGE, run=run.id)
    assert "3 of 4 kept is the last pattern within" in words_of(at) and "there is nothing between them" in words_of(at)
    assert "straight line" not in words_of(at) and not at.slider
