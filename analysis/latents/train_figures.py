"""Figures and headlines of `sae_train`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.spec import Headline, Summaries
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

_BINS = 40


def draw_losses(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Each term of the loss over the steps."""
    shown = rows[rows["value"] > 0]  # a logarithmic axis has no zero
    if not len(shown):
        raise NothingToDraw("No step has been kept yet.")
    return FigureSpec(
        kind="line",
        data=shown.sort_values(["term", "step"]).reset_index(drop=True),
        x=Axis("step", "Step"),
        y=Axis("value", "Term of the loss", scale="log"),
        series=Series("term", "Term"),
        title="Loss while the SAE was trained",
        sentence=f"Terms of the loss of single batches over {int(shown['step'].max()):,} steps, {_of(provenance)}.",
        notes=(
            "Terms that are 0 are not drawn: the axis is logarithmic.",
            "Inputs are scaled while training: compare shapes, not heights.",
        ),
    )


def draw_sparsity(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Latents active per activation, over what was trained on."""
    if not len(rows):
        raise NothingToDraw("No step has been kept yet.")
    return FigureSpec(
        kind="line",
        data=rows.sort_values("step").reset_index(drop=True),
        x=Axis("n_samples", "Trained on", "activations"),
        y=Axis("l0", "L0", "latents"),
        title="Latents active on an activation",
        sentence=f"Mean number of active latents (L0) of single batches of {_batch(provenance)} activations, {_of(provenance)}.",
        hover=("step", "explained_variance", "dead_share"),
    )


def draw_shares(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Explained variance and dead latents over what was trained on."""
    names = {"explained_variance": "variance explained", "dead_share": "latents that are dead"}
    data = rows.melt(["step", "n_samples"], list(names), "what", "share").dropna(subset=["share"])
    if not len(data):
        raise NothingToDraw("No step has been kept yet.")
    data["what"] = data["what"].map(names)
    config = provenance["config"]
    return FigureSpec(
        kind="line",
        data=data[data["share"] >= 0].reset_index(drop=True),
        x=Axis("n_samples", "Trained on", "activations"),
        y=Axis("share", "Share", bounds=(0.0, 1.0)),
        series=Series("what", "Share of", tuple(names.values())),
        title="Explained variance and dead latents while the SAE was trained",
        sentence=f"Share of variance explained in single batches of {_batch(provenance)} training activations, and share of latents "
        f"active on nothing for {config['dead_window']:,} steps, {_of(provenance)}.",
        notes=(
            "Explained variance below 0, as at the start, is not drawn.",
            "What the SAE is worth is told by held-out documents.",
        ),
    )


def draw_recovery(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How near the SAE comes to each known feature."""
    import numpy as np
    import pandas as pd

    if not len(rows):
        raise NothingToDraw("The features of this model are not known, so nothing says which ones the SAE should have found.")
    cosine = rows["cosine"].to_numpy(float)
    counts, edges = np.histogram(cosine, bins=_BINS, range=(min(0.0, cosine.min()), 1.0))
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": counts}),
        x=Axis("low", "Largest cosine with a latent"),
        x_end="high",
        y=Axis("n", "Known features"),
        title="Known features that the SAE found",
        sentence=f"Largest cosine of each of {len(rows):,} known features with a decoder direction (mean {cosine.mean():.3f}), "
        f"{_of(provenance)}.",
    )


def _batch(provenance: Mapping[str, Any]) -> str:
    return f"{provenance['config']['batch']:,}"


def _of(provenance: Mapping[str, Any]) -> str:
    facts, config = provenance.get("facts") or {}, provenance["config"]
    where = facts.get("hook_name") or config["place"] or "the middle block's residual stream"
    return f"{config['architecture']} SAE of {where} of {provenance['model_label']}, trained on {provenance['data']}"


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """What the SAE explains of text it has not seen; and of known features, how many it came near."""
    found = []
    for row in summaries.get("saes", ()):
        over = f"{row['n_held_out']:,} tokens of {row['n_documents']:,} held-out documents"
        if row["explained_variance"] is not None and row["explained_variance"] >= 0:
            what = f"{row['architecture']} SAE with {row['n_latents']:,} latents at {row['hook_name']}, L0 {row['l0']:.1f}"
            found.append(Headline("Variance explained by an SAE", row["explained_variance"], f"On {over}; {what}."))
        if row["mean_max_cosine"] is not None and row["mean_max_cosine"] >= 0:
            found.append(
                Headline("Known features found", row["mean_max_cosine"], "Mean over known features of their largest cosine with a latent.")
            )
    return tuple(found)
