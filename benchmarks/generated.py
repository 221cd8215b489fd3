"""A store as large as is asked for, made by the store's own writer: begun, committed in units, sealed, catalogued, like any run.

Small real runs of every kind (tiny models, seconds each) are templates. A copy has another key, model and fingerprint, and more units: rows
of a table that tells units apart are repeated, each time with new latents, tensors or layers. Runs of neurons are made of seeded numbers
(`tests.neuron_run`). So schemas, comments, order, statistics of columns and sizes of files are those of real runs; values repeat.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis import find_analysis
from analysis.runner import layout_of
from store import RunInfo, Store
from tests import attention_run, latent_run, plane_run, sensitivity_run, weight_runs
from tests.neuron_run import make_neurons

LAYERS, WIDTH = 80, 28_672
"""Of a model of 70 billion parameters: a run of neurons is at most as large as its feed-forward layers."""
MOST_LATENTS = 131_072
UNITS_AT_ONCE = 512
OWN = ("key", "attempt", "tables", "files", "started", "finished", "seconds")
"""What the writer says of a run itself."""


@dataclass(frozen=True)
class Kind:
    """How a template grows: how often its units are repeated in an ordinary run, and the columns that tell units apart."""

    times: int
    columns: Mapping[str, int]
    """Column to how many values the template has; 0 for names, which get a number at their end."""


KINDS = {
    "weight_sparsity": Kind(12, {"tensor": 0, "layer": 2}),
    "head_sparsity": Kind(16, {"layer": 2}),
    "essential_sparsity": Kind(1, {}),
    "matrix_sensitivity": Kind(100, {"tensor": 0, "role": 0}),
    "sparsity_plane": Kind(1, {}),
    "sae_train": Kind(1, {}),
    "sae_quality": Kind(50, {"latent": latent_run.N_LATENTS}),
    "latent_examples": Kind(50, {"latent": latent_run.N_LATENTS}),
}
COUNTED = ("curve_points", "point_losses", "matrix_points", "matrix_losses", "neuron_examples")
"""Rows of these tables, and of all tables of latents, are what `rows` counts."""


def counted(run: RunInfo) -> int:
    """Curve, example and latent rows of a run."""
    return sum(n for table, n in run.rows.items() if table in COUNTED or table.startswith("latent"))


class Maker:
    """Templates, and what is made of them in another store."""

    def __init__(self, store: Store, folder: Path, tell: Callable[[str], None]) -> None:
        self.store, self._tell, self._source = store, tell, Store(folder / "templates")
        self._templates = {run.slug: run for run in self._source.runs() if run.slug in KINDS} or _templates(self._source, folder)

    def fill(self, n_runs: int, neurons: int, rows: int) -> None:
        """As many runs as asked for; the largest ones hold what is left of neurons and rows. What is there already is left alone."""
        small, there = len(KINDS) + 1, {(run.slug, run.model) for run in self.store.runs(summaries=False)}
        n_large = -(-neurons // (LAYERS * WIDTH)) + 1
        for i in range(max(1, (n_runs - n_large) // small)):
            if i % 10 == 0:
                self._tell(f"model {i} of {(n_runs - n_large) // small}")
            if ("neuron_activity", f"model-{i}") not in there:
                make_neurons(self.store, name=f"model-{i}", seed=i, n_layers=12, n_neurons=32)
            for slug in KINDS:
                if (slug, f"model-{i}") not in there:
                    self.copy(slug, f"model-{i}", KINDS[slug].times)
        left = neurons - sum(run.rows.get("neurons", 0) for run in self.store.runs(summaries=False))
        for i in range(-(-max(0, left) // (LAYERS * WIDTH))):
            here = min(LAYERS * WIDTH, left - i * LAYERS * WIDTH)
            self._tell(f"{here:,} neurons in one run")
            n = sum(slug == "neuron_activity" and model.startswith("large") for slug, model in there) + i
            make_neurons(self.store, name=f"large-{n}", seed=10_000 + n, n_layers=LAYERS, n_neurons=-(-here // LAYERS), n_examples=2)
        self._latents(rows)

    def _latents(self, rows: int) -> None:
        """Large SAEs until there are as many rows as asked for, one at least."""
        each = sum(counted(self._templates[slug]) for slug in ("sae_quality", "latent_examples"))
        made, i = sum(counted(run) for run in self.store.runs(summaries=False)), 0
        while i == 0 or made < rows:
            times = max(KINDS["sae_quality"].times, min(MOST_LATENTS // latent_run.N_LATENTS, -(-(rows - made) // each)))
            self._tell(f"{times * latent_run.N_LATENTS:,} latents in one SAE")
            for slug in ("sae_train", "sae_quality", "latent_examples"):
                self.copy(slug, f"large-{i}", times if slug != "sae_train" else 1)
            made, i = made + times * each, i + 1

    def copy(self, slug: str, model: str, times: int) -> RunInfo:
        """A run like the template, of another model, with so many times its units."""
        template, analysis = self._templates[slug], find_analysis(slug)
        key = hashlib.sha256(f"{slug} {model} {times}".encode()).hexdigest()[:16]
        record = {name: value for name, value in template.provenance.items() if name not in OWN}
        prints = {role: own if role == "sae" else own | {"weights": model} for role, own in record["fingerprints"].items()}
        record |= {"model": model, "model_label": model, "fingerprints": prints}
        if "n_latents" in (record.get("facts") or {}):
            record["facts"] = record["facts"] | {"n_latents": record["facts"]["n_latents"] * times}
        tables = [table for table in analysis.tables if table.name in template.rows]
        with self.store.begin(key, record) as attempt:
            for first in range(0, times, UNITS_AT_ONCE):
                part = range(first, min(times, first + UNITS_AT_ONCE))
                rows = {table.name: [_repeated(self._read(template, table), KINDS[slug].columns, part)] for table in tables}
                attempt.commit(f"units from {first}", {name: found for name, found in rows.items() if found[0] is not None})
            files = self._source.files(template)
            if files is not None:
                shutil.copytree(files, attempt.files_folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
            path = attempt.seal([layout_of(table) for table in tables], record)
        return self.store.find(path)

    def _read(self, run: RunInfo, table: Any) -> pa.Table:
        with self._source.pool.reader(run.path) as reader:
            return reader.rows(table.name, [column.name for column in table.columns]).cast(table.arrow_schema)


def _repeated(table: pa.Table, columns: Mapping[str, int], part: range) -> pa.Table | None:
    """The rows once for each number of the part, units told apart by it; once in all where the table tells no units apart.

    What lies outside of all layers (an embedding) is there once, too: a model has one.
    """
    own = [name for name in columns if name in table.column_names]
    if not own:
        return table if part.start == 0 else None
    long = pa.concat_tables([table] * len(part))
    number = np.repeat(np.arange(part.start, part.stop), len(table))
    for name in own:
        place, field = long.schema.get_field_index(name), long.schema.field(name)
        column = long.column(name).combine_chunks()
        if columns[name]:
            moved = pc.add(column, pa.array(number * columns[name], field.type))  # pyright: ignore[reportAttributeAccessIssue]
        else:
            ends = pa.array(np.char.add(".", number.astype(str)))
            moved = pc.binary_join_element_wise(column, ends, "")  # pyright: ignore[reportAttributeAccessIssue]
        long = long.set_column(place, field, moved)
    outside = long.column("layer").is_null() if "layer" in own else None
    if outside is None or not outside.combine_chunks().true_count:
        return long
    again = pa.array(number > 0)
    return long.filter(pc.invert(pc.and_(outside, again)))  # pyright: ignore[reportAttributeAccessIssue]


def _templates(store: Store, folder: Path) -> dict[str, RunInfo]:
    """Small real runs, one of each kind."""
    from safetensors.torch import save_file

    from analysis.models import open_subject
    from analysis.runner import run
    from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig

    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "dense.safetensors"
        save_file({name: value.contiguous() for name, value in weight_runs.dense_state().items()}, path)
        run(WEIGHT_SPARSITY, {"model": open_subject(str(path))}, WeightSparsityConfig(), store)
    latent_run.make_saes(store)
    attention_run.make_heads(store)
    sensitivity_run.make_digits(store)
    sensitivity_run.make_matrices(store)
    plane_run.make_plane(store)
    return {one.slug: one for one in store.runs() if one.slug in KINDS}
