"""Sealed runs of `sae_quality`: a perfect dictionary, one of zeros, and one in between, on a model that is seconds to run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.latents.dictionary import open_dictionary
from analysis.latents.encoding import Observed
from analysis.latents.held_out import held_out
from analysis.latents.quality_arms import Judging
from analysis.latents.quality_tables import TOKENS
from analysis.latents.sae_quality import SAE_QUALITY, SaeQualityConfig
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.spec import UserError
from store import Store
from tests import zoo
from tests.latents.saes import made, perfect

HOOK = "blocks.0.hook_resid_post"
SMALL = {"dictionary_size": 8, "dictionary_steps": 2, "dictionary_tokens": 64, "kl_positions": 10**6}
ALONE = {"baselines": False, "dictionary_size": 0}
"""Without rivals, for tests that ask nothing of them."""


def subject(n=40, special=False):
    ids = torch.randint(3, 60, (n, 9), generator=torch.Generator().manual_seed(0)).numpy()
    return subject_from(zoo.llama()[0], data=TextWindows.from_ids(ids, document=np.arange(n) // 2))


def folder(path, sae, **metadata):
    from sae_lens.saes.sae import SAEMetadata

    sae.cfg.metadata = SAEMetadata(hook_name=HOOK, context_size=9, **metadata)
    sae.save_model(path)
    return path


def sealed(tmp_path, sae, model=None, metadata=None, **settings):
    store = Store(tmp_path / "store")
    dictionary = open_dictionary(folder(tmp_path / "sae", sae, **(metadata or {})))
    info = run(SAE_QUALITY, {"model": model or subject(), "sae": dictionary}, SaeQualityConfig(**{**SMALL, **settings}), store)
    return store, info


def quality(store, info):
    rows = store.read(info, "sae_quality")
    return {(row.measure, row.tokens, row.variant): row for row in rows.itertuples()}


def ours(store, info):
    return {
        measure: row
        for (measure, tokens, variant), row in quality(store, info).items()
        if variant == "ours" and tokens in ("judged", "scored")
    }


@pytest.fixture(scope="module")
def between(tmp_path_factory):
    return sealed(tmp_path_factory.mktemp("between"), made("topk", d_in=16, d_sae=40))


def test_a_perfect_dictionary_costs_nothing_and_explains_all(tmp_path):
    found = ours(*sealed(tmp_path, perfect(16), **ALONE))
    assert found["loss_increase"].value == 0
    assert found["explained_variance"].value == 1 == found["cosine"].value
    assert found["kl_spliced"].value == 0
    for measure in ("loss_recovered_zero", "loss_recovered_mean", "kl_recovered_zero"):
        assert found[measure].value == 1 or "nothing to recover" in found[measure].note
    assert found["kl_recovered_zero"].value == 1
    assert found["l0"].value == pytest.approx(16), "one of each pair of opposite latents"


def test_a_dictionary_of_zeros_is_zero_ablation_to_the_last_bit(tmp_path):
    sae = perfect(16)
    with torch.no_grad():
        sae.W_dec.zero_()
    store, info = sealed(tmp_path, sae)
    found = ours(store, info)
    assert found["loss_spliced"].value == found["loss_zero_ablated"].value
    assert found["kl_spliced"].value == found["kl_zero_ablated"].value
    assert found["kl_recovered_zero"].value == 0
    assert found["cosine"].value is None or np.isnan(found["cosine"].value)
    assert "zero vector" in found["cosine"].note
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("method")
    assert points.loc["zero ablation", "delta"] == points.loc["reconstruction by sae", "delta"]


def test_every_latent_has_its_row_and_its_class(between):
    store, info = between
    rows = store.read(info, "latents")
    assert len(rows) == 40
    assert (rows["n_tokens"] == rows["n_tokens"].iloc[0]).all() and rows["n_tokens"].iloc[0] == 9 * 20
    assert rows["n_active"].sum() == ours(store, info)["l0"].value * 180
    counted = [sum(counts) for counts in rows["counts"]]
    assert counted == rows["n_active"].tolist()
    assert set(rows["class"]) <= {"dead", "rare", "undecided", "normal", "dense"}
    assert "dead" not in set(rows["class"]), "180 tokens are too few to call anything dead"
    bins = store.read(info, "latent_bins")
    assert bins["n_latents"].sum() == 40 and bins["n_latents"].iloc[0] == (rows["n_active"] == 0).sum()


def test_the_first_measure_is_the_increase_of_the_loss_in_nats(between):
    store, info = between
    first = store.read(info, "sae_quality").iloc[0]
    assert (first["measure"], first["position"], first["unit"]) == ("loss_increase", 0, "nats per token")
    assert first["low"] < first["value"] < first["high"]
    facts = store.provenance(info)["facts"]
    assert facts["headline"][0].startswith("loss ") and "explained variance" in facts["headline"][1]
    assert facts["mask"].startswith("every token")


def test_scores_are_ratios_of_the_means_that_stand_beside_them(between):
    found = ours(*between)
    clean, spliced = found["loss_clean"].value, found["loss_spliced"].value
    assert found["loss_increase"].value == pytest.approx(spliced - clean)
    for word in ("zero", "mean"):
        ablated, score = found[f"loss_{word}_ablated"].value, found[f"loss_recovered_{word}"]
        if ablated > clean:
            assert score.value == pytest.approx((ablated - spliced) / (ablated - clean))
        else:
            assert np.isnan(score.value) and "nothing to recover" in score.note
        ablated = found[f"kl_{word}_ablated"].value
        assert found[f"kl_recovered_{word}"].value == pytest.approx((ablated - found["kl_spliced"].value) / ablated)


def test_other_programs_formulas_stand_beside_ours(between):
    found = quality(*between)
    older = [row for (measure, _, variant), row in found.items() if measure == "explained_variance" and variant != "ours"]
    assert len(older) == 1 and older[0].value != found["explained_variance", "judged", "ours"].value
    assert found["l0", "judged", "ours"].saelens_name == "sparsity/l0"
    assert found["explained_variance", "after first", "ours"].n == 160


def test_it_is_a_point_on_the_curves_with_its_l0(between):
    store, info = between
    rows = store.read(info, "curve_points").query("metric == 'loss'").set_index("method")
    mine = rows.loc["reconstruction by sae"]
    assert (mine["kind"], mine["level"], mine["native_unit"]) == ("point", 1.0, "latents per token")
    found = ours(store, info)
    assert mine["native_value"] == pytest.approx(found["l0"].value)
    assert mine["delta"] == pytest.approx(found["loss_increase"].value)
    assert {"zero ablation", "mean ablation", "reconstruction by pca", "reconstruction by random directions"} <= set(rows.index)
    losses = store.read(info, "point_losses").query("method == 'reconstruction by sae'")
    assert (losses["loss_sum"].sum() - losses["dense_sum"].sum()) / losses["n"].sum() == pytest.approx(mine["delta"])


def test_rivals_have_the_same_l0_and_are_measured_on_the_same_tokens(between):
    store, info = between
    rows = store.read(info, "sae_baselines").set_index(["method", "tokens", "measure"])
    assert {key[0] for key in rows.index} == {"sae", "pca", "random directions", "dictionary learning"}
    l0 = rows.loc[("sae", "judged", "l0"), "value"]
    for method in ("pca", "random directions"):
        assert rows.loc[(method, "judged", "l0"), "value"] == pytest.approx(l0, abs=1)
        assert rows.loc[(method, "judged", "explained_variance"), "n"] == 180
        assert 0 < rows.loc[(method, "judged", "explained_variance"), "value"] < 1
    learned = rows.loc[("dictionary learning", "sample", "explained_variance")]
    assert learned["value"] > 0 and learned["n"] == rows.loc[("sae", "sample", "explained_variance"), "n"]


def test_figures_draw_from_stored_rows(between):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store, info = between
    for figure in SAE_QUALITY.figures:
        spec = figure.draw(store.read(info, figure.table), store.provenance(info))
        assert to_plotly(spec).data and to_matplotlib(spec).axes
    shares = SAE_QUALITY.headlines(info.summaries)
    assert [one.label for one in shares][-1] == "Dead latents"


def test_special_tokens_and_first_positions_are_masked_in_every_arm_alike(tmp_path):
    """Trained without position 0: it is neither judged nor replaced, and zeros still score exactly as zero ablation."""
    sae = perfect(16)
    with torch.no_grad():
        sae.W_dec.zero_()
    store, info = sealed(tmp_path, sae, metadata={"seqpos_slice": [1, None]})
    found = quality(store, info)
    assert found["loss_spliced", "scored", "ours"].value == found["loss_zero_ablated", "scored", "ours"].value
    assert found["explained_variance", "judged", "ours"].n == 160 and found["explained_variance", "every", "ours"].n == 180
    assert ("explained_variance", "after first", "ours") not in found
    theirs = [v for m, _, v in found if m == "loss_recovered_zero" and v != "ours"]
    assert len(theirs) == 1 and theirs[0].startswith("sae-lens")
    assert store.provenance(info)["facts"]["mask"].startswith("position 0 left out")


def test_documents_that_trained_it_are_left_out(tmp_path):
    model = subject()
    trained = {"data": model.data.name, "documents": [f"document {i}" for i in range(8)]}
    store, info = sealed(tmp_path, perfect(16), model, trained, **ALONE)
    facts = store.provenance(info)["facts"]
    assert facts["documents_left_out"] == 8 and "None of these documents trained the SAE" in facts["preflight"][0]
    assert not set(store.read(info, "point_losses")["document"]) & set(range(8))


def test_where_every_document_trained_it_the_words_say_so(tmp_path):
    model = subject()
    dictionary = open_dictionary(folder(tmp_path, perfect(16), data=model.data.name, documents=model.data.documents))
    found = held_out(model, dictionary)
    assert found.subject.data.n_windows == 40 and "numbers of its training text" in found.words
    elsewhere = open_dictionary(folder(tmp_path / "b", perfect(16), data="other text", documents=model.data.documents))
    assert held_out(model, elsewhere).words == "The SAE was trained on other text; this is given windows."
    unknown = open_dictionary(folder(tmp_path / "c", perfect(16)))
    assert "not known" in held_out(model, unknown).words


def test_a_few_outsized_tokens_are_shown_apart(tmp_path):
    """One token of a norm 100 times the others: it rules the variance of all, and is left out of the usual ones."""
    ids = subject().data.token_ids.copy()
    model = zoo.llama()[0]
    with torch.no_grad():
        model.model.embed_tokens.weight[3] *= 3000
    ids[ids == 3] = 4
    ids[::4, 5] = 3
    own = subject_from(model, data=TextWindows.from_ids(ids, document=np.arange(40) // 2))
    found = quality(*sealed(tmp_path, made("topk", d_in=16, d_sae=40), own, **ALONE))
    usual, judged = found["explained_variance", "usual size", "ours"], found["explained_variance", "judged", "ours"]
    assert 0 < judged.n - usual.n <= 10
    assert abs(usual.value - judged.value) > 0.05


def test_what_is_fitted_is_fitted_on_other_documents(tmp_path):
    judging = Judging.of(SaeQualityConfig(), subject(), open_dictionary(folder(tmp_path, perfect(16))))
    fitting, reported = (set(data.document.tolist()) for data in (judging.fitting, judging.task.data))
    assert len(fitting) == len(reported) == 10 and not fitting & reported


def test_a_window_longer_than_in_training_is_refused(tmp_path):
    sae = perfect(16)
    path = folder(tmp_path / "sae", sae)
    dictionary = open_dictionary(path)
    dictionary.context_size = 8
    with pytest.raises(UserError, match="window must be at most the 8 tokens of the SAE's training context, got 9; set window=8"):
        Judging.of(SaeQualityConfig(), subject(), dictionary)


def test_a_killed_run_goes_on_and_gives_the_same(tmp_path, between):
    store = Store(tmp_path / "store")
    dictionary = open_dictionary(folder(tmp_path / "sae", made("topk", d_in=16, d_sae=40)))
    inputs, config = {"model": subject(), "sae": dictionary}, SaeQualityConfig(**SMALL)

    def stop(progress):
        if progress.what == "measuring the loss" and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SAE_QUALITY, inputs, config, store, progress=stop)
    info = run(SAE_QUALITY, inputs, config, store)
    for table in ("sae_quality", "latents", "sae_baselines", "curve_points"):
        one, two = store.read(info, table), between[0].read(between[1], table)
        assert one.to_json() == two.to_json(), table


def test_observed_sums_do_not_depend_on_how_windows_are_divided(tmp_path):
    model = subject()
    judging = Judging.of(SaeQualityConfig(**SMALL), model, open_dictionary(folder(tmp_path / "sae", made("topk", d_in=16, d_sae=40))))
    data = judging.task.data

    def seen(*parts):
        total = None
        for part in parts:
            one = Observed.empty(data, judging.dictionary, 16, [])
            for block in judging.source.blocks(data, part):
                one.update(block, judging.dictionary, {}, 4, 1e9)
            one = Observed.of_arrays(one.arrays())
            total = one if total is None else (total.merge(one), total)[1]
        return total

    whole, apart = seen(slice(0, 20)), seen(slice(8, 20), slice(0, 8))
    np.testing.assert_array_equal(whole.latents.n_active, apart.latents.n_active)
    for tokens in TOKENS:
        one, two = whole.fidelity[tokens].result(), apart.fidelity[tokens].result()
        assert one["explained_variance"].value == pytest.approx(two["explained_variance"].value, rel=1e-12)
