"""Figures of `latent_attribution`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.spec import Headline, Summaries
from figures.spec import Axis, FigureSpec, NothingToDraw, Series


def draw_heads(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How many latents each head serves."""
    facts = provenance["facts"]
    names = {"n_top": "has the largest share", "n_above": f"has at least {provenance['config']['head_share']:.0%}"}
    long = rows.melt(["head", "mean_share"], list(names), var_name="what", value_name="n")
    long["what"] = long["what"].map(names)
    return FigureSpec(
        kind="bars",
        data=long.sort_values("head").reset_index(drop=True),
        x=Axis("head", "Head", scale="category"),
        y=Axis("n", "Latents"),
        series=Series("what", "Where the head", order=tuple(names.values())),
        title="How many latents each head serves",
        sentence=f"Latents of {facts['sae']} by the head that holds the largest share of their decoder norm: {facts['n_active']:,} latents "
        f"that were active on {facts['n_tokens']:,} tokens of {provenance['data']}.",
        hover=("mean_share",),
    )


def draw_shares(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How much of each latent lies in its largest head."""
    import numpy as np
    import pandas as pd

    active = rows[rows["active"]]
    if not len(active):
        raise NothingToDraw("No latent was active on any token.")
    largest, heads = active.groupby("latent")["share"].max(), int(rows["head"].max()) + 1
    counts, edges = np.histogram(largest, np.linspace(0, 1, 41))
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": counts}),
        x=Axis("low", "Largest head's share of the decoder norm"),
        x_end="high",
        y=Axis("n", "Latents"),
        title="Latents of one head and of many",
        sentence=f"Share of the decoder norm that lies in each latent's largest head: {len(largest):,} active latents of "
        f"{provenance['facts']['sae']}; 1 is a latent of one head, {1 / heads:.2f} one spread evenly over {heads}.",
    )


def draw_distances(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """From how far back what latents need is fetched."""
    import numpy as np
    import pandas as pd

    facts = provenance["facts"]
    if not len(rows):
        raise NothingToDraw("No example was attributed: no latent asked for was active.")
    edges = (-np.inf, 0, 1, 2, 3, 5, 9, 17, 33, 65, 129, np.inf)
    names = ["after it", "itself", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "over 128"]
    place = np.searchsorted(edges, rows["back"].to_numpy(), side="right") - 1
    total = np.abs(rows["contribution"].to_numpy())
    sums = np.bincount(place, weights=total, minlength=len(names)) / max(total.sum(), np.finfo(float).tiny)
    shown = [i for i, name in enumerate(names) if sums[i] > 0 or name != "after it"]
    return FigureSpec(
        kind="bars",
        data=pd.DataFrame({"back": [names[i] for i in shown], "share": sums[shown]}),
        x=Axis("back", "Tokens before the destination", scale="category"),
        y=Axis("share", "Share of what is added", unit="share of magnitudes", bounds=(0.0, 1.0)),
        title="From how far back latents are fed",
        sentence=f"Magnitudes of what the kept sources add at {facts['n_attributed']:,} top examples of {facts['n_latents_attributed']:,} "
        f"latents of {facts['sae']}, by distance.",
        notes=("Attention frozen: what queries and keys do is not in it.",),
    )


def draw_by_head(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """What each head adds to one latent at its top examples: the only latent of ``rows``, or the one with the largest activation."""
    import numpy as np
    import pandas as pd

    if not len(rows):
        raise NothingToDraw("No example was attributed: no latent asked for was active.")
    latent = int(rows.loc[rows["value"].astype(float).idxmax(), "latent"])
    mine = rows[rows["latent"] == latent]
    mean = np.mean(np.stack([np.asarray(v, float) for v in mine["by_head"]]), axis=0)
    return FigureSpec(
        kind="bars",
        data=pd.DataFrame({"head": np.arange(len(mean)), "added": mean}),
        x=Axis("head", "Head", scale="category"),
        y=Axis("added", "Added to the pre-activation"),
        title=f"Heads behind latent {latent}",
        sentence=f"What each head adds to latent {latent} of {provenance['facts']['sae']}, mean over its {len(mine)} top examples.",
        notes=("Attention frozen, biases left out.",),
    )


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """How many latents belong to one head."""
    rows = summaries.get("head_latents", ())
    n = rows[0]["n_latents"] if rows else 0
    if not n:
        return ()
    own = sum(row["n_above"] for row in rows)
    return (Headline("Latents of one head", own / n, f"Of {n:,} latents that were active; one head holds most of their decoder norm."),)
