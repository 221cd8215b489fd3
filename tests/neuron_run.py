"""A sealed run of `neuron_activity` made of seeded numbers: its tables are right in shape and agree with each other, no model is needed.

Used by tests of the neuron pages, where tokens may be hostile, and by benchmarks/pages.py, where there are a million neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from analysis.neurons.neuron_activity import NEURON_ACTIVITY
from analysis.neurons.results import THRESHOLDS
from analysis.runner import layout_of
from analysis.stats.histogram import bin_index, count_above, pack
from analysis.stats.intervals import activity_class, document_bound, expected_wakes
from tests.toy import HOSTILE

WORDS = ["the", " cat", HOSTILE, " sat", "**bold**", " $x$", "'; DROP TABLE neurons; --", "\n", " mat", "."]
WINDOW, N_WINDOWS, STRIP = 32, 64, 24
DOCUMENTS = 120
CONFIG = {"n_tokens": 61_440, "active": 0.01, "rare": 1e-4, "dense": 0.5}


def make_neurons(
    store: Any, *, name: str = "toy-neurons", n_layers: int = 3, n_neurons: int = 40, n_examples: int = 4, seed: int = 0
) -> Any:
    """Seal such a run; neuron 0 of every layer is silent, neuron 1 always active."""
    record = {
        "slug": "neuron_activity", "version": NEURON_ACTIVITY.version, "model": name, "data": "toy-text", "config": CONFIG, "seed": seed,
        "title": "Neuron activity", "model_label": f"Toy ({name})", "dtype": "float32", "device": "cpu",
        "facts": {"n_tokens": CONFIG["n_tokens"], "n_documents": DOCUMENTS, "left_out_of_rankings": ["position 0", "special tokens"]},
        "fingerprints": {"model": {"weights": name}},
    }  # fmt: skip
    tables = {table.name: table for table in NEURON_ACTIVITY.tables}
    key = f"{seed:04x}{n_layers:04x}{n_neurons:08x}"
    with store.begin(key, record) as attempt:
        attempt.commit("text", {"windows": [_arrow(tables["windows"], _windows(seed))]})
        for layer in range(n_layers):
            rows = _layer(layer, n_neurons, n_examples, np.random.default_rng([seed, layer]))
            attempt.commit(f"layer {layer}", {table: [_arrow(tables[table], columns)] for table, columns in rows.items()})
        path = attempt.seal([layout_of(table) for table in NEURON_ACTIVITY.tables], record | attempt.record)
    return store.find(path)


def _arrow(table: Any, columns: dict[str, Any]) -> pa.Table:
    schema = table.arrow_schema
    return pa.Table.from_arrays([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)


def _windows(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    ids = random.integers(0, len(WORDS), (N_WINDOWS, WINDOW))
    return {
        "window": np.arange(N_WINDOWS),
        "document": [f"doc {i % DOCUMENTS}" for i in range(N_WINDOWS)],
        "start": np.arange(N_WINDOWS) * WINDOW,
        "token_ids": ids.tolist(),
        "tokens": [[WORDS[i] for i in row] for row in ids],
    }


def _layer(layer: int, n: int, n_examples: int, random: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Rows of all tables for one layer of n neurons."""
    tokens = CONFIG["n_tokens"]
    scale = np.exp(random.normal(0, 1, n))
    centres = np.concatenate([-np.geomspace(8, 1e-3, 14), [0.0], np.geomspace(1e-3, 8, 20)])
    share = np.exp(-((np.arange(len(centres)) - 14) ** 2) / 40)
    counts = np.maximum(1, (tokens * share / share.sum()).astype(np.int64))
    counts[14] += tokens - counts.sum()
    values = scale[:, None] * centres
    histogram = _binned(values, counts)
    active = np.clip((tokens * np.exp(random.normal(-4, 2.5, n))).astype(np.int64), 0, tokens)
    active[: min(n, 2)] = [0, tokens][: min(n, 2)]
    documents = np.minimum(DOCUMENTS, active)
    site = {"layer": np.full(n, layer), "hook_name": pa.repeat(f"blocks.{layer}.mlp.hook_post", n), "neuron": np.arange(n)}
    classes = activity_class(active, tokens, CONFIG["rare"], CONFIG["dense"])
    packed = pack(histogram)
    lists = {
        name: pa.ListArray.from_arrays(packed.offsets.astype(np.int32), column.astype(np.int64))
        for name, column in (("bins", packed.bins), ("counts", packed.counts))
    }
    densities = [count_above(histogram, threshold) for threshold in THRESHOLDS]
    return {
        "neurons": _neurons(site, active, documents, classes, scale, values, random),
        "layers": _layers(layer, active, documents, classes),
        "neuron_histograms": site | lists,
        "neuron_densities": {
            "threshold": np.repeat(THRESHOLDS, n), "layer": np.full(n * len(THRESHOLDS), layer),
            "hook_name": pa.repeat(f"blocks.{layer}.mlp.hook_post", n * len(THRESHOLDS)), "neuron": np.tile(np.arange(n), len(THRESHOLDS)),
            "n_active": np.concatenate(densities),
        },
        "neuron_examples": _examples(layer, n, n_examples, scale, random),
    }  # fmt: skip


def _binned(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    table = np.zeros((len(values), 515), np.int64)
    np.add.at(table, (np.arange(len(values))[:, None], bin_index(values)), counts)
    return table


def _neurons(site: Any, active: Any, documents: Any, classes: Any, scale: Any, values: Any, random: Any) -> dict[str, Any]:
    n, tokens = len(active), CONFIG["n_tokens"]
    density = active / tokens
    norm = {f"{which}_norm": np.exp(random.normal(0, 0.3, n)) for which in ("in", "out")}
    known = site | norm | {
        "class": classes.tolist(), "static_class": pa.repeat("alive", n), "constant": np.zeros(n, bool), "n_tokens": np.full(n, tokens),
        "n_windows": np.full(n, N_WINDOWS), "n_documents": np.full(n, DOCUMENTS), "n_active": active,
        "windows_active": np.minimum(active, N_WINDOWS),
        "documents_active": documents, "density": density, "density_low": density * 0.9, "density_high": np.minimum(1, density * 1.1),
        "document_low": documents / DOCUMENTS * 0.9, "document_high": np.where(documents, 1.0, document_bound(DOCUMENTS)),
        "contribution": density * 0.1, "mean": scale * 0.01, "second_moment": scale**2, "kurtosis": np.full(n, 3.0),
        "min": values.min(1), "max": values.max(1), "mean_active": pa.array(scale, mask=active == 0),
    }  # fmt: skip
    columns = {column.name: pa.nulls(n) for column in next(t for t in NEURON_ACTIVITY.tables if t.name == "neurons").columns}
    return columns | known


def _layers(layer: int, active: Any, documents: Any, classes: Any) -> dict[str, Any]:
    tokens = CONFIG["n_tokens"]
    known = {f"n_{name}": int((classes == name).sum()) for name in ("dead", "rare", "undecided", "normal", "dense")}
    known |= {
        "layer": layer, "hook_name": f"blocks.{layer}.mlp.hook_post", "activation": "gelu", "gated": False,
        "active_rule": "relative contribution above 0.01",
        "n_neurons": len(active), "n_silent": int((active == 0).sum()), "n_static_dead": 0, "n_constant": 0, "n_tokens": tokens,
        "n_windows": N_WINDOWS,
        "n_documents": DOCUMENTS, "density": float(active.mean() / tokens), "gini_n": 0, "n_nonfinite": 0,
        "expected_wakes": expected_wakes(documents, DOCUMENTS).expected, "silent_document_bound": document_bound(DOCUMENTS),
        "silent_token_bound": document_bound(tokens),
    }  # fmt: skip
    columns = next(t for t in NEURON_ACTIVITY.tables if t.name == "layers").columns
    return {column.name: [known.get(column.name)] for column in columns}


def _examples(layer: int, n: int, n_examples: int, scale: Any, random: Any) -> dict[str, Any]:
    kinds = ("top", "quantile", "bottom")
    total = n * n_examples * len(kinds)
    kind = np.tile(np.repeat(np.arange(3), n_examples), n)
    rank = np.tile(np.arange(n_examples), n * 3)
    neuron = np.repeat(np.arange(n), n_examples * 3)
    sign = np.where(kind == 2, -1.0, 1.0)
    strip = (random.integers(0, 300, (total, STRIP)) * sign[:, None]).astype(np.int64)
    strip[:, STRIP // 2] = 1000 * sign
    return {
        "layer": np.full(total, layer), "hook_name": pa.repeat(f"blocks.{layer}.mlp.hook_post", total), "neuron": neuron,
        "kind": pa.DictionaryArray.from_arrays(pa.array(kind.astype(np.int8)), pa.array(kinds)).dictionary_decode(), "rank": rank,
        "value": sign * scale[neuron] * (8 - rank), "quantile": pa.array(1 - rank / n_examples, mask=kind != 1),
        "window": random.integers(0, N_WINDOWS, total), "position": np.full(total, STRIP // 2 + 2), "first": np.full(total, 2),
        "strip": pa.ListArray.from_arrays(np.arange(0, total * STRIP + 1, STRIP, dtype=np.int32), strip.ravel()),
    }  # fmt: skip
