"""head_examples: the keys with the largest weights, the pictures, and the windows in which a head is at work."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.attention.example_figures import cells_of, picture_spec, shrunk
from analysis.attention.examples import chosen_windows
from analysis.attention.head_examples import HEAD_EXAMPLES, HeadExamplesConfig
from analysis.models import open_subject, subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.stats.attention_examples import (
    AFTER_SAME,
    CURRENT,
    FIRST,
    NEXT,
    PREVIOUS,
    SAME,
    SHOWN,
    SPREAD,
    Looking,
    characteristic,
    repeats,
)
from store import Store
from tests import zoo
from tests.attention.planted import HEADS, MIDDLE, Matching, Planted
from tests.attention.test_attention_capture import Calls
from tests.attention.test_head_sparsity import text

T4 = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])
"""METHODS' fixture."""
NO_KEY = -1e10


def look(weights, *, k=2, cells=4, block=4, queries=None, keep=None, **more):
    """One head with these weights."""
    n, keys = weights.shape
    looking = Looking(
        1, (n, keys), np.arange(n) if queries is None else np.array(queries), k=k, cells=cells, is_self=more.pop("is_self", True),
        causal=more.pop("causal", True), keep=torch.ones(n, dtype=torch.bool) if keep is None else keep, **more,
    )  # fmt: skip
    logits = weights.log().clamp(min=NO_KEY)[None]
    for start in range(0, n, block):
        looking.add(start, logits[:, start : start + block])
    return looking.found()


def test_t4_keeps_its_two_largest_weights_and_their_mass():
    found = look(T4)
    assert found.keys[0, 1:].tolist() == [[0, 1], [2, 1], [3, 2]], "equal weights by key"
    assert found.keys[0, 0, 0] == 0
    kept = np.arange(2) < found.valid[0][:, None]
    np.testing.assert_allclose((found.weights[0] * kept).sum(1), [1, 1, 0.8, 0.7], atol=1e-6)
    assert found.valid[0].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(found.entropy[0], [0, 0.693147, 1.029653, 1.279854], atol=1e-6)


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_any_block_of_queries_gives_the_same(block):
    tokens, moved = torch.tensor([1, 2, 1, 2]), torch.tensor([[1.0, 2.0, 0.5, 1.0]])
    one, other = (look(T4, block=b, cells=2, tokens=tokens, moved=moved) for b in (4, block))
    for name in ("keys", "weights", "moved", "entropy", "cells", "cell_rows", "shown", "rows", "valid"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, err_msg=name)


def test_t4_stands_out_as_methods_says():
    shown = look(T4, tokens=torch.tensor([1, 2, 1, 2])).shown[0]
    assert shown[CURRENT] == pytest.approx(0.466667, abs=1e-6)
    assert shown[PREVIOUS] == pytest.approx(0.366667, abs=1e-6)
    assert shown[FIRST] == pytest.approx(0.266667, abs=1e-6)
    assert shown[SPREAD] == pytest.approx(np.mean([1, 0.937231, 0.923220]), abs=1e-6)
    assert shown[SAME] == pytest.approx((0 + 0.2 + 0.2) / 3), "a b a b: row 2 on key 0, row 3 on key 1"
    assert shown[AFTER_SAME] == pytest.approx((0 + 0.3 + 0.3) / 3), "row 2 on key 1, row 3 on key 2"
    assert math.isnan(shown[NEXT]), "no later key is seen"


def test_copies_of_a_token_are_found_before_it_and_where_both_sides_are_seen_after_it_too():
    tokens, rows = torch.tensor([5, 7, 9, 5, 7, 9]), torch.arange(6)
    same, after = repeats(tokens, rows, causal=True)
    assert same.nonzero().tolist() == [[3, 0], [4, 1], [5, 2]]
    assert after.nonzero().tolist() == [[3, 1], [4, 2], [5, 3]]
    same, after = repeats(tokens, rows, causal=False)
    assert same.nonzero().tolist() == [[0, 3], [1, 4], [2, 5], [3, 0], [4, 1], [5, 2]]
    assert after.nonzero().tolist() == [[0, 4], [1, 5], [3, 1], [4, 2], [5, 3]]


def test_the_picture_of_t4_in_two_by_two_cells():
    found = look(T4, cells=2)
    np.testing.assert_allclose(found.cells[0], [[1, 0], [0.4, 0.6]], atol=1e-6)
    assert found.cell_size == (2, 2)
    assert found.cell_rows.tolist() == [[2, 2]]
    padded = look(T4, cells=2, keep=torch.tensor([True, True, True, False]))
    np.testing.assert_allclose(padded.cells[0], [[1, 0], [0.5, 0.5]], atol=1e-6)
    assert padded.cell_rows.tolist() == [[2, 1]]
    assert padded.valid[0].tolist() == [1, 2, 3, 0], "padding keeps no keys"


def test_what_is_moved_is_weighed_by_length():
    found = look(T4, moved=torch.tensor([[0.0, 1.0, 1.0, 3.0]]))
    assert found.moved is not None
    np.testing.assert_allclose(found.moved[0, 3], [1.2 / 1.7, 0.3 / 1.7], atol=1e-6)
    np.testing.assert_allclose(found.moved[0, 1], [0, 1], atol=1e-6)


def test_a_wholly_masked_query_is_no_row_and_in_no_mean():
    weights = T4.clone()
    weights[2] = 0
    found = look(weights, cells=2)
    assert found.valid[0].tolist() == [1, 2, 0, 4]
    assert found.rows.tolist() == [2]
    assert found.cell_rows.tolist() == [[2, 1]]


def test_a_head_is_characterised_by_what_it_does_more_than_others():
    shown = np.array([[0.9, 0.1, 0.5], [0.1, 0.2, 0.5], [0.1, 0.8, 0.5], [0.1, 0.1, np.nan]])
    assert characteristic(shown)[[0, 2]].tolist() == [0, 1]
    assert characteristic(np.full((3, 2), 0.5)).tolist() == [0, 0, 0], "where all are alike none stands out"


def test_windows_are_of_as_many_documents_as_possible_and_the_same_every_time():
    data = text(n_windows=40, documents=4)
    some = chosen_windows(data, 8, seed=0)
    assert np.bincount(data.document[some]).tolist() == [2, 2, 2, 2]
    assert some.tolist() == chosen_windows(data, 8, seed=0).tolist() != chosen_windows(data, 8, seed=1).tolist()
    assert chosen_windows(data, 100, seed=0).tolist() == list(range(40))


# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def sealed(store, model, data, **more):
    settings = {k: more.pop(k) for k in ("top_k", "cells", "queries", "n_tokens", "window", "block") if k in more}
    return run(HEAD_EXAMPLES, {"model": subject_from(model, name="tiny", data=data)}, HeadExamplesConfig(**settings), store, **more)


def test_planted_heads_show_where_they_were_told_to_look(store):
    info = sealed(store, Planted().eval(), text())
    rows = store.read(info, "head_examples")
    assert info.provenance["facts"]["n_windows"] == 4
    assert len(rows) == 4 * len(HEADS) * 128
    assert rows["n_valid"].equals(rows["query"] + 1)
    previous = rows[(rows["head"] == HEADS.index("previous")) & (rows["query"] > 0)]
    assert [keys[0] for keys in previous["keys"]] == (previous["query"] - 1).tolist()
    uniform = rows[rows["head"] == HEADS.index("uniform")]
    np.testing.assert_allclose(uniform["mass_kept"], np.minimum(1, 8 / uniform["n_valid"]), atol=1e-5)
    assert [len(keys) for keys in uniform["keys"]] == np.minimum(8, uniform["n_valid"]).tolist()
    work = store.read(info, "head_at_work").set_index("head")
    for head, measure in (("previous", "previous"), ("sink", "first"), ("current", "current"), ("uniform", "spread")):
        assert set(work.loc[HEADS.index(head), "measure"]) == {measure}, head
    assert sorted(work.loc[0, "rank"]) == [1, 2, 3, 4]
    middle = store.read(info, "head_maps").query(f"head == {HEADS.index('middle sink')} and window == 0").iloc[0]
    cells = cells_of(middle)
    assert cells.shape == (64, 64)
    np.testing.assert_allclose(cells.sum(1), 1, atol=0.005)
    assert cells[40:, MIDDLE // 2] == pytest.approx(1, abs=1e-3)
    for figure in HEAD_EXAMPLES.figures:
        spec = figure.draw(store.read(info, figure.table), info.provenance)
        assert "4 windows of 2 documents" in spec.sentence
    spec = picture_spec(middle, info.provenance, "0:6")
    assert len(spec.data) == 64 * 64
    assert "each cell 2 queries by 2 keys" in spec.sentence


def test_an_induction_head_is_found_at_work_where_text_repeats(store):
    data = text(vocabulary=100)
    data.token_ids[2, 64:] = data.token_ids[2, :64]
    info = sealed(store, Planted(Matching, heads=2).eval(), data)
    work = store.read(info, "head_at_work").query("rank == 1").set_index("head")
    assert work.loc[0, "measure"] == "after_same"
    assert work.loc[1, "measure"] == "same"
    assert work["window"].tolist() == [2, 2]
    assert (work["value"] > 0.4).all()


def test_shrinking_a_picture_keeps_what_its_rows_add_up_to():
    cells = np.random.default_rng(0).dirichlet(np.ones(10), 7)
    small = shrunk(cells, 4)
    assert small.shape == (4, 4)
    np.testing.assert_allclose(small.sum(1), 1)
    np.testing.assert_allclose(small[3, 3], cells[6, 9])
    np.testing.assert_allclose(small[0, 0], cells[:2, :3].sum() / 2)


@pytest.mark.parametrize("name", ["gpt2", "bert", "vit", "t5", "albert", "encoder"])
def test_every_kind_of_model_seals_a_run(name, store):
    model, batch = zoo.ZOO[name]()
    info = sealed(store, model, [batch])
    places, rows = store.read(info, "example_places"), store.read(info, "head_examples")
    windows = store.read(info, "head_windows")
    assert len(store.read(info, "head_maps")) == 2 * places["n_heads"].sum()
    assert rows["moved"].notna().all(), "the projection is found"
    assert set(places["query_stream"]) == {"t5": {"input", "decoder"}, "vit": {"rows"}}.get(name, {"input"})
    if name == "t5":
        assert set(windows["stream"]) == {"input", "decoder"}
        cross = places[places["crosses"]]
        assert (cross["key_stream"] == "input").all()
        assert (cross["query_stream"] == "decoder").all()
    if name == "bert":
        padded = windows[windows["window"] == 1].iloc[0]
        assert list(padded["padding"]) == [5, 6]
        assert rows[rows["window"] == 1]["query"].max() == 4
        assert max(max(k) for k in rows[rows["window"] == 1]["keys"]) <= 4
        assert list(padded["tokens"]) == [f"<{t}>" for t in batch["input_ids"][1].tolist()]
    if name == "vit":
        assert windows["n"].isna().all()
    for figure in HEAD_EXAMPLES.figures:
        assert figure.draw(store.read(info, figure.table), info.provenance).data.shape[0]


def test_a_killed_run_goes_on_and_gives_the_same(store):
    model, data = Planted().eval(), text()
    whole = sealed(store, model, data)

    def stop(progress):
        if progress.what == "keeping windows" and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealed(store, model, data, force=True, progress=stop)
    again = sealed(store, model, data, force=True, resume=True)
    for table in HEAD_EXAMPLES.tables:
        one, other = (store.read(i, table.name, order_by=list(table.key)) for i in (whole, again))
        assert one.to_json() == other.to_json(), table.name


def test_a_long_window_keeps_some_queries_and_a_coarse_picture(store):
    info = sealed(store, Planted().eval(), text(n_windows=1), queries=10, cells=16, block=1024)
    rows, maps = store.read(info, "head_examples"), store.read(info, "head_maps")
    assert sorted(set(rows["query"])) == np.linspace(0, 127, 10).round().astype(int).tolist()
    assert maps["query_step"].tolist() == [8] * len(HEADS)
    assert all(sum(rows) == 128 for rows in maps["rows"]), "all queries are in the picture"


def test_wholly_masked_queries_have_no_row(store):
    mask = torch.ones(6, 6, dtype=torch.bool).tril(-1)
    info = sealed(store, Calls(attn_mask=mask).eval(), [{"inputs_embeds": torch.randn(2, 6, 16)}])
    rows = store.read(info, "head_examples")
    assert sorted(set(rows["query"])) == [1, 2, 3, 4, 5]
    assert list(store.read(info, "head_maps").iloc[0]["rows"]) == [0, 1, 1, 1, 1, 1]


def test_what_learned_sinks_take_stands_beside_the_weights(store):
    from tests.attention.test_attention_capture import gpt_oss

    model, batch = gpt_oss()
    rows = store.read(sealed(store, model, [batch]), "head_examples")
    assert rows["learned_sink"].between(0.01, 0.99).all()
    few = rows[rows["n_valid"] <= 8]
    np.testing.assert_allclose([sum(w) for w in few["weights"]], 1, atol=1e-4)


@pytest.mark.parametrize("way", ["screen", "paper"])
def test_the_pictures_can_be_drawn(store, way):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    info = sealed(store, Planted().eval(), text(n_windows=1), cells=16)
    maps = store.read(info, "head_maps")
    specs = [figure.draw(store.read(info, figure.table), info.provenance) for figure in HEAD_EXAMPLES.figures]
    for spec in [*specs, picture_spec(maps.iloc[0], info.provenance, "0:0")]:
        drawn: object = to_plotly(spec).data if way == "screen" else to_matplotlib(spec).axes
        assert drawn


def test_no_inputs_and_too_long_windows_are_refused_in_a_sentence():
    subject = subject_from(zoo.gpt2()[0], name="tiny", data=text(window=32, vocabulary=60))
    subject.facts["context_length"] = 16
    assert "the window must be at most 16 tokens" in HEAD_EXAMPLES.needs(subject)
    subject.data = None
    assert "has no inputs, and head_examples shows where heads look" in HEAD_EXAMPLES.needs(subject)


@pytest.mark.parametrize(("name", "heads"), [("smollm2", 270), ("minilm", 72)])
def test_bundled_models_seal_a_run(name, heads, store):
    subject = open_subject(name, "python-docs", n_tokens=32, window=16)
    info = run(HEAD_EXAMPLES, {"model": subject}, HeadExamplesConfig(n_tokens=32, window=16), store)
    rows, windows = store.read(info, "head_examples"), store.read(info, "head_windows")
    assert len(rows) == heads * 32
    assert rows["mass_kept"].between(0, 1).all()
    assert all(len(tokens) == 16 for tokens in windows["tokens"])
    assert set(store.read(info, "head_at_work")["measure"]) <= set(SHOWN)


def test_half_precision_and_dropout_left_on(store):
    model, batch = zoo.llama()
    rows = store.read(sealed(store, model.to(torch.bfloat16), [batch]), "head_examples")
    np.testing.assert_allclose([sum(w) for w in rows[rows["n_valid"] <= 8]["weights"]], 1, atol=1e-4)
    with pytest.raises(IncompatibleSubject, match="attention dropout"):
        sealed(store, Calls(dropout_p=0.2).eval(), [{"inputs_embeds": torch.randn(2, 6, 16)}])


def test_a_model_without_attention_is_told_so(store):
    model, batch = zoo.mamba()
    with pytest.raises(IncompatibleSubject, match="must have softmax attention, got state-space layers"):
        sealed(store, model, [batch])
