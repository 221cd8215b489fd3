"""Tables of `latent_examples`: what each column means, in which unit and range."""

from __future__ import annotations

from dataclasses import replace

from analysis.latents.quality_tables import LATENTS as QUALITY_LATENTS
from analysis.neurons import tables as neurons
from analysis.neurons.neuron_weights import KURTOSIS
from analysis.spec import Column, Table

_MANY = (0, 1e15)
LATENT = QUALITY_LATENTS["latent"]
DECODER, COACTIVE = "decoder cosine", "co-activation"
NEURON, HEAD = "neuron", "head"
PROMOTED, SUPPRESSED = "promoted", "suppressed"
_NO_LENS = "NULL where the unembedding cannot read what it writes"

LATENTS = replace(
    QUALITY_LATENTS,
    meaning="A row per latent: how often and how strongly it is active, its histogram, and how its direction spreads over the logits.",
    columns=(
        *QUALITY_LATENTS.columns,
        Column("logit_std", "float", f"Standard deviation over tokens of the logits per unit of activation; {_NO_LENS}", "logits", (0, 1e300), True, "C"),
        Column("logit_skewness", "float", f"Their skewness: above 0 it promotes few, below 0 suppresses few; {_NO_LENS}, or if constant", "", None, True, "C"),
        Column("logit_kurtosis", "float", f"Their excess kurtosis: large where few tokens stand out; {_NO_LENS}, or if constant", "", KURTOSIS, True, "C"),
        Column("logit_low", "float", f"The lowest of them; {_NO_LENS}, or if constant", "logits", None, True, "C"),
        Column("logit_high", "float", f"The highest of them; {_NO_LENS}, or if constant", "logits", None, True, "C"),
        Column("logit_counts", "list[int]", f"Tokens in each of 50 bins of equal width from the lowest to the highest; {_NO_LENS}, or if constant", "tokens", (0, 1e9), True, "O"),
    ),
)  # fmt: skip

_EXAMPLE_WORDS = {
    "kind": "top: largest peaks, duplicates of the same five tokens left out; quantile: spread evenly over a fair sample of the windows in "
    "which it is active",
    "quantile": "Share of the sampled windows in which it is active whose peak is at most this one; NULL for top",
    "window": "Row of `latent_windows`",
}
EXAMPLES = Table(
    "latent_examples",
    "Where each latent peaks: at most one example per window; the text is in `latent_windows`.",
    ("latent", "kind", "rank"),
    (
        LATENT,
        *(
            replace(column, meaning=_EXAMPLE_WORDS.get(column.name, column.meaning))
            for column in neurons.EXAMPLES.columns
            if column.name not in neurons.KEY
        ),
    ),
)
WINDOWS = replace(neurons.WINDOWS, name="latent_windows")

TOKENS = Table(
    "latent_tokens",
    "The tokens whose logits a latent's decoder direction raises and lowers most (logit lens); early layers are not meaningful.",
    ("latent", "side", "rank"),
    (
        LATENT,
        Column("side", "str", f"{PROMOTED} or {SUPPRESSED}"),
        Column("rank", "int", "0 for the strongest", range=(0, 1000)),
        Column("token_id", "int", "Id of the token", range=(0, 1e9)),
        Column("token", "str", "Its exact piece of text; NULL where the model comes without a tokenizer", optional=True),
        Column("score", "float", "Logits per unit of activation, the final norm's scale left out", "logits", evidence="C"),
    ),
)

NEIGHBOURS = Table(
    "latent_neighbours",
    "The latents of the same dictionary most like each one.",
    ("latent", "by", "rank"),
    (
        LATENT,
        Column("by", "str", f"{DECODER}: their decoder directions point the same way; {COACTIVE}: active on the same tokens (Jaccard index)"),
        Column("rank", "int", "0 for the most similar", range=(0, 1000)),
        Column("other", "int", "The other latent", range=_MANY),
        Column("value", "float", "Cosine, -1 to 1; or tokens on which both are active over tokens on which either is, 0 to 1", range=(-1, 1), evidence="O"),
    ),
)  # fmt: skip

PARTNERS = Table(
    "latent_partners",
    "The neurons and heads of the model whose values rise and fall with each latent's, on a sample of tokens.",
    ("latent", "kind", "rank"),
    (
        LATENT,
        Column("kind", "str", f"{NEURON}: its activation; {HEAD}: the norm of what it gives to the output matrix"),
        Column("rank", "int", "0 for the highest correlation", range=(0, 1000)),
        Column("layer", "int", "Layer of the neuron or head", range=(0, 1e6)),
        Column("hook_name", "str", "Its site"),
        Column("unit", "int", "Number of the neuron or head at its site", range=(0, 1e9)),
        Column("correlation", "float", "Pearson correlation over the sampled tokens, in 32 bits", range=(-1, 1), evidence="O"),
        Column("chance", "float", "What chance gives: with its values in random order, 99 % of latents as heavy-tailed as this one have no higher correlation with any neuron (or head)", range=(-1, 1), evidence="O"),
        Column("above_noise", "bool", "Whether the correlation is above `chance` and above what the highest of all pairs reaches by chance", evidence="O"),
    ),
)  # fmt: skip

TABLES = (LATENTS, EXAMPLES, WINDOWS, TOKENS, NEIGHBOURS, PARTNERS)
