"""Comparing a dense model with a copy with planted holes: what was planted tops the lists, and nothing is compared silently."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest

from analysis.headlines import place, stripes
from figures.export import render, to_csv
from store import Store
from tests.compare_runs import DEAD, HEAD, PRUNED_TENSOR, make_compared, make_judged
from tests.toy import HOSTILE, make_run
from ui.compare import heads, matrices, neurons
from ui.compare.changes import Noise, by_measure, changes, interval_noise
from ui.compare.comparable import comparable
from ui.compare.losses import PairedLoss, paired
from ui.compare.matching import matched_places, matched_tensors, matched_units
from ui.compare.overview import stripes_spec
from ui.compare.section import Pair
from ui.compare.sides import Side
from ui.library import Entry
from ui.serve import FOLDERS_VARIABLE, STORE_VARIABLE

PAGE = "pages/compare.py"


@dataclass
class Run:
    """What `comparable` reads of a run."""

    slug: str = "neuron_activity"
    version: int = 1
    data: str | None = "text"
    config: dict = field(default_factory=lambda: {"window": 128, "batch_tokens": 8})
    provenance: dict = field(
        default_factory=lambda: {"title": "Neuron activity", "dtype": "float32", "fingerprints": {"model": {"data": "d", "tokenizer": "t"}}}
    )
    summaries: dict = field(default_factory=lambda: {"layers": [{"layer": 0, "n_neurons": 8}]})


def printed(**more):
    return {"title": "Neuron activity", "dtype": "float32", "fingerprints": {"model": {"data": "d", "tokenizer": "t"}, **more}}


# ---------------------------------------------------------------------------------------------------------------------
# What may be compared


def test_runs_of_one_question_on_the_same_documents_are_comparable_whatever_only_speed_was_set_to():
    assert comparable(Run(), Run()) == []
    assert comparable(Run(), Run(config={"window": 128, "batch_tokens": 4096})) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Run(slug="head_sparsity"), "different questions"),
        (Run(version=2), "Versions 1 and 2"),
        (Run(provenance=printed(model={"data": "e", "tokenizer": "t"})), "other contents under one name: text and text"),
        (Run(data="news", provenance=printed(model={"data": "e", "tokenizer": "t"})), "other data: text and news"),
        (Run(provenance=printed(model={"tokenizer": "t"})), "not recorded what text and text held"),
        (Run(provenance=printed(model={"data": "d", "tokenizer": "u"})), "tokenizers differ"),
        (Run(config={"window": 256, "batch_tokens": 8}), "settings differ, and with them what was measured: window (128 and 256)"),
        (Run(provenance=printed(sae={"sae": "s"})), "another sae"),
        (Run(provenance=printed() | {"dtype": "bfloat16"}), "float32 and bfloat16"),
        (Run(summaries={"layers": [{"layer": 0, "n_neurons": 6}]}), "8 neurons in 1 place and 6 neurons in 1 place"),
    ],
)
def test_every_reason_against_a_comparison_is_one_sentence(other, words):
    [reason] = comparable(Run(), other)
    assert words in reason
    assert reason.endswith(".")
    assert len(comparable(other, Run())) == 1


def test_what_reads_weights_alone_has_no_data_to_differ_but_a_shape():
    totals = [{"scope": "all weights", "n_tensors": 3, "n_weights": 100}]
    one = Run(slug="weight_sparsity", data=None, provenance={}, summaries={"totals": totals})
    assert comparable(one, one) == []
    [reason] = comparable(one, replace(one, summaries={"totals": [totals[0] | {"n_weights": 90}]}))
    assert "100 weights in 3 tensors and 90 weights in 3 tensors" in reason


def test_several_reasons_are_all_said():
    assert len(comparable(Run(), Run(version=2, config={"window": 1, "batch_tokens": 8}))) == 2


# ---------------------------------------------------------------------------------------------------------------------
# What is matched, and what is ranked


def test_places_match_by_name_and_else_where_they_are_alone_in_their_layer():
    assert matched_places([(0, "a"), (1, "b")], [(0, "a"), (1, "x")]) == {(0, "a"): (0, "a"), (1, "b"): (1, "x")}
    assert matched_places([(0, "a"), (0, "b")], [(0, "x"), (0, "y")]) == {}, "which of two would be a guess"
    assert matched_places([(0, "a"), (0, "b")], [(0, "x")]) == {}
    assert matched_places([(0, "a"), (0, "b")], [(0, "a"), (0, "y")]) == {(0, "a"): (0, "a"), (0, "b"): (0, "y")}
    assert matched_places([(0, "a")], [(1, "a")]) == {}


def units(values, place="mlp"):
    return pd.DataFrame({"layer": 0, "hook_name": place, "neuron": range(len(values)), "density": values})


def test_units_match_by_number_and_those_of_one_model_alone_are_counted():
    found = matched_units(units([0.1, 0.2, 0.3]), units([0.5, 0.2], "ffn"), ("layer", "hook_name"), "neuron")
    assert found.rows["density"].tolist() == [0.1, 0.2]
    assert found.rows["density_base"].tolist() == [0.5, 0.2]
    assert found.rows["hook_name_base"].tolist() == ["ffn", "ffn"]
    assert (found.n_alone, found.n_alone_base) == (1, 0)


def test_tensors_match_by_name_or_behind_a_prefix_and_never_by_shape_alone():
    def tensors(*names):
        return pd.DataFrame({"tensor": names, "shape": [[4, 4]] * len(names), "tied": [[]] * len(names), "zero_share": 0.0})

    found = matched_tensors(tensors("base.model.a.w", "base.model.b.w", "odd"), tensors("model.b.w", "model.a.w", "strange"))
    assert dict(zip(found.rows["tensor"], found.rows["tensor_base"], strict=True)) == {
        "base.model.a.w": "model.a.w",
        "base.model.b.w": "model.b.w",
    }
    assert (found.n_alone, found.n_alone_base) == (1, 1)


def test_identical_units_change_nothing_and_none_stands_out():
    matched = matched_units(units([0.1, 0.2]), units([0.1, 0.2]), ("layer", "hook_name"), "neuron")
    found = changes(matched, "density", Noise(*np.zeros((2, 2)), p=np.ones(2)))
    assert (found.n, found.n_changed, found.n_sure, len(found.rows)) == (2, 0, 0, 0)
    assert by_measure(matched, {"density": "density"})["differ"] == [0]


def test_the_largest_change_comes_first_whatever_its_sign_and_missing_numbers_are_left_out():
    matched = matched_units(units([0.1, 0.2, None, 0.9]), units([0.1, 0.9, 0.5, 0.6]), ("layer", "hook_name"), "neuron")
    found = changes(matched, "density")
    assert found.rows["neuron"].tolist() == [1, 3]
    assert found.rows["change"].tolist() == pytest.approx([-0.7, 0.3])
    assert (found.n, found.n_known, found.n_changed, found.n_sure) == (4, 3, 2, None)
    assert by_measure(matched, {"density": "density", "no such": "x"}) == {
        "measure": ["density"], "differ": [2], "of": [3], "largest": [pytest.approx(-0.7)],
    }  # fmt: skip


def test_without_stored_intervals_nothing_is_tested():
    matched = matched_units(units([0.1]), units([0.2]), ("layer", "hook_name"), "neuron")
    assert interval_noise(matched, "density", 30) is None
    with_ends = matched_units(*(units([0.1]).assign(density_low=0.0, density_high=0.2) for _ in range(2)), ("layer", "hook_name"), "neuron")
    assert interval_noise(with_ends, "density", 1) is None
    assert interval_noise(with_ends, "density", 30).p.tolist() == [1.0]


def test_losses_are_paired_only_on_the_same_documents():
    rows = pd.DataFrame({"document": range(40), "n_tokens": 10, "loss_sum": np.linspace(10, 30, 40)})
    found = paired(rows.assign(loss_sum=rows["loss_sum"] + 1), rows)
    assert isinstance(found, PairedLoss)
    assert found.gap.value == pytest.approx(0.1)
    assert (found.gap.low, found.gap.high) == pytest.approx((0.1, 0.1)), "what both share cancels"
    assert paired(rows.assign(n_tokens=9), rows) == "they were scored at other positions or documents"
    assert "infinite" in paired(rows.assign(loss_sum=None), rows)
    assert "one document" in paired(rows[:1], rows[:1])


# ---------------------------------------------------------------------------------------------------------------------
# The page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compared")
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        found = make_compared(Store(folder / "store"))
        yield found
        found.store.close()


@pytest.fixture
def shown(made, monkeypatch):
    monkeypatch.setenv(STORE_VARIABLE, str(made.store.folder))
    monkeypatch.setenv(FOLDERS_VARIABLE, str(made.store.folder.parent))
    return made


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.error, at.code)
    return re.sub(r"[\\\u2060]|\*\*", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def table(at, column):
    return next(one.value for one in at.dataframe if column in one.value.columns)


def queries(frame, column):
    return [(one.partition("?")[0], {k: v[0] for k, v in parse_qs(one.partition("?")[2]).items()}) for one in frame[column]]


def test_the_planted_neuron_head_and_matrix_top_their_lists_and_lead_to_both_models(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned", neurons_by="mean |a|")
    matrix = table(at, "name")
    assert matrix["name"].iloc[0] == PRUNED_TENSOR
    assert matrix["change"].iloc[0] == pytest.approx(0.9, abs=0.01)
    head = next(one.value for one in at.dataframe if "unit" in one.value and "class" not in one.value)
    assert head["unit"].iloc[0] == f"1:{HEAD}"
    [(page, first), (_, second)] = queries(head.head(1), "in_base") + queries(head.head(1), "in_run")
    assert page == "head" and first["head"] == second["head"] == str(HEAD)
    assert (first["run"], second["run"]) == (shown.dense["head_sparsity"].id, shown.pruned["head_sparsity"].id)
    assert queries(matrix, "in_run")[0] == ("tensor", {"run": shown.pruned["weight_sparsity"].id, "tensor": PRUNED_TENSOR})


def test_the_planted_dead_neuron_is_sure_to_have_changed(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned", neurons_by="documents")
    neurons = table(at, "class")
    row = neurons[neurons["unit"] == f"0:{DEAD}"].iloc[0]
    assert (row["base"], row["value"]) == (40, 0)
    assert row["q"] < 0.05 and row["high"] < 0
    assert queries(neurons[neurons["unit"] == f"0:{DEAD}"], "in_base")[0][1]["neuron"] == str(DEAD)


def test_models_that_do_exactly_the_same_change_nothing(shown, open_page):
    at = open_page(PAGE, a="dense", b="twin")
    text = words_of(at)
    assert "Nothing changed: density is exactly the same for all 48 neurons" in text
    assert "Nothing changed: share of keys is exactly the same for all 8 heads" in text
    assert "Nothing changed: zeros is exactly the same for all 21 tensors" in text
    counts = next(one.value for one in at.dataframe if "neurons" in one.value.iloc[:, 0].tolist())
    assert set(counts["B − A"]) == {"0"}
    differ = table(at, "differ").set_index("measure")["differ"]
    assert differ["root mean square"] == 1, "only the embedding"


def test_a_section_of_which_a_model_has_no_run_says_in_a_sentence_what_to_run(shown, open_page):
    at = open_page(PAGE, a="dense", b="twin")
    text = words_of(at)
    assert "Essential sparsity has not been asked of B, twin" in text
    assert any("run task_loss" in code.value and "--model" in code.value for code in at.code)
    assert any(one.proto.page == "start" and "task_loss" in one.proto.query_string for one in at.get("page_link"))


def test_other_data_are_said_and_then_nothing_is_tested(shown, open_page):
    at = open_page(PAGE, a="dense", b=shown.other_data.id)
    text = words_of(at)
    assert "B and A are not comparable here. They were measured on" in text
    assert "None is tested, since the two are not comparable here." in text
    assert "q" not in table(at, "class")
    assert shown.other_data.id in queries(table(at, "class"), "in_run")[0][1]["run"]


def test_where_a_model_has_several_runs_the_one_that_can_be_compared_is_taken(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned")
    assert "are not comparable here" not in words_of(at)
    assert queries(table(at, "class"), "in_run")[0][1]["run"] == shown.pruned["neuron_activity"].id


def test_losses_and_curves_are_compared_by_paired_intervals(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned")
    text = words_of(at)
    assert re.search(r"B − A: [+-][\d.]+ nats per position, 95 % interval .* over 40 documents that both read", text)
    assert "Differences between runs" in text


def test_the_address_names_both_so_that_a_link_stays(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned")
    named = {name: "".join(at.query_params[name]) for name in ("a", "b")}
    again = open_page(PAGE, **named)
    assert {name: "".join(again.query_params[name]) for name in named} == named
    assert [one.value for one in again.selectbox][:1] == [one.value for one in at.selectbox][:1]
    assert table(again, "name").equals(table(at, "name"))


def test_three_models_stand_side_by_side_and_one_is_looked_at_closer(shown, open_page):
    at = open_page(PAGE, a="dense", b="pruned,twin", closer="C")
    counts = next(one.value for one in at.dataframe if "neurons" in one.value.iloc[:, 0].tolist())
    assert {"B − A", "C − A"} <= set(counts.columns)
    assert "Nothing changed: density is exactly the same" in words_of(at)


def test_what_the_store_does_not_have_is_said(shown, open_page):
    assert "There is no model and no run `nobody`" in words_of(open_page(PAGE, a="nobody", b="pruned")).replace("``", "`")


def test_an_empty_store_and_a_single_model_say_what_to_do(store, open_page):
    assert "Nothing has been measured yet" in words_of(open_page(PAGE))
    make_run(store)
    at = open_page(PAGE)
    assert "The store holds one model, toy-model" in words_of(at)
    assert any("run weight_sparsity" in code.value for code in at.code)


def test_names_from_outside_are_shown_as_text(store, open_page):
    make_run(store)
    make_run(store, name=HOSTILE)
    at = open_page(PAGE)
    assert f"A toy-model · B {HOSTILE}" in words_of(at)
    assert not any("<img" in one.value for one in at.markdown if "\\<img" not in one.value)


# ---------------------------------------------------------------------------------------------------------------------
# Latents: of one SAE in two models, and of two SAEs


@pytest.fixture
def judged(store, tmp_path):
    return make_judged(store, tmp_path)


def test_latents_are_matched_only_where_the_sae_is_the_same(judged, open_page):
    same, other = open_page(PAGE, a=judged[0].id, b=judged[1].id), open_page(PAGE, a=judged[0].id, b=judged[2].id)
    assert "What changed most: latents by density" in words_of(same)
    rows = table(same, "latent")
    assert queries(rows.head(1), "in_base")[0][0] == "latent"
    assert queries(rows.head(1), "in_run")[0][1]["run"] == judged[1].id
    text = words_of(other)
    assert "They were given another sae." in text
    assert "latent 7 of one is not latent 7 of the other, so none is matched" in text
    assert not [one for one in other.dataframe if "latent" in one.value]


def test_what_an_sae_costs_two_models_has_an_interval_only_where_they_are_comparable(judged, open_page):
    same = table(open_page(PAGE, a=judged[0].id, b=judged[1].id), "meaning").set_index("measure")
    ends = same.loc["explained variance", ["B − A, from", "B − A", "B − A, to"]].tolist()
    assert ends == sorted(ends)
    assert "B − A, from" not in table(open_page(PAGE, a=judged[0].id, b=judged[2].id), "meaning")


# ---------------------------------------------------------------------------------------------------------------------
# Figures of differences


def pair_of(made, letter="B", slug="neuron_activity", other="pruned"):
    def side(name, letter):
        runs = getattr(made, name)
        return Side(name, Entry(name, tuple(runs.values()), ()), name, letter=letter)

    base, run = made.dense[slug], getattr(made, other)[slug]
    return Pair(side("dense", "A"), side(other, letter), base, run, tuple(comparable(base, run)))


@pytest.mark.parametrize("slug", ["weight_sparsity", "neuron_activity", "head_sparsity"])
@pytest.mark.parametrize("other", ["pruned", "twin"])
def test_every_figure_of_a_difference_exports_with_both_runs_named_and_is_zero_where_nothing_changed(shown, slug, other):
    pair = pair_of(shown, slug=slug, other=other)
    folder = str(shown.store.folder)
    drawn = {
        "weight_sparsity": lambda: matrices.map_spec(pair, matrices.matched_weights(folder, pair.run, pair.base), "zeros"),
        "neuron_activity": lambda: neurons.classes_spec(pair),
        "head_sparsity": lambda: heads.map_spec(pair, heads.matched_heads(folder, pair.run, pair.base, "key_share"), "share of keys"),
    }
    spec = drawn[slug]()
    column = spec.colour.column if spec.colour else spec.y.column
    assert (spec.data[column] == 0).all() == (other == "twin")
    if spec.colour:
        assert spec.colour.bounds[0] == -spec.colour.bounds[1], "grey is no difference"
    assert any(pair.base.id in note and pair.run.id in note for note in spec.notes)
    assert f"{other} minus dense" in to_csv(spec, pair.provenance)
    assert render(spec, "svg", pair.provenance).startswith(b"<?xml")


def test_a_bar_code_moves_by_its_share_of_the_scale_and_twins_not_at_all(shown):
    pairs = [pair_of(shown, slug=slug) for slug in ("weight_sparsity", "neuron_activity")]
    spec = stripes_spec(pairs)
    moved = spec.data.set_index(["measure", "layer"])["moved"]
    near = stripes(pairs[0].run)[-1]
    assert near[0].label == "Near-zero weights"
    expected = place(near[0], near[1][1]) - place(near[0], stripes(pairs[0].base)[-1][1][1])
    assert moved["Near-zero weights", 1] == pytest.approx(expected) and expected > 0.3
    assert (stripes_spec([pair_of(shown, slug="neuron_activity", other="twin")]).data["moved"] == 0).all()
