"""The threshold that moves without a rerun: the database's rule and the statistics' rule must be one."""

import numpy as np
import pyarrow as pa
import pytest

from analysis.neurons.results import THRESHOLDS as STORED
from analysis.neurons.thresholds import THRESHOLDS, at_threshold, class_of
from analysis.spec import UserError
from analysis.stats.intervals import activity_class, tokens_to_decide
from store import Filter, Store, TableLayout

RARE, DENSE = 1e-3, 0.5
ENOUGH = tokens_to_decide(RARE)


def seal(store, tables, **record):
    layouts = [TableLayout(n, n, dict.fromkeys(t.column_names, ""), t.schema) for n, t in tables.items()]
    with store.begin("abc", {"slug": "neuron_activity", "version": 1, "model": "m", **record}) as attempt:
        attempt.commit("u", {name: [table] for name, table in tables.items()})
        path = attempt.seal(layouts, attempt.record)
    return store.find(path)


def table_of(n_tokens, n_active, static=None, threshold=0.25):
    n = len(n_tokens)
    key = {"layer": [0] * n, "hook_name": ["h"] * n, "neuron": list(range(n))}
    own = {"n_tokens": n_tokens, "n_active": [7] * n, "density": [0.9] * n, "class": ["stored"] * n}
    own["static_class"] = pa.array(static or [None] * n, pa.string())
    other = {"threshold": [threshold] * n + [1.0] * n, **{k: v * 2 for k, v in key.items()}, "n_active": [*n_active, *[0] * n]}
    return {"neurons": pa.table(key | own), "neuron_densities": pa.table(other)}


@pytest.mark.parametrize("n_tokens", [1, 2, 40, 600, 1500, ENOUGH - 1, ENOUGH, ENOUGH + 1, 100_000])
def test_the_database_gives_every_count_the_class_the_statistics_give_it(tmp_path, n_tokens):
    hits = np.unique([k for k in [*range(60), n_tokens // 2, n_tokens // 2 + 1, n_tokens - 1, n_tokens] if k <= n_tokens])
    store = Store(tmp_path)
    run = seal(store, table_of([n_tokens] * len(hits), hits.tolist()), config={"rare": RARE, "dense": DENSE})
    found = store.read(run, "neurons", derive=at_threshold(run, 0.25))
    assert found["class"].tolist() == activity_class(hits, n_tokens, RARE, DENSE).tolist()
    assert found["density"].tolist() == pytest.approx(hits / n_tokens)
    assert found["n_active"].tolist() == hits.tolist()


def test_the_edges_of_doubt_lie_where_the_statistics_have_them(tmp_path):
    """k firings in n tokens: the largest n that still tells, and one more, for every k that can be in doubt."""
    edges = [
        (next(f.value for f in branch if f.op == "=" and f.column == "n_active"), f.value)
        for branch, label in class_of(RARE, DENSE).branches
        for f in branch
        if label == "undecided" and (f.column, f.op) == ("n_tokens", ">")
    ]
    assert [k for k, _ in edges] == list(range(1, len(edges) + 1))
    assert len(edges) >= 5
    hits = [k for k, most in edges for n in (most, most + 1) if n >= k]
    tokens = [n for k, most in edges for n in (most, most + 1) if n >= k]
    store = Store(tmp_path)
    run = seal(store, table_of(tokens, hits), config={"rare": RARE, "dense": DENSE})
    found = store.read(run, "neurons", derive=at_threshold(run, 0.25))["class"].tolist()
    assert found == activity_class(hits, tokens, RARE, DENSE).tolist()
    assert len(set(found)) > 1


def test_a_neuron_dead_by_its_weights_stays_dead_at_any_threshold(tmp_path):
    store = Store(tmp_path)
    static = ["dead_in", "dead_out", "alive", None]
    run = seal(store, table_of([100_000] * 4, [90_000] * 4, static), config={"rare": RARE, "dense": DENSE})
    found = store.read(run, "neurons", derive=at_threshold(run, 0.25))
    assert found["class"].tolist() == ["dead", "dead", "dense", "dense"]


def test_filters_sorting_and_counting_see_the_threshold(tmp_path):
    store = Store(tmp_path)
    run = seal(store, table_of([100_000] * 4, [60_000, 0, 5_000, 3]), config={"rare": RARE, "dense": DENSE})
    derive = at_threshold(run, 0.25)
    assert store.read(run, "neurons", columns=["neuron"], order_by=["density"], derive=derive)["neuron"].tolist() == [1, 3, 2, 0]
    assert store.count(run, "neurons", [Filter("class", "=", "dead")], derive) == 1
    groups = store.groups(run, "neurons", ["class"], derive=derive)
    assert dict(zip(groups["class"], groups["n_rows"])) == {"dead": 1, "dense": 1, "normal": 1, "rare": 1}
    assert store.limits(run, "neurons", ["density"], derive=derive) == {"density": (0.0, 0.6)}


def test_the_thresholds_offered_are_those_stored_and_no_other_is_taken(tmp_path):
    assert THRESHOLDS == STORED
    store = Store(tmp_path)
    run = seal(store, table_of([10], [1]), config={})
    with pytest.raises(UserError, match="powers of two, got 0.3"):
        at_threshold(run, 0.3)
