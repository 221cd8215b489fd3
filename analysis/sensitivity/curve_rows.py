"""Rows of the tables of `essential_sparsity`, from points and curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.cost import DenseCost
from analysis.interventions.levels import Estimate
from analysis.interventions.measuring import KL, LOSS
from analysis.interventions.sweep import ACCURACY, Baseline, Point, perplexity
from analysis.sensitivity.tables import FIRST, POINTS, TOKENS
from analysis.tasks import Losses, Task, difference, mean_loss

if TYPE_CHECKING:
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.scope import Scope

Rows = dict[str, list[Any]]


def curve_key(pruning: WeightPruning, data: str = FIRST) -> dict[str, Any]:
    """What tells its curve on these data apart."""
    ratio = f" {pruning.ratio.slug}" if pruning.ratio else ""
    counted = "" if pruning.counts_as == "text" else f" ({pruning.counts_as})"
    return {
        "method": pruning.method.name + ratio + counted,
        "structure": pruning.structure.slug,
        "scope": pruning.group,
        "seed": pruning.seed,
        "data": data,
    }


def curve_label(key: Mapping[str, Any]) -> str:
    """A curve in words, for legends."""
    scope = {"global": "global", "per_matrix": "per matrix", "per_row": "per row", "group": ""}.get(key["scope"], key["scope"])
    method = str(key["method"])
    # Of calibrated methods only further draws are numbered: most runs have one.
    seed = f"seed {key['seed']}" if method.startswith("random") or (key["seed"] and not method.startswith("magnitude")) else ""
    structure = "" if key["structure"] == "unstructured" else str(key["structure"])
    data = "" if key.get("data", FIRST) == FIRST else f"{key['data']} data"
    return ", ".join(part for part in (method, structure, scope, seed, data) if part)


def metric_names(task: Task, measured: Mapping[str, Losses]) -> list[str]:
    """Of the rows that each point gets."""
    right = [ACCURACY] if task.knows_right and task.unit != "relative error" else []
    return [LOSS, *right, *(name for name in measured if name != LOSS)]


def point_rows(
    key: Mapping[str, Any], kind: str, point: Point, baseline: Baseline, task: Task, dense: DenseCost, units: Mapping[str, str]
) -> Rows:
    """Rows of `curve_points`: one per metric."""
    applied = point.applied
    assert applied is not None  # only a point of this session has rows to be written
    n_scope = applied.n
    shared = {
        **key,
        "level": point.level,
        "kind": kind,
        "achieved": applied.achieved,
        "already_zero": applied.n_already_zero / n_scope if n_scope else 0.0,
        "native_value": applied.native_value,
        "native_unit": applied.native_unit if applied.native_value is not None else None,
        "task": task.name,
        "split": task.split,
        "note": "; ".join(applied.notes) or None,
        **_costs(point, dense),
    }
    rows: Rows = {column.name: [] for column in POINTS.columns}
    for metric in metric_names(task, point.measured):
        row = shared | {"metric": metric, "unit": units[metric], **_numbers(metric, point, baseline, task)}
        for name, values in rows.items():
            values.append(row[name])
    return rows


def _costs(point: Point, dense: DenseCost) -> dict[str, Any]:
    assert point.cost is not None  # as `applied`
    cost = dense.at(point.cost)
    decode = cost.decode_bytes or {}
    return {
        "cost_params": cost.parameters,
        "cost_flops": cost.flops,
        "cost_bytes": decode.get(1),
        "cost_bytes_32": decode.get(32),
        "cost_resident": cost.resident_bytes,
    }


def _numbers(metric: str, point: Point, baseline: Baseline, task: Task) -> dict[str, Any]:
    losses = point.measured.get(metric, point.measured[LOSS])
    n = int(losses.n.sum())
    found: dict[str, Any] = {"n": n, "n_documents": len(np.unique(losses.document[losses.n > 0])), "perplexity": None}
    if metric == ACCURACY:
        return found | _estimated(float(losses.n_right.sum() / max(1, n)), baseline.estimate(baseline.lost(point.measured)), baseline)
    if metric != LOSS:
        delta = mean_loss(losses) if metric == KL else difference(losses, baseline.measured[metric])
        if delta is None:
            return found | dict.fromkeys(("value", "delta", "low", "high", "stderr"))
        value = float(losses.total.sum() / n)
        return found | {"value": value, "delta": delta.value, "low": delta.low, "high": delta.high, "stderr": delta.standard_error}
    if losses.n_endless.any():
        return found | dict.fromkeys(("value", "delta", "low", "high", "stderr"))
    value = float(losses.total.sum() / n)
    tokens = task.name in ("causal-lm", "masked-lm", "seq2seq")
    found["perplexity"] = perplexity(value) if tokens else None
    return found | _estimated(value, baseline.estimate(baseline.increase(point.measured)), baseline)


def _estimated(value: float, estimate: Estimate, baseline: Baseline) -> dict[str, Any]:
    alone = baseline.resample.n_documents == 1
    interval = {"low": estimate.low, "high": estimate.high, "stderr": estimate.standard_error}
    return {"value": value, "delta": estimate.value, **(dict.fromkeys(interval) if alone else interval)}


def loss_rows(key: Mapping[str, Any], point: Point, baseline: Baseline) -> dict[str, Any]:
    """Rows of `point_losses`."""
    now, dense = point.measured[LOSS].by_document(), baseline.measured[LOSS].by_document()
    n = len(now)
    return {
        **{name: [value] * n for name, value in key.items()},
        "level": [point.level] * n,
        "document": now.document,
        "n": now.n,
        "loss_sum": [float(total) if ok else None for total, ok in zip(now.total, now.n_endless == 0)],
        "dense_sum": dense.total,
        "n_correct": now.n_right,
        "dense_correct": dense.n_right,
    }


def where_rows(key: Mapping[str, Any], point: Point, places: Mapping[str, tuple[int | None, str]]) -> dict[str, Any]:
    """Rows of `pruned_where`. places: layer and role by name."""
    counts = point.applied.counts if point.applied is not None else ()
    n = len(counts)
    return {
        **{name: [value] * n for name, value in key.items()},
        "level": [point.level] * n,
        "tensor": [c.name for c in counts],
        "layer": [places[c.name][0] for c in counts],
        "role": [places[c.name][1] for c in counts],
        "n_weights": [c.n for c in counts],
        "n_zero": [c.n_zero for c in counts],
        "n_already_zero": [c.n_already_zero for c in counts],
        "zero_share": [c.n_zero / c.n for c in counts],
    }


def token_rows(key: Mapping[str, Any], point: Point, baseline: Baseline, task: Task) -> Rows:
    """Rows of `point_tokens`; none where examples are no text."""
    rows: Rows = {column.name: [] for column in TOKENS.columns}
    pieces: Mapping[int, str] = getattr(task.data, "token_strings", {})
    for place, found in sorted(point.measured.tokens.items()):
        ids, before = found.token.tolist(), baseline.measured.tokens[place].loss.tolist()
        places = {"example": int(task.examples[place]), "document": int(task.data.document[place])}
        for position, token, loss, was in zip(found.position.tolist(), ids, found.loss.tolist(), before):
            known = np.isfinite(loss)
            row = {**key, "level": point.level, **places, "position": position, "token_id": token, "token": pieces.get(token)}
            row |= {"loss": loss if known else None, "delta": loss - was if known and np.isfinite(was) else None}
            for name, values in rows.items():
                values.append(row[name])
    return rows


def scope_rows(scope: Scope) -> dict[str, Any]:
    """Rows of `scope_tensors`: members first."""
    members, skipped = scope.members, scope.skipped
    return {
        "tensor": [m.name for m in members] + [s.name for s in skipped],
        "in_scope": [True] * len(members) + [False] * len(skipped),
        "reason": [None] * len(members) + [s.reason for s in skipped],
        "layer": [m.layer for m in members] + [None] * len(skipped),
        "role": [m.role for m in members] + [None] * len(skipped),
        "n_weights": [m.n for m in members] + [s.n for s in skipped],
    }
