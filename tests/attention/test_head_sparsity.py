"""head_sparsity on heads whose behaviour is known, on models of every kind, and on what it cannot answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.attention import head_sparsity
from analysis.attention.head_sparsity import HEAD_SPARSITY, HeadSparsityConfig
from analysis.models import TextWindows, open_subject, subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from store import Store
from tests import zoo
from tests.attention.planted import BLOCK, HEADS, MIDDLE, WIDTH, Matching, N, Planted
from tests.attention.test_attention_capture import Calls


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def text(n_windows=4, window=N, vocabulary=200, documents=2):
    ids = np.random.default_rng(0).integers(0, vocabulary, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows)


def sealed(store, model, data, *, name="tiny", force=False, **settings):
    return run(HEAD_SPARSITY, {"model": subject_from(model, name=name, data=data)}, HeadSparsityConfig(**settings), store, force=force)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("planted"))
    info = sealed(store, Planted().eval(), text(), name="planted")
    rows = store.read(info, "heads", order_by=["head"]).assign(kind=HEADS).set_index("kind")
    return store, info, rows


def mean_rows(values):
    """Mean over rows 1 to N - 1."""
    return np.mean([values(r) for r in range(1, N)])


def test_a_previous_token_head(planted):
    row = planted[2].loc["previous"]
    assert row["previous_mass"] == pytest.approx(1, abs=1e-5)
    assert row["keys"] == pytest.approx(1)
    assert row["span"] == pytest.approx(2)
    assert row["distance"] == pytest.approx(1, abs=1e-4)
    assert row["slope"] == pytest.approx(0, abs=1e-6)
    assert row["previous_score"] == pytest.approx(1, abs=1e-5)


def test_a_sink_head_and_one_whose_sink_is_in_the_middle(planted):
    sink, middle = planted[2].loc["sink"], planted[2].loc["middle sink"]
    assert sink["first_mass"] == pytest.approx(1, abs=1e-5)
    assert sink["sink_mass"] == pytest.approx(1, abs=1e-5)
    assert sink["detected_sinks"] == 1
    assert sink["detected_sink_mass"] == pytest.approx(1, abs=1e-5)
    assert sink["zipvl"] == pytest.approx(1 / N)
    assert middle["first_mass"] < 1e-5
    assert middle["detected_sinks"] == 1
    assert middle["detected_sink_mass"] == pytest.approx((N - 1 - MIDDLE) / (N - 16), abs=0.01)


def test_a_local_head(planted):
    row = planted[2].loc["local"]
    assert row["keys"] == pytest.approx(mean_rows(lambda r: np.ceil(0.9 * min(r + 1, WIDTH) - 1e-9)))
    assert row["span"] == pytest.approx(mean_rows(lambda r: np.ceil(0.95 * min(r + 1, WIDTH) - 1e-9)))
    assert row["local_mass"] == pytest.approx(1, abs=1e-5)
    assert row["effective_keys"] == pytest.approx(mean_rows(lambda r: min(r + 1, WIDTH)), rel=1e-4)
    assert row["slope"] == pytest.approx(0, abs=0.05), "from position 8 on its keys do not grow"


def test_a_uniform_head(planted):
    row = planted[2].loc["uniform"]
    assert row["relative_entropy"] == pytest.approx(1, abs=1e-5)
    assert row["gini"] == pytest.approx(0, abs=1e-5)
    assert row["key_share"] == pytest.approx(mean_rows(lambda r: np.ceil(0.9 * (r + 1) - 1e-9) / (r + 1)))
    assert row["slope"] == pytest.approx(1, abs=0.05), "its keys grow as fast as the context"
    assert row["channel_share"] is None or np.isnan(row["channel_share"]), "the planted queries are zero"


def test_a_block_diagonal_head(planted):
    store, info, rows = planted
    assert rows.loc["blocks", "effective_keys"] == pytest.approx(mean_rows(lambda r: r % BLOCK + 1), rel=1e-4)
    levels = store.read(info, "head_levels")
    blocks = levels[(levels["measure"] == "block_density") & (levels["head"] == HEADS.index("blocks"))].set_index("level")["value"]
    n = N // BLOCK
    assert blocks[float(BLOCK)] == pytest.approx(n / (n * (n + 1) / 2)), "its own blocks of all causal ones"
    uniform = levels[(levels["measure"] == "block_density") & (levels["head"] == HEADS.index("uniform"))]
    assert (uniform["value"] == 1).all()
    assert set(blocks.index) == {16.0, 32.0, 64.0}, "a window of 128 is one block of 128"


def test_rules_that_keep_few_keys_suit_local_heads_and_not_uniform_ones(planted):
    rows = planted[2]
    for name in ("h2o_mass", "alisa_mass", "quarter_mass"):
        assert rows.loc["previous", name] == pytest.approx(1, abs=1e-4), name
        assert rows.loc["local", name] == pytest.approx(1, abs=1e-4), name
        assert rows.loc["uniform", name] < 0.4, name
    later = range(N // 2, N)
    assert rows.loc["uniform", "quarter_mass"] == pytest.approx(np.mean([np.ceil((r + 1) / 4) / (r + 1) for r in later]), abs=1e-5)
    assert rows.loc["uniform", "h2o_mass"] == pytest.approx(np.mean([24 / (r + 1) for r in later]), abs=1e-5), "12 heavy and 12 recent"


def test_distances_add_up_and_show_where_a_head_looks(planted):
    store, info, _ = planted
    found = store.read(info, "head_distances")
    np.testing.assert_allclose(found.groupby("head")["mass"].sum(), 1, atol=1e-5)
    previous = found[found["head"] == HEADS.index("previous")].set_index("distance_from")["mass"]
    assert previous[1] == pytest.approx(1, abs=1e-5)


def test_positions_partition_the_queries(planted):
    store, info, rows = planted
    found = store.read(info, "head_positions")
    uniform = found[found["head"] == HEADS.index("uniform")].set_index("position_from")
    assert uniform["n_rows"].sum() == rows.loc["uniform", "n_rows"] == 4 * (N - 1)
    assert uniform.index.tolist() == [1, 2, 4, 8, 16, 32, 64]
    assert uniform.loc[64, "valid_keys"] == pytest.approx(np.mean(np.arange(64, 128) + 1))
    assert uniform.loc[64, "n_rows"] == 4 * 64


def test_induction_and_duplicate_token_heads_are_told_apart(store):
    info = sealed(store, Planted(Matching, heads=2).eval(), text(), name="matching")
    rows = store.read(info, "heads", order_by=["head"])
    np.testing.assert_allclose(rows["induction_score"], [1, 0], atol=1e-3)
    np.testing.assert_allclose(rows["duplicate_score"], [0, 1], atol=1e-3)
    assert (rows["previous_score"] < 1e-3).all()


def test_any_batch_and_any_block_of_queries_gives_the_same_numbers(store):
    model = Planted().eval()
    infos = [sealed(store, model, text(), force=True, batch_tokens=b, block=k) for b, k in ((128, 1024), (512, 2**20))]
    for table in ("heads", "head_levels", "head_positions", "head_distances", "attention_layers"):
        one, other = (store.read(i, table) for i in infos)
        for name in one:
            if one[name].dtype.kind == "f":
                np.testing.assert_allclose(one[name], other[name], rtol=1e-6, atol=1e-9, err_msg=name)
            else:
                assert one[name].equals(other[name]), name


def test_a_killed_run_goes_on_and_gives_the_same(store, monkeypatch):
    monkeypatch.setattr(head_sparsity, "UNIT_TOKENS", 4 * N)
    model, data = Planted().eval(), text(n_windows=10)
    whole = sealed(store, model, data)
    seen = []

    def stop(progress):
        seen.append(progress)
        if progress.what == "reading windows" and progress.done >= 1:
            raise KeyboardInterrupt

    subject = {"model": subject_from(model, name="tiny", data=data)}
    with pytest.raises(KeyboardInterrupt):
        run(HEAD_SPARSITY, subject, HeadSparsityConfig(), store, force=True, progress=stop)
    again = run(HEAD_SPARSITY, subject, HeadSparsityConfig(), store, force=True, resume=True, progress=seen.append)
    assert again.provenance["facts"]["n_windows"] == 10
    one, other = (store.read(i, "heads") for i in (whole, again))
    np.testing.assert_allclose(one["entropy"], other["entropy"], rtol=1e-12)
    assert one["n_rows"].equals(other["n_rows"])


def test_a_layer_says_what_its_heads_say(planted):
    store, info, rows = planted
    layer = store.read(info, "attention_layers").iloc[0]
    assert layer["n_heads"] == len(HEADS)
    assert layer["key_share"] == pytest.approx(rows["key_share"].mean())
    assert layer["n_single"] == 4
    assert layer["n_queries"] == 4 * N
    assert layer["n_sink_heads"] == 1
    assert layer["causal"]
    for figure in HEAD_SPARSITY.figures:
        spec = figure.draw(store.read(info, figure.table), info.provenance)
        assert "508 queries" in spec.sentence or "512 queries" in spec.sentence


@pytest.mark.parametrize("name", ["vit", "albert", "t5", "switch", "encoder", "positions_first", "gpt2"])
def test_every_kind_of_model_seals_a_run(name, store):
    model, batch = zoo.ZOO[name]()
    info = sealed(store, model, [batch], name=name)
    layers, heads = store.read(info, "attention_layers"), store.read(info, "heads")
    assert len(heads) == layers["n_heads"].sum()
    assert heads["output_norm"].notna().all(), "the projection is found"
    assert heads["relative_entropy"].between(0, 1 + 1e-6).all()
    crosses = heads["crosses"]
    assert heads["current_mass"].isna().equals(crosses)
    if name == "albert":
        assert layers["turn"].tolist() == [0, 1]
    for figure in HEAD_SPARSITY.figures:
        assert figure.draw(store.read(info, figure.table), info.provenance).data.shape[0]


def test_padding_is_never_counted(store):
    model, batch = zoo.bert()
    info = sealed(store, model, [batch], name="bert")
    layer = store.read(info, "attention_layers").iloc[0]
    assert layer["n_queries"] == int(batch["attention_mask"].sum())
    heads = store.read(info, "heads")
    assert heads["valid_keys"].tolist() == pytest.approx([(7 * 7 + 5 * 5) / 12] * len(heads))


def test_half_precision_is_computed_in_float32_and_said_so(store):
    model, batch = zoo.llama()
    info = sealed(store, model.to(torch.bfloat16), [batch], name="half")
    assert info.provenance["facts"]["precision"] == "attention recomputed in float32 from queries and keys of bfloat16"
    assert store.read(info, "heads")["entropy"].notna().all()


@pytest.mark.parametrize(
    ("name", "words"),
    [("mamba", "state-space layers"), ("lstm", "recurrent layers"), ("resnet", "convolutions"), ("mlp", "without attention")],
)
def test_models_without_attention_are_told_so_in_a_sentence(name, words, store):
    model, batch = zoo.ZOO[name]()
    with pytest.raises(IncompatibleSubject, match=f"must have softmax attention, got .*{words}"):
        sealed(store, model, [batch], name=name)


def test_dropout_that_stays_on_is_refused(store):
    with pytest.raises(IncompatibleSubject, match="attention dropout"):
        sealed(store, Calls(dropout_p=0.2).eval(), [{"inputs_embeds": torch.randn(2, 6, 16)}])


def test_fully_masked_rows_are_counted_apart(store):
    mask = torch.ones(6, 6, dtype=torch.bool).tril(-1)
    info = sealed(store, Calls(attn_mask=mask).eval(), [{"inputs_embeds": torch.randn(2, 6, 16)}])
    layer = store.read(info, "attention_layers").iloc[0]
    assert (layer["n_masked"], layer["n_single"], layer["n_queries"]) == (2, 2, 12)


def test_a_window_longer_than_the_models_positions_is_refused():
    subject = subject_from(zoo.gpt2()[0], name="tiny", data=text(window=32, vocabulary=60))
    subject.facts["context_length"] = 16
    assert "the window must be at most 16 tokens" in HEAD_SPARSITY.needs(subject)
    subject.data = None
    assert "has no inputs" in HEAD_SPARSITY.needs(subject)


@pytest.mark.parametrize(("name", "heads"), [("smollm2", 270), ("minilm", 72)])
def test_bundled_models_seal_a_run(name, heads, store):
    subject = open_subject(name, "python-docs", n_tokens=64, window=64)
    info = run(HEAD_SPARSITY, {"model": subject}, HeadSparsityConfig(n_tokens=64, window=64), store)
    rows = store.read(info, "heads")
    assert len(rows) == heads
    assert rows["output_norm"].notna().all()
    if name == "smollm2":
        assert rows["sink_mass"].max() > 0.9, "it has sink heads"
        assert rows["induction_score"].max() > 0.8, "and induction heads"
        assert rows["previous_score"].max() > 0.8
    else:
        assert rows["special_mass"].max() > 0.2, "it looks at its separators"
