"""Which tokens does each head read and write, by its weights alone?

1. Run the model once on a tiny batch made from the model itself: find its attention, the matrices that make the values and read what
   the heads give, the norms in between.
2. The leading singular directions of W_OV = W_V W_O of every head: what it reads along each, and where that goes.
3. Where it goes, through the final norm's gain and the unembedding (logit lens): the tokens promoted and suppressed. What is read,
   against token embeddings through the norm before the values: the tokens that are read.

Where a head looks is no part of it: this is what it moves once it looks. Grouped queries share values and differ in W_O alone.
Sources: Elhage et al. 2021; Millidge & Black 2022; METHODS D7 (logit lens).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.attention.tables import KEY, PLACE_COLUMNS
from analysis.attention.weights_figures import draw_energy, draw_tokens
from analysis.spec import Analysis, Column, Figure, Source, Table, setting

_DIRECTION = (
    *PLACE_COLUMNS,
    Column("head", "int", "Head of queries, from 0", range=(0, 1e6)),
    Column("direction", "int", "Singular direction of the head's W_V W_O, 0 for the strongest", range=(0, 1e4)),
)


@dataclass(frozen=True, kw_only=True)
class HeadWeightsConfig:
    """Settings of `head_weights`."""

    directions: int = setting(3, help="Leading singular directions kept of every head", unit="directions", ge=1, le=64)
    top_tokens: int = setting(10, help="Tokens kept per direction and side", unit="tokens", ge=1, le=100)


OV = Table(
    "heads_ov",
    "The leading singular directions of what each head's values and output projection do together; heads whose map is zero have none.",
    (*KEY, "direction"),
    (
        *_DIRECTION,
        Column(
            "energy_share", "float", "Squared singular value over the sum of all of the head's", "share of energy", (0, 1), evidence="O"
        ),
        Column("singular_value", "float", "Singular value of W_V W_O as stored: no norm's gain is in it", "", (0, 1e300), evidence="O"),
    ),
)

TOKENS = Table(
    "head_tokens",
    "What each direction does to logits, and which tokens it reads. A token's two scores, of read and of promoted, multiply to logits.",
    (*KEY, "direction", "side", "rank"),
    (
        *_DIRECTION,
        Column(
            "side",
            "str",
            "promoted or suppressed (what is written, through gain and unembedding), read (tokens whose embedding has the largest part "
            "along it) or reversed (the most negative part: what they promote is what is called suppressed)",
        ),
        Column("rank", "int", "0 for the strongest", range=(0, 1000)),
        Column("token_id", "int", "Id of the token", range=(0, 1e9)),
        Column("token", "str", "Its exact piece of text; NULL where the model comes without a tokenizer", optional=True),
        Column(
            "score",
            "float",
            "promoted, suppressed: logits per unit read along the direction at attention 1, singular value in it, the final norm's scale "
            "left out; read, reversed: what the token's embedding alone, through the norm before the values if any, has along it",
            evidence="O",
        ),
    ),
)


def needs(subject: Any) -> str | None:
    """A model that runs; whether it has an unembedding and heads that it reads shows only when it is run once."""
    if subject.facts.get("architecture") is None:
        return f"{subject.label} is weights without a model that runs, so its heads cannot be found; weight_sparsity can still be run."
    return None


def memory(config: HeadWeightsConfig, facts: Mapping[str, Any]) -> int:  # noqa: ARG001 - the contract's signature
    """Weights in 32 bits, embeddings three times, and a block of scores."""
    embedding = 4 * int(facts.get("d_vocab", 0)) * int(facts.get("d_model", 0))
    return 4 * int(facts["n_parameters"]) + 3 * embedding + 10**9


def run(config: HeadWeightsConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of both tables, place by place."""
    from analysis.attention.reading_heads import HeadReading, place_name

    reading = HeadReading(inputs["model"], config)
    work.facts |= reading.facts()
    for name in work.units([place_name(place) for place in reading.places], what="heads' weights"):
        yield from reading.rows(name, work.report)


HEAD_WEIGHTS = Analysis(
    slug="head_weights",
    title="Head weights",
    question="Which tokens does each attention head read and write?",
    version=1,
    kind="static",
    sources=(
        Source("Leading directions of W_OV with what they read, as stored, and finding values by their numbers", "docs/methods.md", "O"),
        Source("A Mathematical Framework for Transformer Circuits", "Elhage et al. 2021 (the OV circuit)", "K"),
        Source("The singular value decompositions of transformer weight matrices", "Millidge & Black 2022", "K"),
    ),
    config=HeadWeightsConfig,
    tables=(OV, TOKENS),
    run=run,
    figures=(
        Figure("energy", "Share of a head's strongest direction", "heads_ov", draw_energy),
        Figure("tokens", "Tokens that a head promotes and suppresses", "head_tokens", draw_tokens),
    ),
    needs=needs,
    memory=memory,
)
