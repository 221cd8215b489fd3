"""From one site's accumulator to rows of the declared tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.capture.site import Site
from analysis.models.placement import weight_values
from analysis.neurons.observing import has_exact_zeros, matrix, output_norms
from analysis.stats.histogram import count_above, pack
from analysis.stats.intervals import activity_class, clopper_pearson, document_bound, expected_wakes, mean_over_documents
from analysis.stats.static import dynamic_dead_rate, static_class

if TYPE_CHECKING:
    from torch import nn

    from analysis.stats.neurons import NeuronActivity

Rows = dict[str, Any]
THRESHOLDS = tuple(2.0**e for e in range(-14, 7))
"""One per octave, 6e-5 to 64: edges of the histogram, so counts are exact."""
DENSITY_EDGES = (0.0, *(10.0 ** (e / 4) for e in range(-28, 1)))
CLASSES = ("dead", "rare", "undecided", "normal", "dense")


@dataclass(frozen=True)
class Weights:
    """What the weights alone say of a site's neurons; None where the matrices could not be told apart."""

    static: np.ndarray | None
    in_norm: np.ndarray | None
    up_norm: np.ndarray | None
    out_norm: np.ndarray | None


def weights_of(model: nn.Module, site: Site) -> Weights:
    """Norms and static classes of a site's neurons."""
    width = int(site.width or 0)
    names = site.producers
    fused = len(names) == 2 and names[0] == names[1]
    matrices = [] if fused else [matrix(model, name, rows=width, expert=site.expert) for name in names]
    gate = matrices[0] if matrices else None
    up = matrices[1] if len(matrices) == 2 else None
    told_apart = gate is not None and len(matrices) == len(names) and (len(names) < 2 or up is not None)
    static = _static(model, site, gate, up) if told_apart and gate is not None else None
    in_norm, up_norm = (None if m is None else m.double().norm(dim=1).cpu().numpy() for m in (gate, up))
    return Weights(static, in_norm, up_norm, output_norms(model, site))


def _static(model: nn.Module, site: Site, gate: Any, up: Any) -> np.ndarray | None:
    import torch
    from torch.nn import functional

    functions = {"relu": torch.relu, "gelu": functional.gelu, "silu": functional.silu, "tanh": torch.tanh}
    weight = weight_values(model, site.weight) if site.weight else None
    if weight is None or weight.is_meta or site.kind != "ffn" or site.activation not in functions:
        return None
    down = weight[site.expert] if weight.ndim == 3 and site.expert is not None else weight
    down = down.T if site.transposed else down
    biases = [_bias(model, name) for name in site.producers]
    more = {"up": up, "up_bias": biases[1]} if up is not None else {}
    return static_class(down, gate, biases[0], activation=functions[site.activation], **more)


def _bias(model: nn.Module, weight: str) -> Any:
    """The bias beside a weight, None where there is none."""
    path, _, leaf = weight.rpartition(".")
    bias = getattr(model.get_submodule(path), leaf.replace("weight", "bias"), None)
    return None if bias is None else bias.detach()


# ---------------------------------------------------------------------------------------------------------------------


def neuron_rows(site: Site, accumulator: NeuronActivity, weights: Weights, config: Any) -> tuple[Rows, np.ndarray]:
    """Rows of `neurons`, and each neuron's class."""
    r, n = accumulator.result(), accumulator.n_neurons
    tokens, documents = int(r["n_rows"]), int(r["n_documents"])
    classes = activity_class(r["n_active"], tokens, config.rare, config.dense)
    if weights.static is not None:
        classes = np.where(np.isin(weights.static, ("dead_in", "dead_out")), "dead", classes)
    low, high = clopper_pearson(r["n_active"], tokens)
    document_low, document_high = clopper_pearson(r["documents_active"], documents)
    silent = r["n_active"] == 0
    zeros = has_exact_zeros(site)
    finite = np.maximum(r["count"], 1)
    nonzero = r["count"] - r["n_zero"]
    rows = _site_columns(site, n) | {
        "neuron": np.arange(n),
        "class": classes.tolist(),
        "static_class": _or_none(weights.static, n),
        "constant": (r["max"] == r["min"]) & (r["count"] > 1),
        "n_tokens": np.full(n, tokens),
        "n_windows": np.full(n, int(r["n_windows"])),
        "n_documents": np.full(n, documents),
        "n_active": r["n_active"],
        "windows_active": r["windows_active"],
        "documents_active": r["documents_active"],
        "density": r["n_active"] / tokens,
        "density_low": low,
        "density_high": high,
        "document_low": document_low,
        "document_high": np.where(r["documents_active"] == 0, document_bound(documents), document_high),
        "n_nonzero": _or_none(nonzero if zeros else None, n),
        "density_nonzero": _or_none(nonzero / finite if zeros else None, n),
        "documents_nonzero": _or_none(r["documents_nonzero"] if zeros else None, n),
        "contribution": _or_none(r["mean_relative"] if accumulator.rule.kind == "relative" else None, n),
        "mean": r["mean"],
        "second_moment": r["mean_square"],
        "kurtosis": _where(r["has_spread"], r["excess_kurtosis"]),
        "min": r["min"].astype(np.float64),
        "max": r["max"].astype(np.float64),
        "mean_active": _where(~silent, r["sum_active"] / np.maximum(r["n_active"], 1)),
        "in_norm": _or_none(weights.in_norm, n),
        "up_norm": _or_none(weights.up_norm, n),
        "out_norm": _or_none(weights.out_norm, n),
    }
    return rows | _path_columns(r, accumulator, n), classes


def _path_columns(r: Mapping[str, Any], accumulator: NeuronActivity, n: int) -> Rows:
    """The gate's and the up path's columns; NULL where the site is not gated."""
    rows: Rows = {}
    for path in ("gate", "up"):
        if not accumulator.has_gate:
            rows |= {f"{path}_{name}": [None] * n for name in ("mean", "second_moment", "min", "max", "positive")}
            continue
        rows |= {f"{path}_mean": r[f"{path}_mean"], f"{path}_second_moment": r[f"{path}_mean_square"]}
        rows |= {f"{path}_{side}": r[f"{path}_{side}"].astype(np.float64) for side in ("min", "max")}
        rows[f"{path}_positive"] = r[f"{path}_n_positive"] / np.maximum(r[f"{path}_count"], 1)
    return rows


def layer_row(site: Site, accumulator: NeuronActivity, weights: Weights, classes: np.ndarray) -> Rows:
    """The site's row of `layers`."""
    r, zeros = accumulator.result(), has_exact_zeros(site)
    tokens, documents = int(r["n_rows"]), int(r["n_documents"])
    silent = r["n_active"] == 0
    dead_by_weights = None if weights.static is None else np.isin(weights.static, ("dead_in", "dead_out"))
    active = mean_over_documents(r["share_active_document_sum"], r["share_active_document_n"])
    alive = np.full(len(classes), "alive") if weights.static is None else weights.static
    found = {
        "activation": site.activation or site.operator,
        "gated": site.gated,
        "active_rule": accumulator.rule.words,
        "n_neurons": len(classes),
        **{f"n_{name}": int((classes == name).sum()) for name in CLASSES},
        "n_silent": int(silent.sum()),
        "n_static_dead": None if dead_by_weights is None else int(dead_by_weights.sum()),
        "n_constant": int(((r["max"] == r["min"]) & (r["count"] > 1)).sum()),
        "n_tokens": tokens,
        "n_windows": int(r["n_windows"]),
        "n_documents": documents,
        "density": active.value,
        "density_low": active.low,
        "density_high": active.high,
        "lazy_percent": 100 * float(r["share_positive_mean"]) if zeros else None,
        "dynamic_dead_rate": dynamic_dead_rate(r["n_zero"], tokens, alive)[0] if zeros else None,
        "hoyer": float(r["hoyer_mean"]) if r["hoyer_n"] else None,
        "gini": float(r["gini_value"].mean()) if r["gini_n"] else None,
        "gini_n": int(r["gini_n"]),
        "expected_wakes": expected_wakes(r["documents_active"], documents).expected,
        "silent_document_bound": document_bound(documents),
        "silent_token_bound": document_bound(tokens),
        "n_nonfinite": int(r["n_nonfinite"].sum()),
    }
    return {name: [value] for name, value in ({"layer": site.layer, "hook_name": site.hook_name} | found).items()}


def density_rows(site: Site, histogram: np.ndarray) -> Rows:
    """Rows of `neuron_densities`: every threshold for every neuron."""
    n = len(histogram)
    counts = [count_above(histogram, threshold) for threshold in THRESHOLDS]
    return _site_columns(site, n * len(THRESHOLDS)) | {
        "threshold": np.repeat(THRESHOLDS, n),
        "neuron": np.tile(np.arange(n), len(THRESHOLDS)),
        "n_active": np.concatenate(counts),
    }


def histogram_rows(site: Site, histogram: np.ndarray) -> Rows:
    """Rows of `neuron_histograms`."""
    packed = pack(histogram)
    return _site_columns(site, len(histogram)) | {
        "neuron": np.arange(len(histogram)),
        "bins": pa.ListArray.from_arrays(packed.offsets.astype(np.int32), packed.bins.astype(np.int64)),
        "counts": pa.ListArray.from_arrays(packed.offsets.astype(np.int32), packed.counts.astype(np.int64)),
    }


def density_bin_rows(site: Site, density: np.ndarray) -> Rows:
    """Rows of `density_bins`: silent neurons apart, then four bins per decade."""
    edges = np.array(DENSITY_EDGES)
    place = np.where(density > 0, np.clip(np.searchsorted(edges, density, side="right") - 1, 0, len(edges) - 2), -1)
    bins, counts = np.unique(place, return_counts=True)
    return _site_columns(site, len(bins)) | {
        "low": [0.0 if b < 0 else float(edges[b]) for b in bins],
        "high": [0.0 if b < 0 else float(edges[b + 1]) for b in bins],
        "n_neurons": counts,
    }


def _site_columns(site: Site, n: int) -> Rows:
    return {"layer": np.full(n, site.layer), "hook_name": pa.repeat(site.hook_name, n)}


def _or_none(values: np.ndarray | None, n: int) -> Any:
    return pa.nulls(n) if values is None else values.tolist() if values.dtype.kind == "U" else values


def _where(defined: np.ndarray, values: np.ndarray) -> pa.Array:
    """Values where they are defined, NULL elsewhere."""
    return pa.array(np.asarray(values, np.float64), mask=~np.asarray(defined, bool))
