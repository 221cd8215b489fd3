"""head_patterns on heads whose pattern is known, on models of every kind, and on what it cannot answer."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from analysis.attention.head_patterns import HEAD_PATTERNS, HeadPatternsConfig
from analysis.attention.patterns_figures import draw_similarity
from analysis.attention.patterns_observing import Asked, measured, patterns_of
from analysis.attention.patterns_results import shortest_span
from analysis.capture import Frame
from analysis.capture.attention import AttentionCall
from analysis.models import TextWindows, open_subject, subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.stats.attention_spans import beyond
from figures.paper import to_matplotlib
from figures.screen import to_plotly
from store import Store
from tests import zoo
from tests.attention.planted import FAR, Layer, N, Planted, plan

PLANTED = (
    "previous",
    "sink",
    "local",
    "uniform",
    "blocks",
    "current",
    "middle sink",
    "lines",
    "first and near",
    "spread",
    "previous again",
)
SHAPES = (
    "previous token", "sink", "local", "uniform", "block-diagonal", "current token", "sink", "vertical-slash", "sink and local", "mixed",
    "previous token",
)  # fmt: skip


class More(Layer):
    """The planted heads, and: two columns with two diagonals, the first key with the nearest, keys drawn anew per row, a twin."""

    hidden: torch.Tensor | None = None
    """bool [heads, n, n]: pairs that may not be used."""

    def logits(self, ids):
        n = ids.shape[1]
        row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
        near = torch.where(row - key < 8, 0.0, torch.where(key == 0, 2.0, FAR))
        lines = torch.where((key == 5) | (key == 40) | (row - key == 17) | (row - key == 30), 0.0, FAR)
        spread = torch.rand(n, n, generator=torch.Generator().manual_seed(0)) * 12
        found = torch.cat([plan(n), torch.stack([lines, near, spread]), plan(n)[:1]])
        found = found.to(self.q.weight.dtype)
        return (found if self.hidden is None else found.masked_fill(self.hidden, float("-inf")))[None]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def text(n_windows=4, window=N, vocabulary=200, documents=2):
    ids = np.random.default_rng(0).integers(0, vocabulary, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows)


def model(**more):
    made = Planted(More, heads=len(PLANTED)).eval()
    for name, value in more.items():
        setattr(made.blocks[0], name, value)
    return made


def causal(made, data):
    subject = subject_from(made, name="planted", data=data)
    subject.task = "causal-lm"
    return subject


def sealed(store, subject, *, force=False, **settings):
    return run(HEAD_PATTERNS, {"model": subject}, HeadPatternsConfig(**settings), store, force=force)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("planted"))
    info = sealed(store, causal(model(), text()))
    rows = store.read(info, "head_patterns", order_by=["head"]).assign(kind=PLANTED).set_index("kind")
    return store, info, rows


@pytest.mark.parametrize(("kind", "shape"), list(zip(PLANTED, SHAPES)))
def test_every_planted_head_is_called_what_it_is(planted, kind, shape):
    row = planted[2].loc[kind]
    assert row["shape"] == shape
    assert row["shape_agreement"] == 1


def test_the_classes_of_minference_are_found_where_they_do_not_tie(planted):
    rows = planted[2]
    assert rows.loc["blocks", "pattern"] == "block-sparse"
    assert rows.loc[["lines", "middle sink"], "pattern"].eq("vertical-slash").all()
    assert rows.loc[["local", "first and near", "sink", "previous"], "pattern"].eq("A-shape").all(), "the simplest of those that tie"
    assert rows.loc["lines", "lines_recall"] == pytest.approx(1, abs=1e-5)
    assert rows.loc["lines", "a_shape_recall"] < 0.2
    assert (rows["pattern_agreement"] == 1).all()


def test_a_uniform_head_is_kept_by_nothing_but_as_much_as_was_asked_for(planted):
    row = planted[2].loc["uniform"]
    expected = np.mean([16 / (r + 1) for r in range(N // 2, N)])
    for name in ("a_shape_recall", "lines_recall", "oracle_mass"):
        assert row[name] == pytest.approx(expected, abs=1e-5), name
    assert row["keys"] == 16


def test_errors_and_halving_say_which_heads_few_keys_or_a_low_rank_suit(planted):
    store, info, rows = planted
    assert rows.loc["previous", "sparse_error"] < 1e-6
    assert rows.loc["previous", "low_rank_error"] > 0.9, "a shifted identity has full rank"
    assert rows.loc["sink", "low_rank_error"] < 1e-6
    assert rows.loc["uniform", "low_rank_error"] < rows.loc["uniform", "sparse_error"]
    assert (rows["combined_error"] <= rows[["sparse_error", "low_rank_error"]].max(axis=1) + 1e-9).all()
    assert (rows["hip_mass"] <= rows["oracle_mass"] + 1e-6).all()
    assert rows.loc["sink", "hip_recall"] == pytest.approx(1, abs=1e-5), "key 0 stands for the first range"
    curves = store.read(info, "head_budgets").pivot_table(index=["head", "method"], columns="level", values="value")
    more = curves.diff(axis=1).iloc[:, 1:]
    assert (more.xs("oracle", level="method") >= -1e-9).all(axis=None), "more keys hold more"
    assert (more.drop(index=["hip", "oracle"], level="method") <= 1e-9).all(axis=None), "more numbers err less"


def test_twins_are_one_cluster_and_strangers_are_not(planted):
    store, info, rows = planted
    assert rows.loc["previous", "cluster"] == rows.loc["previous again", "cluster"]
    assert rows["cluster"].nunique() == len(PLANTED) - 1
    assert rows.loc["previous", "nearest_divergence"] == pytest.approx(0, abs=1e-6)
    assert sorted(rows["leaf"]) == list(range(len(PLANTED)))
    merges = store.read(info, "head_merges", order_by=["merge"])
    assert merges.iloc[0][["left", "right"]].tolist() == [0, len(PLANTED) - 1]
    assert merges["distance"].is_monotonic_increasing
    assert merges.iloc[-1]["n_heads"] == len(PLANTED)
    pairs = store.read(info, "head_pairs")
    assert len(pairs) == len(PLANTED) * (len(PLANTED) - 1) / 2
    assert pairs["within"].all()
    twins = pairs[(pairs["head_a"] == 0) & (pairs["head_b"] == len(PLANTED) - 1)].iloc[0]
    assert twins["overlap"] == pytest.approx(1, abs=1e-5)
    assert twins["divergence"] == pytest.approx(0, abs=1e-6)


def test_a_layer_counts_its_heads(planted):
    store, info, rows = planted
    layer = store.read(info, "pattern_layers").iloc[0]
    assert layer["n_heads"] == len(PLANTED)
    assert layer["n_sink"] == 2
    assert layer["n_mixed"] == 1
    assert layer["n_clusters"] == len(PLANTED) - 1
    assert layer["n_class_block_sparse"] == (rows["pattern"] == "block-sparse").sum()
    assert np.isnan(layer["importance_top"]), "page rank means nothing under a causal mask"
    assert rows["page_rank_top"].isna().all()


def test_figures_are_drawn_from_stored_rows(planted):
    store, info, rows = planted
    for figure in HEAD_PATTERNS.figures:
        spec = figure.draw(store.read(info, figure.table), info.provenance)
        assert to_plotly(spec).data
        assert to_matplotlib(spec).axes
        assert f"{len(PLANTED)} heads" in spec.sentence
    spec = draw_similarity(store.read(info, "head_pairs"), rows.reset_index(), info.provenance)
    assert len(spec.data) == len(PLANTED) ** 2
    assert to_plotly(spec).data


# ---------------------------------------------------------------------------------------------------------------------
# Spans


def test_what_a_span_would_cost_is_what_it_costs_where_the_loss_is_linear(store):
    made = model()
    with torch.no_grad():
        made.blocks[0].o.weight *= 1e-3  # so small a part of the stream changes the loss linearly
    data = text(n_windows=2)
    info = sealed(store, causal(made, data), windows=2)
    costs = store.read(info, "head_spans").set_index(["head", "span"])
    ids = torch.from_numpy(data.token_ids)

    def loss():
        with torch.no_grad():
            out = made.double()(ids)
        return torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()

    whole = loss()
    for head, span in ((3, 16), (3, 64), (6, 32)):
        hidden = torch.zeros(len(PLANTED), N, N, dtype=torch.bool)
        hidden[head] = beyond(N, span // 16, 16)
        made.blocks[0].hidden = hidden
        assert costs.loc[(head, span), "at_once"] == pytest.approx(loss() - whole, rel=0.02, abs=1e-9), (head, span)
        made.blocks[0].hidden = None
    assert (costs["summed"] >= costs["at_once"].abs() - 1e-9).groupby("head").any().all()
    assert (costs.xs(N, level="span")[["summed", "at_once"]] == 0).all(axis=None)


def test_local_heads_need_short_spans(planted):
    rows = planted[2]
    assert rows.loc["previous", "span"] <= 32
    assert rows.loc["sink", "span"] == 16, "the first block is always seen"
    assert rows.loc["uniform", "span"] >= rows.loc["local", "span"]
    assert not planted[1].provenance["facts"]["spans"].startswith("no")


def test_the_shortest_span_is_the_one_after_the_last_that_costs_too_much():
    assert shortest_span(np.array([5.0, 0.005, 2.0, 0.0]), 0.01) == 4
    assert shortest_span(np.array([0.0, 0.0]), 0.0) == 1


def test_a_model_without_a_loss_has_no_spans(store):
    info = sealed(store, subject_from(model(), name="no task", data=text(n_windows=1)))
    assert store.read(info, "head_spans").empty
    assert store.read(info, "head_patterns")["span"].isna().all()


@pytest.mark.parametrize("empty", [[], [70, 71, 72, 100]])
def test_a_query_that_sees_no_key_leaves_the_means_and_not_the_keys_of_others(store, empty):
    hidden = torch.eye(N, dtype=torch.bool)  # the first query sees nothing, and all look at its key
    hidden[empty] = True
    info = sealed(store, causal(model(hidden=hidden), text(n_windows=2)))
    assert info.provenance["facts"]["tokens"] == N
    rows = store.read(info, "head_patterns", order_by=["head"])
    rows = rows.assign(kind=PLANTED).set_index("kind")
    assert rows.loc["sink", "shape"] == "sink"
    assert rows.loc["previous", "shape"] == "previous token"
    assert rows.loc["sink", ["sink_share", "oracle_mass", "a_shape_recall"]].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert rows.loc["previous", ["local_share", "oracle_mass"]].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert rows.loc["uniform", "evenness"] == pytest.approx(1, abs=1e-5)
    assert rows.loc[["previous", "previous again"], "nearest_divergence"].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert rows["nearest_cosine"].notna().all()


def test_no_choice_of_blocks_holds_more_than_that_by_their_sums(planted):
    rows = planted[2]
    assert (rows["block_sum_recall"] >= rows["blocks_recall"] - 1e-6).all()
    assert rows.loc["sink", "block_sum_recall"] == pytest.approx(1, abs=1e-4)
    assert rows.loc["uniform", "block_sum_recall"] < 0.3
    assert (rows["block_sum_recall"] <= 1).all()


def test_windows_of_one_image_are_measured_as_each_alone():
    made = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, 2, 12, 4, generator=made) for _ in range(2))
    site: Any = SimpleNamespace(name="windows", stream="rows")

    def patterns(windows):
        call = AttentionCall(site, 0, query[windows], key[windows], None, query[windows], 0.5, None, False, None, Frame(None))
        return [measured(pattern, False, Asked(0.25, 4, 64, 1)) for pattern in patterns_of(call, 4, 64)]

    together = patterns(slice(0, 3))
    alone = [patterns(slice(w, w + 1))[0] for w in range(3)]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------------------
# Same numbers, whatever the way


def assert_same(one, other, rtol):
    """Two runs, each with its store."""
    for table in HEAD_PATTERNS.tables:
        a, b = (store.read(info, table.name, order_by=list(table.key)) for store, info in (one, other))
        for name in a:
            if a[name].dtype.kind == "f":
                np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-6, err_msg=name)
            else:
                assert a[name].equals(b[name]), name


def test_any_block_of_logits_gives_the_same_numbers(store, planted):
    assert len(PLANTED) * N * N < HeadPatternsConfig().elements, "the planted run made all logits at once"
    assert_same((store, sealed(store, causal(model(), text()), elements=1024)), planted[:2], rtol=1e-5)


def test_a_killed_run_goes_on_and_gives_the_same(store, planted):
    subject = causal(model(), text())

    def stop(progress):
        if progress.what == "asking for spans" and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(HEAD_PATTERNS, {"model": subject}, HeadPatternsConfig(), store, progress=stop)
    again = run(HEAD_PATTERNS, {"model": subject}, HeadPatternsConfig(), store)
    assert_same(planted[:2], (store, again), rtol=1e-12)


def test_windows_come_from_as_many_documents_as_there_are(store):
    data = text(n_windows=12, window=32, documents=3)
    facts = [sealed(store, causal(model(), data), windows=3, seed=s).provenance["facts"] for s in (0, 1)]
    assert [f["n_documents"] for f in facts] == [3, 3]
    assert facts[0]["windows"] != facts[1]["windows"], "the seed chooses"


def test_long_windows_are_cropped_and_it_is_said(store):
    data, short = text(n_windows=2), text(n_windows=2)
    short = dataclasses.replace(short, token_ids=short.token_ids[:, :64], special=short.special[:, :64])
    one, other = sealed(store, causal(model(), data), longest=64), sealed(store, causal(model(), short))
    assert one.provenance["facts"]["cropped"] == "windows of 128 tokens to their first 64"
    assert "cropped" not in other.provenance["facts"]
    assert_same((store, one), (store, other), rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Models of every kind


@pytest.mark.parametrize("name", ["vit", "albert", "t5", "encoder", "positions_first", "gpt2", "llama"])
def test_every_kind_of_model_seals_a_run(name, store):
    made, batch = zoo.ZOO[name]()
    info = sealed(store, subject_from(made, name=name, data=[batch]))
    layers, heads = store.read(info, "pattern_layers"), store.read(info, "head_patterns")
    assert len(heads) == layers["n_heads"].sum()
    assert heads["page_rank_top"].isna().equals(heads["causal"])
    assert heads["nearest_cosine"].notna().all()
    if name == "albert":
        assert layers["turn"].tolist() == [0, 1]
        pairs = store.read(info, "head_pairs")
        assert not pairs["within"].all(), "the two calls are compared"
    for figure in HEAD_PATTERNS.figures:
        assert to_plotly(figure.draw(store.read(info, figure.table), info.provenance)).data


def test_padding_is_cut_off(store):
    made, batch = zoo.bert()
    real = int(batch["attention_mask"].sum(1).max())
    info = sealed(store, subject_from(made, name="bert", data=[batch]))
    assert info.provenance["facts"]["tokens"] == real
    alone = {key: value[:1, :real] for key, value in batch.items()}
    both = [
        store.read(sealed(store, subject_from(made, name=n, data=[b]), windows=1, seed=0), "head_patterns")
        for n, b in (("bert", batch), ("one", alone))
    ]
    assert both[0]["keys"].equals(both[1]["keys"])


@pytest.mark.parametrize(("name", "words"), [("mamba", "state-space layers"), ("lstm", "recurrent layers"), ("resnet", "convolutions")])
def test_models_without_attention_are_told_so_in_a_sentence(name, words, store):
    made, batch = zoo.ZOO[name]()
    with pytest.raises(IncompatibleSubject, match=f"must have softmax attention, got .*{words}"):
        sealed(store, subject_from(made, name=name, data=[batch]))


def test_windows_too_long_to_be_looked_at_are_refused_in_a_sentence(store):
    made, batch = zoo.vit()
    with pytest.raises(IncompatibleSubject, match="4 to 4 of them, got none such"):
        sealed(store, subject_from(made, name="vit", data=[batch]), longest=4)


def test_a_window_longer_than_the_models_positions_is_refused():
    subject = subject_from(zoo.gpt2()[0], name="tiny", data=text(window=32, vocabulary=60))
    subject.facts["context_length"] = 16
    assert "the window must be at most 16 tokens" in HEAD_PATTERNS.needs(subject)
    subject.data = None
    assert "has no inputs" in HEAD_PATTERNS.needs(subject)


@pytest.mark.parametrize(("name", "heads"), [("smollm2", 270), ("minilm", 72)])
def test_bundled_models_seal_a_run(name, heads, store):
    subject = open_subject(name, "python-docs", n_tokens=48, window=48)
    rows = store.read(sealed(store, subject, windows=1), "head_patterns")
    assert len(rows) == heads
    assert rows["span"].notna().all() == (name == "smollm2")
    assert rows["page_rank_top"].notna().all() == (name == "minilm")
    if name == "smollm2":
        assert (rows["shape"] == "sink").sum() > 20, "it has sink heads"
        assert (rows["nearest_divergence"] < 0.05).any(), "and heads that are nearly the same"
