"""Figures and headlines of `sae_quality`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.latents.quality_tables import JUDGED, USUAL
from analysis.spec import Headline, Summaries
from analysis.stats.decoder import DUPLICATE
from analysis.stats.intervals import CLASSES
from figures.spec import Axis, FigureSpec, Mark, NothingToDraw, Series

_OURS = "ours"


def _n(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['n_latents']:,} latents of {facts['sae']} on {facts['n_tokens']:,} tokens from {facts['n_documents']:,} documents of "
        f"{provenance['data']}"
    )


def draw_densities(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Histogram of latents over the logarithm of their density, silent ones at -10."""
    silent = int(rows.loc[rows["low"] < -10, "n_latents"].sum())
    facts = provenance["facts"]
    return FigureSpec(
        kind="histogram",
        data=rows.reset_index(drop=True),
        x=Axis("low", "Density, log10"),
        x_end="high",
        y=Axis("n_latents", "Latents"),
        title="How often latents are active",
        sentence=f"Histogram of log10(density + 1e-10): {_n(provenance)}. {silent:,} of them were active on none of these tokens and stand "
        "at -10.",
        notes=(facts["silent_words"], f"Tokens: {facts['mask']}."),
    )


def draw_scatter(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Density and largest activation of each latent."""
    shown = rows[rows["n_active"] > 0]
    if not len(shown):
        raise NothingToDraw("No latent was active on any token.")
    shown = shown[["latent", "density", "max", "class", "mean", "n_active"]].reset_index(drop=True)
    return FigureSpec(
        kind="scatter",
        data=shown,
        x=Axis("density", "Density", unit="share of tokens", scale="log"),
        y=Axis("max", "Largest activation", scale="log"),
        series=Series("class", "Class", order=CLASSES, palette="activity"),
        title="How often and how strongly latents are active",
        sentence=f"A point per latent: {_n(provenance)}; {len(rows) - len(shown):,} silent ones are not drawn.",
        hover=("latent", "mean", "n_active"),
    )


def draw_similarity(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How similar each decoder direction is to its most similar other one."""
    import numpy as np
    import pandas as pd

    values = rows["max_decoder_cosine"].dropna().to_numpy(float)
    if not len(values):
        raise NothingToDraw("No two decoder directions have a length.")
    edges = np.linspace(-1 if values.min() < 0 else 0, 1, 41)
    counts, _ = np.histogram(values, edges)
    doubled = int((values >= DUPLICATE).sum())
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n_latents": counts}),
        x=Axis("low", "Cosine with the most similar other decoder direction"),
        x_end="high",
        y=Axis("n_latents", "Latents"),
        title="Latents that say the same",
        sentence=f"Largest cosine of each decoder direction with another one: {_n(provenance)}. {doubled:,} have one of at least "
        f"{DUPLICATE:g}: near duplicates.",
        marks=(Mark(DUPLICATE, "near duplicates"),),
    )


def draw_baselines(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Explained variance beside what else reconstructs with as many numbers per token."""
    shown = rows[(rows["measure"] == "explained_variance") & rows["value"].notna()]
    if not len(shown[shown["method"] != "sae"]):
        raise NothingToDraw("Nothing was compared with this SAE.")
    data = shown[["method", "tokens", "value", "low", "high", "n"]].reset_index(drop=True)
    active = rows[(rows["measure"] == "l0") & (rows["method"] == "sae")]["value"].iloc[0]
    n = {tokens: int(part["n"].max()) for tokens, part in data.groupby("tokens")}
    return FigureSpec(
        kind="bars",
        data=data,
        x=Axis("method", "Reconstructed by", scale="category"),
        y=Axis("value", "Explained variance"),
        series=Series("tokens", "Tokens", order=tuple(n)),
        title="What a token's few numbers buy",
        sentence=f"Explained variance of {provenance['facts']['sae']} with {active:.1f} latents per token, beside others with as many "
        f"numbers, fitted on other documents ({', '.join(f'{tokens}: {count:,} tokens' for tokens, count in n.items())}).",
        hover=("low", "high", "n"),
        notes=(
            "Codes of principal components, random directions and dictionary learning may be negative; most SAEs' latents may not.",
            "Dictionary learning (scikit-learn) is measured on a sample of the tokens, and so is the SAE beside it.",
        ),
    )


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """Explained variance, loss recovered against the mean, and dead latents."""
    rows = {(row["measure"], row["tokens"]): row for row in summaries.get("sae_quality", ()) if row["variant"] == _OURS}
    asked = (
        ("Variance explained by the SAE", rows.get(("explained_variance", USUAL)), "tokens of usual norm"),
        ("Loss recovered", rows.get(("loss_recovered_mean", "scored")), "scored positions"),
        ("Dead latents", rows.get(("dead", JUDGED)), "latents"),
    )
    found = []
    for label, row, what in asked:
        if row is None or row["value"] is None or not 0 <= row["value"] <= 1:
            continue
        every = rows.get(("explained_variance", JUDGED)) if row["tokens"] == USUAL else None
        more = f"; {every['value']:.1%} over all {every['n']:,}" if every is not None and every["n"] > row["n"] else ""
        found.append(Headline(label, row["value"], f"{row['meaning']}; over {row['n']:,} {what}{more}."))
    return tuple(found)
