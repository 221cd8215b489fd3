"""The SAE and latents browser, over sealed runs on tiny seeded models, in the states its pages can be in."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from analysis.latents.sae_files import listed_fingerprint, look
from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
from analysis.models import subject_from
from analysis.runner import run as run_analysis
from analysis.spec import UserError
from store import Filter, Order, Store
from tests import zoo
from tests.latent_run import make_doubled, make_saes, make_superposed
from tests.toy import HOSTILE
from ui.latents import overview
from ui.latents.charts import scatter_spec
from ui.latents.compare import rows_of
from ui.latents.labels import labels_of, owner_of
from ui.latents.latent_page import _differ, above, state
from ui.latents.saes import find, query, sae_of, saes
from ui.latents.table import badges_of
from ui.latents.view import NONE, View, promoting
from ui.words import plain

LATENTS, LATENT, START = "pages/latents.py", "pages/latent.py", "pages/start.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sealed runs, made once: an SAE trained, judged and looked into."""
    store = Store(tmp_path_factory.mktemp("made") / "store")
    yield make_saes(store)
    store.close()


@pytest.fixture
def some(store, made):
    """Puts some of them into the store that the pages show: a run is a file, and its folder of files."""

    def copy(*slugs):
        for run in made:
            if not slugs or run.slug in slugs:
                target = store.folder / "runs" / run.path.name
                shutil.copy(run.path, target)
                files = run.path.with_suffix(".files")
                if files.is_dir():
                    shutil.copytree(files, target.with_suffix(".files"))
                store.register(target)
        return {run.slug: store.find(run.id) for run in made if not slugs or run.slug in slugs}

    return copy


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def links_of(at):
    return [re.sub(r"[\\\u2060]", "", link.proto.label) for link in at.get("page_link")]


def table_of(at):
    return next(one.value for one in at.dataframe if "badges" in one.value.columns)


def open_latent(open_page, run, latent=0, **more):
    return open_page(LATENT, run=run.id, latent=str(latent), **more)


def view_of(run, **more):
    return View(
        **({"run": run, "classes": (), "twins": None, "measure": "density", "bounds": (None, None), "token": "", "found": None} | more)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Which SAE


def test_without_an_sae_the_page_says_which_command_makes_one(store, open_page):
    at = open_page(LATENTS)
    assert "No SAE has been trained or judged yet" in words_of(at)
    assert any("run sae_train --model smollm2" in code.value for code in at.code)
    assert "Train an SAE here" in links_of(at)


def test_the_fingerprint_listed_in_a_run_is_that_of_its_files(store, some):
    train = some("sae_train")["sae_train"]
    assert listed_fingerprint(train.provenance["files"]) == look(store.files(train) / "sae").fingerprint()
    assert listed_fingerprint([]) == ""
    one = [dict(row) for row in train.provenance["files"]]
    one[-1]["bytes"] += 1
    assert listed_fingerprint(one) != listed_fingerprint(train.provenance["files"])


def test_runs_on_the_same_sae_are_one_sae_whoever_addresses_it(some):
    runs = some()
    [sae] = saes().values()
    assert {run.slug for run in sae.runs} == set(runs)
    assert sae.n_latents == 40 and sae.architecture == "topk" and sae.hook_name == "blocks.1.hook_resid_post"
    for run in runs.values():
        assert sae_of(run.id, saes()) == sae
    assert sae_of("nothing-1", saes()) is None


def test_an_sae_whose_training_is_in_another_store_is_shown_from_what_was_judged(some, open_page, on_disk):
    runs = some("sae_quality")
    [sae] = saes().values()
    assert sae.train is None and sae.reference == "" and sae.architecture == "topk"
    at = open_page(LATENTS)
    assert not [one for one in at.button if one.key.startswith("next-")], "nobody here knows where its files are"
    assert any("--with sae=FOLDER" in code.value for code in at.code)
    assert runs["sae_quality"].id == query(sae, 0)["run"]


def test_the_same_sae_in_another_model_is_another_one(store, tmp_path):
    runs = [make_doubled(store, tmp_path / "sae", seed) for seed in (0, 1)]
    assert len({sae.fingerprint for sae in saes().values()}) == 1
    assert [len(saes()[run.id].runs) for run in runs] == [1, 1]


# ---------------------------------------------------------------------------------------------------------------------
# What it is worth


def test_the_increase_of_the_loss_stands_before_every_other_number(some, open_page):
    quality = some()["sae_quality"]
    at = open_page(LATENTS)
    row = next(row for row in quality.summaries["sae_quality"] if row["measure"] == "loss_increase")
    assert at.metric[0].label == "CE difference"
    assert at.metric[0].value == f"{row['value']:+.3g} nats"
    table = next(one.value for one in at.dataframe if "SAELens calls it" in one.value.columns)
    assert table["value"].iloc[0] == row["value"]
    assert len(table) == len(quality.summaries["sae_quality"])


def test_where_another_program_gives_another_number_both_are_said(some, open_page):
    quality = some()["sae_quality"]
    text = words_of(open_page(LATENTS))
    rows = {(row["measure"], row["variant"] == "ours"): row for row in quality.summaries["sae_quality"] if row["tokens"] == "judged"}
    ours, theirs = rows["mse", True], rows["mse", False]
    assert ours["value"] != theirs["value"]
    said = next(line for line in text.splitlines() if line.startswith(f"- {ours['meaning']}:"))
    assert theirs["variant"] in said and f"ours is {ours['value']:.4g}"[:12] in said


def test_what_was_checked_before_it_was_used_is_said(some, open_page):
    quality = some()["sae_quality"]
    text = words_of(open_page(LATENTS))
    for finding in quality.provenance["facts"]["preflight"]:
        assert finding in text


@pytest.mark.parametrize("known", ["None of these documents trained the SAE.", "The SAE was trained on a text; this is another.", ""])
def test_below_the_numbers_it_is_said_which_text_trained_it(some, known):
    some()
    [sae] = saes().values()
    facts = sae.quality.provenance["facts"]
    assert facts["documents_left_out"] and plain(facts["preflight"][0]) in overview._tokens_words(sae)
    told = facts | {"documents_left_out": 0, "preflight": [known] if known else []}
    said = overview._tokens_words(replace(sae, quality=replace(sae.quality, provenance={"facts": told})))
    assert plain(known) in said and "not known" not in said


@pytest.fixture
def on_disk(monkeypatch):
    """As if the model of the runs were a file, which commands can name."""
    monkeypatch.setattr("ui.latents.next_steps.only_in_memory", lambda _: False)


def test_an_sae_of_a_model_that_was_only_in_memory_offers_no_command_that_cannot_work(some, open_page):
    some("sae_train")
    at = open_page(LATENTS)
    assert "SAE quality, Latent examples: its model was only in memory" in words_of(at)
    assert not [code.value for code in at.code if "--with" in code.value]


def test_an_sae_of_a_model_that_reads_no_text_is_not_offered_what_would_refuse_it(store, open_page, on_disk):
    model, batch = zoo.vit()
    images = [{name: torch.randn(2, *values.shape[1:]) for name, values in batch.items()} for _ in range(4)]
    config = SaeTrainConfig(n_latents=16, k=2, n_samples=320, batch=32, place="blocks.0.hook_resid_post")
    run_analysis(SAE_TRAIN, {"model": subject_from(model, name="tiny-vit", data=images)}, config, store)
    at = open_page(LATENTS)
    assert "SAE quality, Latent examples: they ask what a text loses" in words_of(at)
    assert not [one for one in at.button if one.key.startswith("next-")]
    assert not [code.value for code in at.code if "--with" in code.value]
    assert not any(label in ("Judge it", "Collect examples") for label in links_of(at))


def test_a_trained_sae_offers_to_be_judged_and_looked_into_with_its_own_window(some, open_page, on_disk):
    train = some("sae_train")["sae_train"]
    at = open_page(LATENTS)
    text = words_of(at)
    assert "held-out documents" in text and "Next for this SAE" in text
    commands = [code.value for code in at.code]
    for slug in ("sae_quality", "latent_examples"):
        assert any(f"run {slug} " in one and f"--with sae={train.id}" in one and "--window 16" in one for one in commands)
    assert not any("latent_attribution" in one for one in commands), "it does not read heads"
    assert "Latents 1 to" not in text


def test_all_that_was_asked_is_not_offered_again(some, open_page):
    some()
    assert "Next for this SAE" not in words_of(open_page(LATENTS))


def test_known_features_that_were_found_are_told_by_their_mean_max_cosine(store, open_page):
    run = make_superposed(store)
    [row] = run.summaries["saes"]
    text = words_of(open_page(LATENTS, run=run.id))
    assert row["mean_max_cosine"] > 0.9
    assert f"mean max cosine {row['mean_max_cosine']:.3f}" in text
    assert "known features with a decoder direction" in text


def test_saes_are_compared_in_a_row_each(store, some, open_page):
    some()
    make_superposed(store)
    known = saes()
    rows = rows_of(known)
    assert len(rows["CE difference"]) == 2
    judged = [sae.quality is not None for sae in known.values()]
    assert [value is not None for value in rows["CE difference"]] == judged
    assert [value is not None for value in rows["mean max cosine"]] == [not one for one in judged]
    assert any("mean max cosine" in one.value.columns for one in open_page(LATENTS).dataframe)


# ---------------------------------------------------------------------------------------------------------------------
# All latents


def test_all_latents_are_there_with_their_stored_numbers(store, some, open_page):
    examples = some()["latent_examples"]
    at = open_page(LATENTS)
    stored = store.read(examples, "latents", order_by=["latent"])
    assert f"Latents 1 to 25 of {len(stored)}." in words_of(at)
    shown = table_of(at)
    assert shown["latent"].tolist() == stored["latent"].tolist()[:25]
    assert shown["density"].tolist() == stored["density"].tolist()[:25]
    assert [list(one) for one in shown["badges"]] == [badges_of(row) for row in stored.head(25).to_dict("records")]


def test_a_view_in_the_address_is_sorted_filtered_and_paged_by_the_database(store, some, open_page):
    run = some()["latent_examples"]
    stored = store.read(run, "latents", where=[Filter("n_active", ">=", 5)], order_by=[Order("max", descending=True), Order("latent")])
    at = open_page(LATENTS, run=run.id, sort="largest", only="tokens", page="2", **{"from": "5"})
    assert table_of(at)["latent"].tolist() == stored["latent"].tolist()[25:50]


def test_a_near_duplicate_has_a_badge_and_is_found_by_it(store, tmp_path, open_page):
    run = make_doubled(store, tmp_path / "doubled")
    stored = store.read(run, "latents")
    twins = stored.loc[stored["near_duplicate"], "latent"].tolist()
    assert twins == [0, 1], "made so"
    at = open_page(LATENTS, run=run.id, twins="near duplicates")
    assert table_of(at)["latent"].tolist() == twins
    assert all("duplicate" in list(one) for one in table_of(at)["badges"])
    other = open_page(LATENTS, run=run.id, twins="no duplicates")
    assert not set(table_of(other)["latent"]) & set(twins)
    text = words_of(open_latent(open_page, run, 0))
    assert "the decoder direction of latent 1 is nearly its own" in text


def test_a_search_finds_the_latents_that_promote_a_token(store, some, open_page):
    run = some()["latent_examples"]
    tokens = store.read(run, "latent_tokens", where=[Filter("side", "=", "promoted")])
    assert tokens["token"].notna().all()
    wanted = tokens["token"].iloc[0]
    having = sorted(set(tokens.loc[tokens["token"].str.contains(wanted, regex=False), "latent"]))
    assert list(promoting(run, wanted)) == having and 0 < len(having) < 40
    at = open_page(LATENTS, run=run.id, search=wanted)
    assert table_of(at)["latent"].tolist() == having[:25]
    none = open_page(LATENTS, run=run.id, search="no token holds this")
    assert "No latent meets all of these filters" in words_of(none)
    assert view_of(run, token="x", found=()).where == NONE


def test_the_scatter_holds_the_latents_that_meet_the_filters_and_counts_the_silent_ones(store, some):
    run = some()["latent_examples"]
    stored = store.read(run, "latents")
    active = stored[stored["n_active"] > 0]
    spec = scatter_spec(view_of(run))
    assert sorted(spec.data["latent"]) == sorted(active["latent"])
    assert f"n = {len(active)} of 40 latents" in spec.sentence
    low = float(active["density"].median())
    part = scatter_spec(view_of(run, bounds=(low, None)))
    assert sorted(part.data["latent"]) == sorted(active.loc[active["density"] >= low, "latent"])
    assert f"density at least {low:g}" in part.sentence


def test_an_unknown_run_is_said_and_the_newest_shown(some, open_page):
    some()
    text = words_of(open_page(LATENTS, run=HOSTILE))
    assert f"There is no run `{HOSTILE}` of an SAE" in text
    assert "Latents 1 to" in text


# ---------------------------------------------------------------------------------------------------------------------
# One latent


def test_a_latent_shows_its_own_stored_numbers_and_their_place_among_the_others(store, some, open_page):
    run = some()["latent_examples"]
    stored = store.read(run, "latents").set_index("latent")
    latent = int(stored["n_active"].idxmax())
    at = open_latent(open_page, run, latent)
    row = stored.loc[latent]
    assert at.title[0].value == f"Latent {latent}"
    assert f"Active on {row['n_active']:,} of {row['n_tokens']:,} tokens" in words_of(at)
    below = (stored["max"] < row["max"]).sum() / (len(stored) - 1)
    assert at.metric[0].delta == above(below)
    assert [above(share) for share in (1.0, 0.9999, 0.5, 0.0)] == ["above all others", *(f"above {n} % of latents" for n in (99, 50, 0))]


def test_numbers_that_are_equal_but_for_rounding_have_no_order():
    assert not _differ((0.9999999, 1.0000001)) and not _differ((1.0, 1.0)) and not _differ(None)
    assert _differ((0.9, 1.0)) and _differ((-1.0, 1.0))


def test_a_silent_latent_is_told_with_the_bound_and_never_as_an_empty_panel(some):
    row = {"n_active": 0, "n_tokens": 1000, "n_documents": 20, "document_high": 0.139}
    assert (
        state(row)
        == "Active on none of 1,000 tokens from 20 documents: with 95 % confidence it is active in fewer than 13.9 % of such documents."
    )


def test_examples_similar_latents_and_tokens_are_those_of_the_run(store, some, open_page):
    run = some()["latent_examples"]
    latent = int(store.read(run, "latents").set_index("latent")["n_active"].idxmax())
    at = open_latent(open_page, run, latent)
    text, links = words_of(at), links_of(at)
    for heading in ("Tokens it writes", "Similar latents", "Neurons and heads that follow it"):
        assert heading in text
    tokens = store.read(run, "latent_tokens", where=[Filter("latent", "=", latent), Filter("side", "=", "promoted")], order_by=["rank"])
    table = next(one.value for one in at.dataframe if "score" in one.value.columns)
    assert table["token_id"].tolist() == tokens["token_id"].tolist()
    nearest = store.read(
        run, "latent_neighbours", where=[Filter("latent", "=", latent), Filter("by", "=", "decoder cosine")], order_by=["rank"]
    )
    assert [one for one in links if one.startswith("Latent ") and "·" in one][
        0
    ] == f"Latent {nearest['other'].iloc[0]} · {nearest['value'].iloc[0]:.2f}"
    partner = store.read(run, "latent_partners", where=[Filter("latent", "=", latent), Filter("kind", "=", "neuron")], order_by=["rank"])
    assert f"Neuron {partner['layer'].iloc[0]}:{partner['unit'].iloc[0]} ·" in text, "measured nowhere, so without a link"


def test_a_latent_of_an_sae_that_was_only_trained_says_what_to_run(some, open_page, on_disk):
    train = some("sae_train")["sae_train"]
    at = open_latent(open_page, train, 3)
    assert "Nothing has been measured of single latents" in words_of(at)
    assert any("run latent_examples" in code.value for code in at.code)


def test_a_latent_of_an_sae_that_was_only_judged_shows_its_histogram_and_offers_examples(some, open_page, on_disk):
    some("sae_train", "sae_quality")
    at = open_latent(open_page, next(iter(saes().values())).run, 0)
    assert "Collect examples" in [one.label for one in at.button] + links_of(at)
    assert "Similar latents" not in words_of(at)


def test_next_and_previous_go_through_all_latents_and_around_the_ends(some, open_page):
    run = some()["latent_examples"]
    at = open_latent(open_page, run, 39)
    at.button(key="next").click().run()
    assert at.title[0].value == "Latent 0"
    at.button(key="previous").click().run()
    assert at.title[0].value == "Latent 39"
    at.button(key="random").click().run()
    assert re.fullmatch(r"Latent \d+", at.title[0].value)


def test_what_is_typed_leads_to_a_latent_or_is_refused_in_a_sentence(some, open_page):
    run = some()["latent_examples"]
    [sae] = saes().values()
    assert [find(sae, typed) for typed in ("7", " 7 ", "#7")] == [7, 7, 7]
    for typed, words in (("40", "must be 0 to 39, got 40"), ("x", "by its number"), ("-1", "by its number"), ("", "by its number")):
        with pytest.raises(UserError, match=words):
            find(sae, typed)
    at = open_latent(open_page, run, 5)
    at.text_input(key="jump").set_value("99").run()
    assert at.title[0].value == "Latent 5" and "must be 0 to 39, got 99" in words_of(at)
    at.text_input(key="jump").set_value("9").run()
    assert at.title[0].value == "Latent 9"


@pytest.mark.parametrize(
    ("asked", "title", "words"),
    [
        ({}, "No latent chosen", "Choose"),
        ({"run": "no-such-run"}, "No such latent", "There is no run `no-such-run`"),
        ({"latent": "77"}, "No such latent", "must be 0 to 39, got 77"),
        ({"latent": HOSTILE}, "No such latent", "by its number"),
    ],
)
def test_an_address_of_no_latent_is_answered_in_words(some, open_page, asked, title, words):
    run = some()["latent_examples"]
    at = open_page(LATENT, **(asked if not asked or "run" in asked else {"run": run.id, **asked}))
    assert at.title[0].value == title
    assert words in words_of(at) + " ".join(links_of(at))


# ---------------------------------------------------------------------------------------------------------------------
# Labels


def test_a_label_is_written_on_the_page_and_found_in_the_table(store, some, open_page):
    run = some()["latent_examples"]
    at = open_latent(open_page, run, 2)
    at.text_input[[one.label for one in at.text_input].index("Label")].set_value("names of planets").run()
    assert not at.exception
    [sae] = saes().values()
    assert labels_of(sae)[2].text == "names of planets"
    assert store.labels.of(owner_of(sae))["2"].text == "names of planets"
    shown = table_of(open_page(LATENTS)).set_index("latent")
    assert shown.loc[2, "label"] == "names of planets" and shown["label"].notna().sum() == 1


def test_a_label_and_a_model_with_hostile_names_are_only_text(store, open_page):
    runs = make_saes(store, name=HOSTILE)
    sae = next(iter(saes().values()))
    store.labels.write(owner_of(sae), "1", HOSTILE)
    for page, more in ((LATENTS, {}), (LATENT, {"latent": "0"})):
        at = open_page(page, run=runs[0].id, **more)
        for one in (*at.title, *at.markdown, *at.caption):
            assert "<img" not in re.sub(r"(`+).*?\1", "", str(one.value)).replace("\\<", ""), one.value


def test_every_chart_has_its_sentence_and_an_alternative_text(some, open_page):
    some()
    at = open_page(LATENTS)
    charts = at.get("plotly_chart")
    assert len(charts) == 5
    for chart in charts:
        assert json.loads(chart.proto.spec)["data"]
    assert len(re.findall(r"n = \d", words_of(at))) >= 1
