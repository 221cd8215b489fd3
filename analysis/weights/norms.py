"""The scales of norms: which channels they would remove (`stats.scales`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.stats import scales


def is_scale(tensor: Any) -> bool:
    """Whether a tensor is the scale vector of a norm."""
    return tensor.kind == "norm" and len(tensor.shape) == 1 and tensor.name.rpartition(".")[2] in ("weight", "gamma", "scale")


def norm_rows(tensors: Sequence[Any], slimming: float) -> dict[str, list[Any]]:
    """The rows of ``norm_scales``; scales that are not all finite are left out. The slimming threshold pools the batch norms."""
    values = {t.name: t.read().detach().cpu().double().numpy() for t in tensors}
    finite = [t for t in tensors if np.isfinite(values[t.name]).all()]
    pooled = [values[t.name] for t in finite if "BatchNorm" in t.owner]
    threshold = scales.slimming_threshold(np.concatenate(pooled), slimming) if pooled else None
    rows = [_row(t, values[t.name], threshold) for t in finite]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _row(tensor: Any, gamma: np.ndarray, threshold: float | None) -> dict[str, Any]:
    is_batch, energy = "BatchNorm" in tensor.owner, scales.energy_threshold(gamma)
    return {
        "tensor": tensor.name,
        "layer": tensor.layer,
        "owner": tensor.owner,
        "is_criterion": is_batch,
        "n_channels": len(gamma),
        "n_small": int((np.abs(gamma) <= scales.FIXED).sum()),
        "energy_threshold": energy,
        "n_kept_energy": scales.n_kept(gamma, energy),
        "gap_ratio": scales.gap_ratio(gamma),
        "slimming_threshold": threshold if is_batch else None,
        "n_kept_slimming": scales.n_kept(gamma, threshold) if is_batch else None,
    }
