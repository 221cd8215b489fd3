"""What does each neuron read and write?

1. Run the model once on a tiny batch made from the model itself: find the FFN sites, what feeds them, and the norms in between.
2. Output directions through the unembedding (logit lens): the tokens a neuron promotes and suppresses.
3. Token embeddings through the norm against input directions: the tokens that drive a neuron.
4. The neurons whose output and input directions point the same way, among all neurons of the model.

Only weights are measured; the tiny batch decides no number. Sources: METHODS D7 (logit lens); the rest is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.neurons.link_tables import HELD, OTHER, SITE, UNIT, bin_columns, bin_heatmap
from analysis.spec import Analysis, Column, Figure, Source, Table, setting
from figures.spec import Axis, FigureSpec

KURTOSIS = (-2.01, 1e300)
OUTPUT, INPUT = "output weights", "input weights"


@dataclass(frozen=True, kw_only=True)
class NeuronWeightsConfig:
    """Settings of `neuron_weights`."""

    top_tokens: int = setting(10, help="Tokens kept per neuron and side", unit="tokens", ge=1, le=100)
    top_neurons: int = setting(8, help="Similar neurons kept per neuron, for output and for input weights", unit="neurons", ge=1, le=100)


TOKENS = Table(
    "neuron_tokens",
    "The tokens whose logits a neuron's output weights raise and lower most, and those that its input weights answer to most.",
    (*(c.name for c in UNIT), "side", "rank"),
    (
        *UNIT,
        Column("side", "str", "promoted or suppressed (output weights through gain and unembedding), or driving (input weights)"),
        Column("rank", "int", "0 for the strongest", range=(0, 1000)),
        Column("token_id", "int", "Id of the token", range=(0, 1e9)),
        Column("token", "str", "Its exact piece of text; NULL where the model comes without a tokenizer", optional=True),
        Column(
            "score",
            "float",
            "promoted, suppressed: logits per unit of activation, the final norm's scale left out; driving: what the token's embedding "
            "alone, through the norm where there is one, adds to the input of the activation function (gate path of gated units)",
            evidence="C",
        ),
    ),
)

LENS = Table(
    "neuron_lens",
    "How a neuron's effect is spread over the logits of all tokens, the final norm's scale left out.",
    tuple(c.name for c in UNIT),
    (
        *UNIT,
        Column("logit_std", "float", "Standard deviation over tokens of the logits per unit of activation", "logits", (0, 1e300)),
        Column(
            "logit_skewness",
            "float",
            "Their skewness: above 0 it promotes few, below 0 suppresses few; NULL if constant",
            "",
            None,
            True,
            "C",
        ),
        Column(
            "logit_kurtosis", "float", "Their excess kurtosis: large where few tokens stand out; NULL if constant", "", KURTOSIS, True, "C"
        ),
    ),
)

SIMILAR = Table(
    "neuron_similar",
    "The neurons whose weights point most nearly the same way; opposite ones are not listed.",
    (*(c.name for c in UNIT), "by", "rank"),
    (
        *UNIT,
        Column("by", "str", f"{OUTPUT} or {INPUT} (gate path of gated units)"),
        Column("rank", "int", "0 for the most similar", range=(0, 1000)),
        *OTHER,
        Column("cosine", "float", "Cosine of the two neurons' weights, in 32 bits", range=(-1, 1), evidence="O"),
    ),
)

BINS = Table(
    "similarity_bins",
    "How many neurons of each site have which highest cosine to any other neuron.",
    (*(c.name for c in SITE), "by", "low"),
    (*SITE, Column("by", "str", f"{OUTPUT} or {INPUT}"), *bin_columns("the highest cosine")),
)

LAYERS = Table(
    "weight_layers",
    "A row per site: how redundant its neurons' weights are and how strongly they act on the logits.",
    tuple(c.name for c in SITE),
    (
        *SITE,
        Column("n_neurons", "int", "Neurons of the site", "neurons", (0, 1e15)),
        Column("n_without_output", "int", "Neurons with all-zero output weights; NULL where not readable", "neurons", (0, 1e15), True),
        Column("n_without_input", "int", "Neurons with all-zero input weights; NULL where not readable", "neurons", (0, 1e15), True),
        Column("cosine_output", "float", "Median of the highest cosine by output weights; NULL where none", "", (-1, 1), True, "O"),
        Column("cosine_input", "float", "Median of the highest cosine by input weights; NULL where none", "", (-1, 1), True, "O"),
        Column("logit_std", "float", "Median of the neurons' `logit_std`; NULL without a lens", "logits", (0, 1e300), True, "O"),
        Column("logit_kurtosis", "float", "Median of the neurons' `logit_kurtosis`; NULL without a lens", "", KURTOSIS, True, "O"),
    ),
    summary=True,
)


def needs(subject: Any) -> str | None:
    """A model that runs: which matrix feeds which neuron is found by running it once."""
    if subject.facts.get("architecture") is None:
        return f"{subject.label} is weights without a model that runs, so its neurons cannot be found; weight_sparsity can still be run."
    return None


def memory(config: NeuronWeightsConfig, facts: Mapping[str, Any]) -> int:  # noqa: ARG001 - the contract's signature
    """Weights in 32 bits, directions at length 1 for both sides, embeddings three times, and a block of scores."""
    weights = 4 * int(facts["n_parameters"])
    embedding = 4 * int(facts.get("d_vocab", 0)) * int(facts.get("d_model", 0))
    return weights + min(weights, 2 * HELD) + 3 * embedding + 10**9


def run(config: NeuronWeightsConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables, site by site."""
    from analysis.neurons.reading_weights import Reading

    reading = Reading(inputs["model"], config)
    work.facts |= reading.facts()
    for name in work.units([site.name for site in reading.sites], what="neurons' weights"):
        yield from reading.rows(name, work.report)


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def _redundancy(rows: Any, provenance: Mapping[str, Any], by: str, title: str, means: str) -> FigureSpec:
    shown = rows[rows["by"] == by]
    n = int(shown["n_neurons"].sum())
    return FigureSpec(
        kind="heatmap",
        data=bin_heatmap(shown),
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("bin", "Highest cosine to another neuron", scale="category"),
        colour=Axis("share", "Neurons", unit="share of the layer's neurons"),
        title=title,
        sentence=f"For each of {n:,} neurons of {provenance['model_label']} the highest cosine between its {by} and those of any other "
        f"neuron of the model: {means}.",
        hover=("n_neurons",),
        notes=("Opposite neurons (cosine near -1) are not looked for. Random directions in d dimensions reach about sqrt(2 ln n / d).",),
    )


def draw_output(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How redundant output weights are, per layer."""
    means = "near 1, two neurons write the same thing"
    return _redundancy(rows, provenance, OUTPUT, "How alike neurons write", means)


def draw_input(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How redundant input weights are, per layer."""
    return _redundancy(rows, provenance, INPUT, "How alike neurons read", "near 1, two neurons answer to the same thing")


def draw_logits(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Strength of the neurons' direct effect on the logits, per layer."""
    shown = rows.dropna(subset=["logit_std"]).sort_values(["layer", "hook_name"]).reset_index(drop=True)
    shown["place"] = shown["layer"].astype(str) if shown["layer"].is_unique else shown["hook_name"]
    return FigureSpec(
        kind="bars",
        data=shown,
        x=Axis("place", "Layer" if shown["layer"].is_unique else "Site", scale="category"),
        y=Axis("logit_std", "Direct effect on logits", unit="standard deviation over tokens, per unit of activation"),
        title="How strongly neurons act on the logits directly",
        sentence=f"Median over the neurons of a site of the standard deviation over all tokens of w_out through final norm's gain and "
        f"unembedding: {int(shown['n_neurons'].sum()):,} neurons of {provenance['model_label']}.",
        hover=("logit_kurtosis", "n_neurons"),
        notes=("The final norm's scale and what later layers make of it are left out; how active the neurons are is not in it.",),
    )


NEURON_WEIGHTS = Analysis(
    slug="neuron_weights",
    title="Neuron weights",
    question="What does each FFN neuron read and write: which tokens, and which neurons do the same?",
    version=1,
    kind="static",
    sources=(
        Source("Logit lens of output directions", "METHODS D7; nostalgebraist 2020; SAE dashboards", "C"),
        Source("Driving tokens, cosine neighbours, and finding norms by their numbers", "docs/methods.md", "O"),
        Source("Universal Neurons in GPT2 Language Models", "Gurnee et al., TMLR 2024, arXiv 2401.12181 (spread over the logits)", "K"),
    ),
    config=NeuronWeightsConfig,
    tables=(LAYERS, TOKENS, LENS, SIMILAR, BINS),
    run=run,
    figures=(
        Figure("alike_output", "How alike neurons write", "similarity_bins", draw_output),
        Figure("alike_input", "How alike neurons read", "similarity_bins", draw_input),
        Figure("logit_effect", "How strongly neurons act on the logits directly", "weight_layers", draw_logits),
    ),
    needs=needs,
    memory=memory,
)
