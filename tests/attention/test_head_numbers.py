"""What runs store of channels, of what is moved, of copying and by position, beside plain recomputation and planted heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.attention.head_patterns import HEAD_PATTERNS, HeadPatternsConfig
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from store import Store
from tests import zoo
from tests.attention.planted import HEADS, Planted
from tests.attention.test_attention_capture import Calls
from tests.attention.test_head_sparsity import sealed, text

HEAD_COUNT, WIDTH, LENGTH = 4, 4, 16


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Rows of `heads` by head, and queries, keys, values, weights [windows, heads, tokens, ...] and projections [heads, width, d]."""
    model, x = Calls(is_causal=True).eval(), torch.randn(2, LENGTH, 16, generator=torch.Generator().manual_seed(1))
    store = Store(tmp_path_factory.mktemp("plain"))
    rows = store.read(sealed(store, model, [{"inputs_embeds": x}]), "heads", order_by=["head"])
    with torch.no_grad():
        q, k, v = (model.split(part(x), HEAD_COUNT).double() for part in (model.q, model.k, model.v))
        lower = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        a = (q @ k.transpose(2, 3) / 2).masked_fill(~lower, -math.inf).softmax(-1)
        projections = model.o.weight.double().unflatten(1, (HEAD_COUNT, WIDTH)).permute(1, 2, 0)
    return rows, q, k, v, a, projections


def test_the_share_of_channels_is_that_of_their_products(plain):
    rows, q, k, *_ = plain
    strength = (q * k).abs().sum((0, 2))
    expected = strength.max(1).values / strength.sum(1)  # a quarter of four channels is one
    np.testing.assert_allclose(rows["channel_share"], expected, rtol=1e-5)
    assert rows["channel_share"].between(0.25, 0.9).all()


def test_the_mass_that_few_channels_keep_is_that_of_the_keys_they_choose(plain):
    rows, q, k, _, a, _ = plain
    expected = np.zeros(HEAD_COUNT)
    for w in range(2):
        for h in range(HEAD_COUNT):
            c = int((q[w, h] * k[w, h]).abs().sum(0).argmax())
            kept = []
            for r in range(LENGTH // 2, LENGTH):
                scores = q[w, h, r, c] * k[w, h, : r + 1, c]
                kept.append(float(a[w, h, r, scores.topk(math.ceil((r + 1) / 4)).indices].sum()))
            expected[h] += np.mean(kept) / 2
    np.testing.assert_allclose(rows["channel_mass"], expected, rtol=1e-5)


def test_lengths_and_shares_of_what_is_moved_are_those_of_the_projected_values(plain):
    rows, _, _, v, a, projections = plain
    z = a @ v
    np.testing.assert_allclose(rows["head_norm"], z.norm(dim=-1)[:, :, 1:].mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(rows["output_norm"], (z @ projections).norm(dim=-1)[:, :, 1:].mean((0, 2)), rtol=1e-5)
    moved = a * (v @ projections).norm(dim=-1)[:, :, None]
    shares = (moved / moved.sum(-1, keepdim=True))[:, :, 1:]  # the first query has a single key
    expected = {
        "value_first_mass": shares[..., 0],
        "value_sink_mass": shares[..., :4].sum(-1),
        "value_current_mass": shares.diagonal(1, 2, 3),
        "value_entropy": torch.special.entr(shares).sum(-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values.mean((0, 2)), rtol=1e-4, err_msg=name)


def test_a_head_that_moves_tokens_as_they_are_copies_and_its_negative_works_against_them(store):
    model, _ = zoo.llama()
    attention, made = model.model.layers[0].self_attn, torch.Generator().manual_seed(0)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding[:, :4] = torch.nn.functional.normalize(torch.randn(len(embedding), 4, generator=made), dim=1)
        model.lm_head.weight.copy_(embedding)
        attention.v_proj.weight[:4] = torch.eye(4, 16)  # read by the first two heads
        attention.o_proj.weight[:, :4], attention.o_proj.weight[:, 4:8] = torch.eye(16, 4), -torch.eye(16, 4)
    ids = np.random.default_rng(0).integers(3, 60, (4, 16))
    rows = store.read(sealed(store, model, TextWindows.from_ids(ids)), "heads", where=[], order_by=["layer", "head"])
    n = len(embedding)
    assert rows["copying_score"].iloc[:2].tolist() == pytest.approx([(n - 0.5) / n, 0.5 / n], abs=0.009), "equal logits count half"
    assert rows["copying_score"].iloc[2:].between(0.1, 0.9).all()


def test_blocks_of_128_are_counted_where_the_window_holds_several(store):
    levels = store.read(sealed(store, Planted().eval(), text(window=256)), "head_levels")
    found = levels[(levels["measure"] == "block_density") & (levels["level"] == 128)].set_index("head")["value"]
    by_name = {name: found[h] for h, name in enumerate(HEADS)}
    assert by_name["uniform"] == 1
    assert by_name["current"] == by_name["blocks"] == pytest.approx(2 / 3), "two of the three causal blocks"
    assert by_name["previous"] == 1, "the first query of the second block looks into the first"


# ---------------------------------------------------------------------------------------------------------------------
# By position


def test_by_position_add_up_to_what_stands_without(store):
    info = sealed(store, Planted().eval(), text())
    heads, positions = store.read(info, "heads").set_index("head"), store.read(info, "head_positions")
    levels, by = store.read(info, "head_levels"), store.read(info, "head_position_levels")
    joined = by.merge(positions[["head", "position_from", "n_rows"]], on=["head", "position_from"])
    whole = joined.assign(sum=joined["value"] * joined["n_rows"]).groupby(["head", "measure", "level"])[["sum", "n_rows"]].sum()
    expected = levels.set_index(["head", "measure", "level"])["value"]
    assert {(m, x) for _, m, x in whole.index} >= {
        ("keys", 0.5),
        ("key_share", 0.99),
        ("below", 1e-4),
        ("below_fair", 0.1),
        ("local_mass", 4.0),
    }
    np.testing.assert_allclose(whole["sum"] / whole["n_rows"], expected[whole.index], rtol=1e-9, atol=1e-12)
    assert not {("keys", 0.9), ("key_share", 0.9), ("local_mass", 64.0)} & {(m, x) for _, m, x in whole.index}, "they stand beside them"
    later = positions[positions["position_from"] >= 16]
    sinks = (later["sink_mass"] * later["n_rows"]).groupby(later["head"]).sum() / later.groupby("head")["n_rows"].sum()
    np.testing.assert_allclose(sinks, heads["sink_mass"], rtol=1e-9)
    uniform = by[(by["head"] == HEADS.index("uniform")) & (by["measure"] == "keys") & (by["level"] == 0.5)].set_index("position_from")
    assert uniform.loc[2, "value"] == pytest.approx(2), "of three keys, and of four, two hold half"


def test_cross_attention_has_no_local_mass_at_any_position(store):
    model, batch = zoo.t5()
    info = sealed(store, model, [batch])
    crosses = store.read(info, "heads").query("crosses")["hook_name"].unique()
    by = store.read(info, "head_position_levels")
    assert set(by[by["hook_name"].isin(crosses)]["measure"]) == {"keys", "key_share", "below", "below_fair"}
    assert "local_mass" in set(by["measure"])


# ---------------------------------------------------------------------------------------------------------------------
# Patterns


def test_patterns_of_a_model_in_half_precision_are_those_of_the_same_weights_in_float32(store):
    ids = np.random.default_rng(0).integers(3, 60, (4, 32))
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        model = zoo.llama()[0].to(torch.bfloat16).to(dtype)
        subject = subject_from(model, name="half", data=TextWindows.from_ids(ids))
        found.append(store.read(run(HEAD_PATTERNS, {"model": subject}, HeadPatternsConfig(), store), "head_patterns"))
    half, full = found
    assert (half["shape"] == full["shape"]).mean() > 0.7
    for name in ("evenness", "oracle_mass", "local_share", "sparse_error", "nearest_cosine"):
        np.testing.assert_allclose(half[name], full[name], atol=0.02, err_msg=name)


def test_patterns_under_dropout_that_stays_on_are_refused(store):
    subject = subject_from(Calls(dropout_p=0.2).eval(), name="tiny", data=[{"inputs_embeds": torch.randn(2, 6, 16)}])
    with pytest.raises(IncompatibleSubject, match="attention dropout"):
        run(HEAD_PATTERNS, {"model": subject}, HeadPatternsConfig(), store)
