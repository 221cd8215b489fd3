import numpy as np
import pytest
import torch

from analysis.stats.activity import above_magnitude, exact_nonzero, is_active, relative_contribution
from analysis.stats.histogram import bin_index
from analysis.stats.neurons import NeuronActivity
from analysis.stats.rows import context_keys, rows_of_windows
from tests.stats.streams import assert_same, make_stream


def whole(stream, engine="auto", **settings):
    site = stream.site(engine, **settings)
    stream.feed(site, np.arange(len(stream.rows)))
    return site


# ---- against brute force ---------------------------------------------------------------------------------------------


def brute_examples(stream, j, k, sign):
    """Window maxima, the best of equal keys, the best k: by sorting everything."""
    rows, x = stream.rows, sign * stream.values[:, j].float().numpy()
    candidates = {}
    for window in np.unique(rows.window_id):
        some = np.flatnonzero((rows.window_id == window) & rows.rankable & np.isfinite(x))
        if len(some):
            best = min(some, key=lambda r: (-x[r], rows.token_index[r]))
            entry = (-x[best], rows.token_index[best])
            candidates[rows.key[best]] = min(entry, candidates.get(rows.key[best], entry))
    return [(-sign * v, i) for v, i in sorted(candidates.values())[:k]]


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("kind", ["normal", "relu", "ties", "broken"])
def test_examples_equal_sorting_everything(kind, engine):
    stream = make_stream(kind)
    found = whole(stream, engine).result()
    for j in range(stream.values.shape[1]):
        for name, k, sign in (("top", 6, 1), ("bottom", 3, -1)):
            wanted = brute_examples(stream, j, k, sign)
            filled = found[f"{name}_filled"][j]
            got = list(zip(found[f"{name}_value"][j, :filled], found[f"{name}_token_index"][j, :filled], strict=True))
            assert got == [(np.float32(v), i) for v, i in wanted]


@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "broken"])
def test_everything_equals_brute_force(kind):
    stream = make_stream(kind)
    found, x, rows = whole(stream).result(), stream.values.numpy(), stream.rows
    finite = np.isfinite(x)
    active = is_active(x, relative_contribution(stream.weight, 0.05), stream.scale)
    assert 0 < active.mean() < 1
    nonzero = finite & (x != 0)
    exact = np.ma.masked_array(x.astype(np.float64), ~finite)
    with np.errstate(divide="ignore"):
        relative = np.ma.masked_array(np.abs(exact) * stream.weight / stream.scale[:, None], mask=~finite | (stream.scale == 0)[:, None])
    np.testing.assert_array_equal(found["count"], finite.sum(0))
    np.testing.assert_array_equal(found["n_active"], active.sum(0))
    np.testing.assert_array_equal(found["n_zero"], (x == 0).sum(0))
    np.testing.assert_array_equal(found["n_nonfinite"], (~finite).sum(0))
    np.testing.assert_allclose(found["mean"], exact.mean(0), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found["variance"], exact.var(0), rtol=1e-10)
    np.testing.assert_array_equal(found["max"], exact.max(0))
    np.testing.assert_array_equal(found["min"], exact.min(0))
    np.testing.assert_allclose(found["sum_active"], np.where(active, np.abs(exact), 0).sum(0), rtol=1e-10)
    np.testing.assert_allclose(found["mean_relative"], relative.mean(0), rtol=1e-10)
    for name, which in (("active", active), ("nonzero", nonzero)):
        for unit, owner in (("windows", rows.window_id), ("documents", rows.document_id)):
            fired = sum(which[owner == one].any(0).astype(int) for one in np.unique(owner))
            np.testing.assert_array_equal(found[f"{unit}_{name}"], fired)
    for j in range(x.shape[1]):
        np.testing.assert_array_equal(found["histogram"][j], np.bincount(bin_index(x[finite[:, j], j]), minlength=515))
    measured = finite.all(1)
    assert found["share_active_n"] == measured.sum()
    np.testing.assert_allclose(found["share_active_mean"], active[measured].mean(), rtol=1e-12)
    np.testing.assert_allclose(found["share_positive_mean"], (x[measured] > 0).mean(), rtol=1e-12)
    in_document = [active[measured & (rows.document_id == d)].mean(1).sum() for d in range(4)]
    np.testing.assert_allclose(found["share_active_document_sum"], in_document, rtol=1e-12)


def test_gated_paths_have_their_own_moments():
    stream = make_stream("heavy")
    found = whole(stream).result()
    for name, path in (("gate", stream.gate), ("up", stream.up)):
        np.testing.assert_allclose(found[f"{name}_variance"], path.double().var(0, correction=0), rtol=1e-10)
        np.testing.assert_array_equal(found[f"{name}_n_positive"], (path > 0).sum(0))
        np.testing.assert_array_equal(found[f"{name}_min"], path.amin(0))


# ---- any split, any order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "ties", "heavy", "far", "broken"])
@pytest.mark.parametrize("seed", range(3))
def test_any_split_of_rows_and_any_merge_order_gives_the_same(kind, seed):
    """Cut anywhere, inside windows and documents; three workers, each with blocks from all over, in random order."""
    stream = make_stream(kind, n=70, seed=seed)
    rng = np.random.default_rng(seed)
    wanted = whole(stream).result()
    shuffled = rng.permutation(len(stream.rows))
    parts = np.array_split(shuffled, rng.integers(4, 9))
    workers = [stream.site(engine) for engine in ("auto", "eager", "auto")]
    for part in parts:
        stream.feed(workers[rng.integers(3)], part)
    order = rng.permutation(3)
    first = workers[order[0]]
    first.merge(workers[order[1]])
    first = NeuronActivity.from_state(first.state())
    first.merge(workers[order[2]])
    assert first.open == {} and first.documents.open == {}
    assert_same(first.result(), wanted)


def test_uneven_last_batch_is_like_any_other():
    stream = make_stream("relu")
    cuts = [0, *stream.rows.starts[[4, 8, 10]], len(stream.rows)]
    site = stream.site()
    for first, end in zip(cuts[:-1], cuts[1:], strict=True):
        stream.feed(site, np.arange(first, end))
    assert_same(site.result(), whole(stream).result())


def test_mean_1000_and_spread_1_keep_ten_digits():
    stream = make_stream("far")
    site = stream.site()
    for part in np.array_split(np.arange(len(stream.rows)), 9):
        stream.feed(site, part)
    x = stream.values.double()[:, 1:].numpy()
    away = x - x.mean(0)
    found = site.result()
    np.testing.assert_allclose(found["variance"][1:], (away**2).mean(0), rtol=1e-10)
    kurtosis = (away**4).mean(0) / (away**2).mean(0) ** 2 - 3
    np.testing.assert_allclose(found["excess_kurtosis"][1:], kurtosis, rtol=1e-10, atol=1e-10)


def test_state_continues_where_it_stood():
    stream = make_stream("normal")
    half = len(stream.rows) // 2
    site = stream.site()
    stream.feed(site, np.arange(half))
    assert site.open or site.documents.open
    again = NeuronActivity.from_state(site.state())
    stream.feed(again, np.arange(half, len(stream.rows)))
    assert_same(again.result(), whole(stream).result())


def test_memory_is_the_same_after_ten_times_the_tokens():
    rng = np.random.default_rng(0)
    site = NeuronActivity(64, rule=exact_nonzero(64), document_windows=[1] * 400, seed=0, has_gate=False, gini_tokens=8, sample_windows=3)
    sizes = []
    for step in range(40):
        ids = np.arange(step * 10, step * 10 + 10)
        rows = rows_of_windows(rng.integers(0, 99, (10, 6)), ids, ids)
        site.update(rows, rng.normal(size=(60, 64)).astype(np.float32))
        sizes.append(site.nbytes)
    assert sizes[3] == sizes[-1]


def test_result_before_any_update_raises():
    with pytest.raises(ValueError, match="at least one row"):
        make_stream().site().result()


# ---- the two engines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "ties", "far", "broken"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_and_eager_agree(kind, dtype):
    stream = make_stream(kind, dtype=dtype, length=150, n=131)  # more than one tile, and a chunk of three neurons
    assert_same(whole(stream, "auto").result(), whole(stream, "eager").result())


def test_one_thread_and_two_agree():
    stream = make_stream("normal", n=300)
    one, two = stream.site(), stream.site()
    one.threads = 1
    for site in (one, two):
        stream.feed(site, np.arange(len(stream.rows)))
    assert_same(one.result(), two.result())


def test_a_nan_in_one_neuron_leaves_the_others_untouched():
    stream = make_stream("normal")
    clean = whole(stream).result()
    stream.values[5, 140] = torch.nan
    stream.gate[9, 2] = torch.inf
    found = whole(stream).result()
    assert found["n_nonfinite"].tolist() == [int(j == 140) for j in range(150)]
    assert found["count"][140] == len(stream.rows) - 1 and found["gate_count"][2] == len(stream.rows) - 1
    others = np.arange(150) != 140
    for name in ("mean", "variance", "n_active", "histogram", "top_value", "documents_active", "sum_relative"):
        np.testing.assert_allclose(found[name][others], clean[name][others], rtol=1e-12)
    assert found["share_active_n"] == len(stream.rows) - 1
    assert all(np.isfinite(a).all() for a in found.values() if a.dtype.kind == "f")


def test_more_rows_than_sixteen_bits_count_are_all_counted():
    """The compiled counts are 16 bits wide on the way; a NaN after they were given out must not count anything twice."""
    n_rows = 2**16 + 500
    rows = rows_of_windows(np.zeros((1, n_rows)), [0], [0])
    values = np.tile(np.array([0.25, 1.5], np.float32), (n_rows, 1))
    for broken in (False, True):
        site = NeuronActivity(2, rule=exact_nonzero(2), document_windows=[1], seed=0, has_gate=False)
        if broken:
            values[-1, 1] = np.nan
        site.update(rows, values)
        found = site.result()
        assert found["histogram"].sum(1).tolist() == [n_rows, n_rows - broken] and found["n_active"].tolist() == [n_rows, n_rows - broken]
        assert found["variance"].tolist() == [0, 0] and not found["has_spread"].any()


# ---- windows, documents, rows ----------------------------------------------------------------------------------------


def hand_site(**settings):
    base = {"document_windows": [2, 1], "seed": 0, "has_gate": False, "top": 2, "bottom": 1, "sample_windows": 3, "gini_tokens": 4}
    return NeuronActivity(2, rule=above_magnitude(2, 0.5), **(base | settings))


def hand_rows():
    return rows_of_windows([[1, 2, 3], [4, 5, 6], [1, 2, 3]], [0, 1, 2], [0, 0, 1])


HAND = np.array([[9, 0], [1, 0], [2, 0.2], [3, 0], [4, 0], [0.5, 0], [0, 0], [0, 0], [2, -0.3]], np.float32)


def test_hand_computed_stream():
    """Position 0 (9.0) is counted but not ranked; the second "1 2 3" peaks on the same context and is struck out."""
    site = hand_site()
    site.update(hand_rows(), HAND)
    found = site.result()
    assert found["n_active"].tolist() == [6, 0] and found["n_zero"].tolist() == [2, 7]
    assert found["max"].tolist() == [9, np.float32(0.2)] and found["windows_active"].tolist() == [3, 0]
    assert found["documents_active"].tolist() == [2, 0] and found["documents_nonzero"].tolist() == [2, 2]
    assert found["top_value"][0].tolist() == [4, 2] and found["top_token_index"][0].tolist() == [4, 2]
    assert found["bottom_value"][0].tolist() == [0] and found["bottom_token_index"][0].tolist() == [7]
    assert found["sample_window"].tolist() == [0, 1, 2]
    assert found["sample_value"][0].tolist() == [2, 4, 2] and found["sample_token_index"][0].tolist() == [2, 4, 8]
    assert found["share_active_mean"] == pytest.approx(6 / 18) and found["hoyer_n"] == 7
    assert found["mean"][0] == pytest.approx(21.5 / 9)


def test_a_document_counts_once_though_its_windows_come_apart():
    site, other = hand_site(), hand_site()
    rows = hand_rows()
    site.update(rows.take(np.arange(0, 3)), HAND[:3])
    assert site.result()["n_documents_incomplete"] == 1
    other.update(rows.take(np.arange(3, 9)), HAND[3:])
    site.merge(other)
    assert site.result()["documents_active"].tolist() == [2, 0] and site.result()["n_documents_incomplete"] == 0


def test_an_expert_that_sees_few_tokens_still_completes_its_documents():
    site = hand_site()
    rows = hand_rows()
    chosen = np.array([8, 1])  # in the order the router hands them out
    site.update(rows.take(chosen, whole=True), HAND[chosen])
    site.skip_windows([0])
    found = site.result()
    assert (found["n_rows"], found["n_windows"], found["n_documents_incomplete"]) == (2, 3, 0)
    assert found["top_token_index"][0].tolist() == [8, 1] and found["documents_active"].tolist() == [2, 0]


def test_rows_given_twice_are_refused():
    site, other = hand_site(), hand_site()
    rows = hand_rows()
    site.update(rows.take(np.arange(3)), HAND[:3])
    with pytest.raises(ValueError, match="document 0 must have 2 windows"):
        site.update(hand_rows(), HAND)
    other.update(hand_rows(), HAND)
    with pytest.raises(ValueError, match="document 0 must have 2 windows"):
        other.update(rows.take(np.arange(3)), HAND[:3])
    with pytest.raises(ValueError, match="complete in both"):
        other.merge(other.from_state(other.state()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": HAND[:, :1]}, "values must be"),
        ({"gate": HAND}, "gate and up"),
        ({"scale": np.ones(3)}, "scale must be"),
    ],
)
def test_wrong_shapes_are_refused_in_a_sentence(change, message):
    arguments = {"values": HAND} | change
    with pytest.raises(ValueError, match=message):
        hand_site().update(hand_rows(), arguments.pop("values"), **arguments)


def test_relative_rule_needs_the_output_norm():
    site = NeuronActivity(2, rule=relative_contribution([1, 1]), document_windows=[2, 1], seed=0, has_gate=False)
    with pytest.raises(ValueError, match="scale must be given"):
        site.update(hand_rows(), HAND)


def test_accumulators_made_differently_do_not_merge():
    with pytest.raises(ValueError, match="made alike"):
        hand_site().merge(hand_site(top=3))


def test_the_sample_does_not_depend_on_the_order_of_windows():
    stream = make_stream("normal")
    back = stream.site()
    starts = stream.rows.starts
    for w in reversed(range(len(starts) - 1)):
        stream.feed(back, np.arange(starts[w], starts[w + 1]))
    found, wanted = back.result(), whole(stream).result()
    assert len(found["sample_window"]) == 4 and found["gini_n"] == 20
    for name in ("sample_window", "sample_value", "sample_token_index", "gini_token_index", "gini_value"):
        np.testing.assert_array_equal(found[name], wanted[name])
    assert whole(stream, seed=8).result()["sample_window"].tolist() != found["sample_window"].tolist()


def test_keys_are_equal_exactly_for_equal_contexts():
    keys = context_keys([[1, 2, 3, 4, 5, 6], [9, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]])
    assert keys[0, 5] == keys[1, 5] and keys[0, 4] != keys[1, 4]
    assert (keys[0, :5] == keys[2, :5]).all() and keys[0, 5] != keys[2, 5]
    assert context_keys([[0, 1]])[0, 1] != context_keys([[1, 0]])[0, 1]
    assert context_keys([[0, 0]])[0, 0] != context_keys([[0, 0]])[0, 1], "the start of a window is no token"


# ---- what active means -----------------------------------------------------------------------------------------------


def test_relative_contribution_does_not_change_when_a_factor_moves_into_the_weight():
    rng = np.random.default_rng(0)
    a, scale = rng.normal(size=(50, 8)), rng.uniform(1, 2, 50)
    norms = rng.uniform(0.5, 1, 8)
    before = is_active(a, relative_contribution(norms, 0.25), scale)
    assert 0 < before.mean() < 1
    np.testing.assert_array_equal(is_active(a * 4, relative_contribution(norms / 4, 0.25), scale), before)


def test_active_is_strict_and_a_zero_is_never_active():
    rule = relative_contribution([2.0], 0.25)
    assert is_active([[1.0], [1.001], [0.0], [-3.0]], rule, [8.0, 8.0, 0.0, 8.0])[:, 0].tolist() == [False, True, False, True]
    assert is_active([[0.0], [-1e-30]], exact_nonzero(1))[:, 0].tolist() == [False, True]
    assert is_active([[0.5], [0.6]], above_magnitude(1, 0.5))[:, 0].tolist() == [False, True]


def test_alternating_neuron_has_density_one_half():
    """METHODS B12."""
    site = NeuronActivity(1, rule=exact_nonzero(1), document_windows=[1], seed=0, has_gate=False)
    site.update(rows_of_windows([[0] * 10], [0], [0]), np.tile([[0], [1]], (5, 1)).astype(np.float32))
    assert site.result()["n_active"][0] / site.result()["n_rows"] == 0.5


def test_symmetric_input_is_half_positive_and_very_negative_bias_none():
    """METHODS B1: random weights and zero bias give 50 % nonzero after ReLU; a bias of minus infinity 0 %."""
    rng = np.random.default_rng(1)
    before = rng.normal(size=(200, 8)) @ rng.normal(size=(8, 100))
    for bias, wanted, tolerance in ((0.0, 0.5, 3 * 0.5 / np.sqrt(200 * 8)), (-1e9, 0.0, 0.0)):
        site = NeuronActivity(100, rule=exact_nonzero(100), document_windows=[1], seed=0, has_gate=False)
        site.update(rows_of_windows([[0] * 200], [0], [0]), np.maximum(before + bias, 0).astype(np.float32))
        assert abs(site.result()["share_positive_mean"] - wanted) <= tolerance
