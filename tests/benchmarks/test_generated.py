"""The generated store: runs like real ones, with as many units as were asked for, made by the store's own writer."""

from __future__ import annotations

import pyarrow as pa
import pytest

from benchmarks import generated
from benchmarks.generated import Kind, Maker, _repeated
from store import Filter, Store
from tests import attention_run


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """One template: the heads of a tiny model."""
    monkeypatch.setattr(generated, "KINDS", {"head_sparsity": Kind(3, {"layer": 2})})
    monkeypatch.setattr(generated, "_templates", lambda store, _: {"head_sparsity": attention_run.make_heads(store)})
    return Maker(Store(tmp_path / "store"), tmp_path, lambda words: None)


def test_rows_are_repeated_with_units_told_apart():
    table = pa.table({"tensor": ["a", "b"], "layer": pa.array([0, 1], pa.int64()), "value": [1.0, None]})
    found = _repeated(table, {"tensor": 0, "layer": 2}, range(1, 3)).to_pylist()
    assert [row["layer"] for row in found] == [2, 3, 4, 5]
    assert [row["tensor"] for row in found] == ["a.1", "b.1", "a.2", "b.2"]
    assert [row["value"] for row in found] == [1.0, None, 1.0, None]


def test_what_lies_outside_of_the_layers_is_not_repeated():
    table = pa.table({"tensor": ["embedding", "b"], "layer": pa.array([None, 1], pa.int64())})
    found = pa.concat_tables([_repeated(table, {"tensor": 0, "layer": 2}, part) for part in (range(2), range(2, 3))]).to_pylist()
    assert [(row["tensor"], row["layer"]) for row in found] == [("embedding.0", None), ("b.0", 1), ("b.1", 3), ("b.2", 5)]


def test_a_table_that_tells_no_units_apart_is_there_once():
    table = pa.table({"scope": ["all"]})
    assert _repeated(table, {"layer": 2}, range(4)) is table
    assert _repeated(table, {"layer": 2}, range(4, 8)) is None


def test_a_copy_is_a_sealed_run_of_another_model_with_so_many_times_its_units(maker):
    template = maker._templates["head_sparsity"]
    made = maker.copy("head_sparsity", "other", 3)
    assert (made.status, made.model, made.slug, made.version) == ("sealed", "other", "head_sparsity", template.version)
    assert made.rows["heads"] == 3 * template.rows["heads"] and len(made.summaries["attention_layers"]) == 6
    assert [info.comment for info in maker.store.table_info(made)] == [info.comment for info in maker._source.table_info(template)]
    layer = maker.store.read(made, "heads", where=[Filter("layer", "=", 4)])
    first = maker.store.read(template, "heads", where=[Filter("layer", "=", 0)])
    assert layer.drop(columns="layer").equals(first.drop(columns="layer"))
