"""Tables of `latent_attribution`: what each column means, in which unit and range."""

from __future__ import annotations

from analysis.latents.example_tables import LATENT, WINDOWS
from analysis.spec import Column, Table

_MANY = (0, 1e15)
_SHARE = (0.0, 1.0)
_UNIT = "pre-activation"
TOP = 10
"""Latents per head that its tasks are read off, as in the source."""

EXAMPLES = Table(
    "latent_attributions",
    "What the heads add to each latent at its top examples: attention frozen, biases left out; the text is in `latent_windows`.",
    ("latent", "rank"),
    (
        LATENT,
        Column("rank", "int", "Example: 0 for the largest activation", range=(0, 1000)),
        Column("value", "float", "Activation there", unit="activation", range=(0, 1e308)),
        Column("window", "int", "Row of `latent_windows`", range=_MANY),
        Column("position", "int", "Position in its window, from 0: the destination", unit="tokens", range=_MANY),
        Column("direct", "float", "z . W_enc of what the SAE read there", unit=_UNIT, evidence="C"),
        Column("total", "float", "Sum of what all heads add from all sources: as `direct`, but for rounding", unit=_UNIT, evidence="C"),
        Column("constant", "float", "What biases add: the encoder's (of a gated SAE the gate's), less b_dec . W_enc where that is subtracted first", unit=_UNIT, evidence="C"),
        Column("by_head", "list[float]", "What each head adds, by number of the head; their sum is `total`", unit=_UNIT, evidence="C"),
        Column("top_head", "int", "Head that adds most", range=(0, 1e6)),
        Column("sources_kept", "float", "Share of the sum of magnitudes over sources that `latent_sources` holds; NULL where nothing adds anything", unit="share", range=_SHARE, optional=True, evidence="O"),
    ),
)  # fmt: skip

SOURCES = Table(
    "latent_sources",
    "The source positions that add most, by magnitude, to each latent at its top examples.",
    ("latent", "rank", "source_rank"),
    (
        LATENT,
        Column("rank", "int", "Example, as in `latent_attributions`", range=(0, 1000)),
        Column("source_rank", "int", "0 for the source of the largest magnitude", range=(0, 1e6)),
        Column("source", "int", "Its position in the window, from 0", unit="tokens", range=_MANY),
        Column("back", "int", "How many tokens it lies before the destination; below 0 after it", unit="tokens"),
        Column("contribution", "float", "What all heads add from there", unit=_UNIT, evidence="C"),
        Column("head", "int", "Head that adds the largest magnitude from there", range=(0, 1e6)),
        Column("head_contribution", "float", "What that head adds from there", unit=_UNIT, evidence="C"),
    ),
)

LATENT_HEADS = Table(
    "latent_heads",
    "How much of each latent's decoder direction lies in each head, from the weights alone.",
    ("latent", "head"),
    (
        LATENT,
        Column("head", "int", "Head, from 0", range=(0, 1e6)),
        Column("decoder_norm", "float", "Norm of the decoder direction's part in this head", range=(0, 1e308), evidence="C"),
        Column("share", "float", "That norm over the sum of all heads' norms; near 1 / heads everywhere: a distributed latent", unit="share", range=_SHARE, evidence="C"),
        Column("active", "bool", "Whether the latent was active on any token of this text"),
    ),
)  # fmt: skip

HEADS = Table(
    "head_latents",
    "How many latents each head serves: the more unrelated ones, the more tasks it has.",
    ("layer", "hook_name", "head"),
    (
        Column("layer", "int", "Layer of the head", range=(0, 1e6)),
        Column("hook_name", "str", "Place that the SAE reads"),
        Column("head", "int", "Head, from 0", range=(0, 1e6)),
        Column("n_latents", "int", "Latents that were active on this text", unit="latents", range=_MANY),
        Column("n_top", "int", "Of these, latents whose largest share of the decoder norm lies in this head", unit="latents", range=_MANY, evidence="O"),
        Column("n_above", "int", "Of those, latents for which that share is at least `head_share`: the head's own", unit="latents", range=_MANY, evidence="O"),
        Column("mean_share", "float", "Mean of its share over active latents; NULL without any", unit="share", range=_SHARE, optional=True, evidence="O"),
        Column("attributed_share", "float", "Mean over attributed examples of what it adds, of the sum of all heads' magnitudes; NULL without examples", unit="share", range=_SHARE, optional=True, evidence="O"),
        Column("top_latents", "list[int]", "Active latents with the largest share in it: whether these have to do with each other tells, in the source, whether the head has one task or several", range=_MANY, evidence="C"),
        Column("top_shares", "list[float]", "Their shares", unit="share", range=_SHARE, evidence="C"),
        Column("top_similarity", "float", "Mean cosine between these latents' decoder parts in this head: near 0, they write different things; NULL for fewer than two", range=(-1, 1), optional=True, evidence="O"),
    ),
    summary=True,
)  # fmt: skip

TABLES = (EXAMPLES, SOURCES, LATENT_HEADS, HEADS, WINDOWS)
