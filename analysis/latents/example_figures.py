"""Figures of `latent_examples`, from stored rows. Given the rows of one latent they show that one, else the one that stands out most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.latents.example_tables import HEAD, NEURON
from analysis.stats.histogram import bin_edges
from figures.spec import Axis, FigureSpec, NothingToDraw, Series


def _of(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['sae']} on {facts['n_tokens']:,} tokens from {facts['n_documents']:,} documents of {provenance['data']} ({facts['mask']})"
    )


def draw_activations(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Histogram of a latent's activations: the only latent of ``rows``, or the one with the largest activation."""
    import numpy as np
    import pandas as pd

    active = rows[rows["n_active"] > 0]
    if not len(active):
        raise NothingToDraw("This latent was active on no token." if len(rows) == 1 else "No latent was active on any token.")
    row = active.loc[active["max"].astype(float).idxmax()]
    edges, bins = bin_edges(), np.asarray(row["bins"], int)
    finite = np.clip(edges, -(2.0**13), 2.0**13)
    every = np.arange(bins.min(), bins.max() + 1)
    counts = pd.Series(np.asarray(row["counts"], int), bins).reindex(every, fill_value=0)
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": finite[every], "high": finite[every + 1], "n": counts.to_numpy()}),
        x=Axis("low", "Activation"),
        x_end="high",
        y=Axis("n", "Tokens"),
        title=f"Activations of latent {int(row['latent'])}",
        sentence=f"Histogram of the activations of latent {int(row['latent'])} of {_of(provenance)}, on the {int(row['n_active']):,} "
        f"tokens ({row['density']:.3%}) on which it is active; eight bins per octave.",
    )


def draw_tokens(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Tokens whose logits a latent raises and lowers most: the only latent of ``rows``, or the one with the highest score."""
    facts = provenance["facts"]
    if not len(rows):
        raise NothingToDraw(f"No latent has promoted tokens: {facts['promoted_and_suppressed']}")
    latent = int(rows.loc[rows["score"].idxmax(), "latent"])
    shown = rows[rows["latent"] == latent].sort_values("score", ascending=False).reset_index(drop=True)
    named = shown["token"].map(lambda piece: "" if piece is None else repr(piece)[1:-1])
    shown["shown"] = [f"{name} ({number})" for name, number in zip(named, shown["token_id"], strict=True)]
    return FigureSpec(
        kind="bars",
        data=shown[["shown", "score", "side"]],
        x=Axis("shown", "Token (id)", scale="category"),
        y=Axis("score", "Effect on the logit", unit="logits per unit of activation"),
        series=Series("side", "Side"),
        title=f"Tokens that latent {latent} promotes and suppresses",
        sentence=f"Decoder direction of latent {latent} of {facts['sae']} through the final norm's gain and the unembedding.",
        notes=("The final norm's scale and what later layers make of it are left out; for early layers this means little.",),
    )


def draw_logits(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Histogram of a latent's effects on all logits: the only latent of ``rows``, or the one with the highest."""
    import numpy as np
    import pandas as pd

    facts, known = provenance["facts"], rows.dropna(subset=["logit_high"])
    if not len(known):
        raise NothingToDraw(f"No latent has effects on logits: {facts['promoted_and_suppressed']}")
    row = known.loc[known["logit_high"].idxmax()]
    counts, latent = np.asarray(row["logit_counts"], int), int(row["latent"])
    edges = np.linspace(row["logit_low"], row["logit_high"], len(counts) + 1)
    shown = counts > 0  # a logarithmic axis has no zero
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1][shown], "high": edges[1:][shown], "n": counts[shown]}),
        x=Axis("low", "Effect on the logit", unit="logits per unit of activation"),
        x_end="high",
        y=Axis("n", "Tokens of the vocabulary", scale="log"),
        title=f"Effect of latent {latent} on all logits",
        sentence=f"Histogram over all {int(counts.sum()):,} tokens of the vocabulary of what latent {latent} of {facts['sae']} adds to "
        f"their logits, from {row['logit_low']:.3g} to {row['logit_high']:.3g}; bars far to the right of the others are tokens it stands "
        "for.",
        notes=("The number of tokens is on a log scale.",),
    )


def draw_lens(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How each latent's effect is spread over the vocabulary."""
    facts = provenance["facts"]
    shown = rows.dropna(subset=["logit_skewness"])
    if not len(shown):
        raise NothingToDraw(f"No latent has promoted tokens: {facts['promoted_and_suppressed']}")
    shown = shown[["latent", "logit_skewness", "logit_kurtosis", "class", "density"]].reset_index(drop=True)
    shown["tailed"] = shown["logit_kurtosis"] + 3  # on a logarithmic axis; at least 1
    return FigureSpec(
        kind="scatter",
        data=shown,
        x=Axis("logit_skewness", "Skewness of its effect on the logits"),
        y=Axis("tailed", "Kurtosis (3 for a normal distribution)", scale="log"),
        series=Series("class", "Class", palette="activity"),
        title="Which latents stand for single tokens",
        sentence=f"A point per latent: {len(shown):,} latents of {facts['sae']}; far up, few tokens stand out, to the right as promoted, "
        "to the left as suppressed.",
        hover=("latent", "density"),
    )


def draw_partners(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How closely latents follow single neurons and single heads."""
    import numpy as np
    import pandas as pd

    facts, best = provenance["facts"], rows[rows["rank"] == 0]
    if not len(best):
        raise NothingToDraw("Latents were not compared with neurons and heads, or were active on none of the sampled tokens.")
    edges = np.linspace(-1 if best["correlation"].min() < 0 else 0, 1, 21)
    kinds = [kind for kind in (NEURON, HEAD) if (best["kind"] == kind).any()]
    counts = [np.histogram(best.loc[best["kind"] == kind, "correlation"], edges)[0] for kind in kinds]
    parts = [pd.DataFrame({"low": edges[:-1].round(2), "n": n, "kind": kind}) for kind, n in zip(kinds, counts, strict=True)]
    above = {kind: int(best.loc[best["kind"] == kind, "above_noise"].sum()) for kind in kinds}
    words = ", ".join(f"{n:,} with a {kind}" for kind, n in above.items())
    return FigureSpec(
        kind="bars",
        data=pd.concat(parts, ignore_index=True),
        x=Axis("low", "Highest correlation, from", scale="category"),
        y=Axis("n", "Latents"),
        series=Series("kind", "With a", order=tuple(kinds)),
        title="Latents that follow single neurons or heads",
        sentence=f"For each latent of {facts['sae']} that was active on the {facts['n_sampled']:,} sampled tokens its highest "
        f"correlation with any neuron's activation and any head's norm; beyond chance: {words}.",
    )
