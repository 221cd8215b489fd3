"""How much of what an ablation costs a reconstruction wins back, in loss and in KL; and the names other programs give to such numbers.

Means first, then the ratio: libraries that average the ratios of batches differ slightly. Source: METHODS D4, D5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from analysis.stats.number import Number

if TYPE_CHECKING:
    from analysis.stats.paired import Resample

UNIMPORTANT = "ablating it does not raise the loss, so there is nothing to recover"


def recovered(spliced: float, ablated: float) -> float | None:
    """1 - spliced / ablated, from what each costs above the model as it is; None where the ablation costs nothing.

    With increases of the loss this is (CE_ablated - CE_sae) / (CE_ablated - CE_clean), with divergences (KL_ablated - KL_sae) / KL_ablated.
    No unit; 1 perfect, 0 as bad as the ablation; not clamped: above 1 and below 0 are possible. Source: METHODS D4.
    """
    return 1 - spliced / ablated if ablated > 0 else None


def recovered_over_documents(spliced: ArrayLike, ablated: ArrayLike, resample: Resample) -> Number:
    """`recovered` of the means of sums over documents [D], with its percentile interval over shared draws.

    No interval where the ablation costs nothing in a fortieth of the draws or more, or where a sum is infinite.
    """
    pair = np.stack([np.asarray(spliced, np.float64), np.asarray(ablated, np.float64)])
    if not np.isfinite(pair).all():
        return Number.missing("the loss of a position is infinite or no number")
    means = resample.value(pair)
    value = recovered(float(means[0]), float(means[1]))
    if value is None:
        return Number.missing(UNIMPORTANT)
    drawn = resample.means(pair)
    usable = drawn[:, 1] > 0
    if resample.n_documents == 1 or usable.mean() < 0.975:
        return Number(value, why=resample.note or "no interval: in some draws of documents the ablation costs nothing")
    low, high = np.quantile(1 - drawn[usable, 0] / drawn[usable, 1], [0.025, 0.975])
    return Number(value, float(low), float(high), resample.note)


SAELENS_NAMES: Mapping[str, tuple[str, str]] = {
    "kl_recovered_zero": ("model_behavior_preservation", "kl_div_score"),
    "kl_zero_ablated": ("model_behavior_preservation", "kl_div_with_ablation"),
    "kl_spliced": ("model_behavior_preservation", "kl_div_with_sae"),
    "loss_recovered_zero": ("model_performance_preservation", "ce_loss_score"),
    "loss_zero_ablated": ("model_performance_preservation", "ce_loss_with_ablation"),
    "loss_spliced": ("model_performance_preservation", "ce_loss_with_sae"),
    "loss_clean": ("model_performance_preservation", "ce_loss_without_sae"),
    "explained_variance": ("reconstruction_quality", "explained_variance"),
    "explained_variance_legacy": ("reconstruction_quality", "explained_variance_legacy"),
    "mse": ("reconstruction_quality", "mse"),
    "cosine": ("reconstruction_quality", "cossim"),
    "l2_norm_in": ("shrinkage", "l2_norm_in"),
    "l2_norm_out": ("shrinkage", "l2_norm_out"),
    "l2_ratio": ("shrinkage", "l2_ratio"),
    "relative_reconstruction_bias": ("shrinkage", "relative_reconstruction_bias"),
    "l0": ("sparsity", "l0"),
    "l1": ("sparsity", "l1"),
}
"""Our measure to SAELens' group and key (METHODS D5); its ablation is zero ablation."""


def saelens_metrics(values: Mapping[str, float | None], n_scored: int, n_encoded: int) -> dict[str, dict[str, float]]:
    """Our measures as SAELens' evaluation writes them: group to key to value; what is missing is left out.

    values: by our names; n_scored: positions of the loss; n_encoded: tokens that latents and reconstruction were taken on.
    """
    found: dict[str, dict[str, float]] = {}
    for ours, (group, key) in SAELENS_NAMES.items():
        value = values.get(ours)
        if value is not None:
            found.setdefault(group, {})[key] = value
    found["token_stats"] = {"total_tokens_eval_reconstruction": n_scored, "total_tokens_eval_sparsity_variance": n_encoded}
    return found
