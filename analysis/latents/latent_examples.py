"""What does each latent of an SAE stand for: where it peaks, which tokens it promotes, what else in the model does the same?

1. One pass over text, up to the SAE's place: counts and histograms, the highest windows of each latent, a fair sample of its others.
2. Promoted and suppressed tokens, similar latents by decoder direction and by co-activation.
3. A pass over sampled tokens: neurons and heads that rise and fall with each latent, beside what chance gives.
4. One more pass over the windows that hold examples: the activations around each peak.

Sources: METHODS D2, D7; examples, neighbours and partners as dashboards have them, definitions ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.given_sae import SAE
from analysis.latents.example_figures import draw_activations, draw_lens, draw_logits, draw_partners, draw_tokens
from analysis.latents.example_tables import TABLES
from analysis.latents.quality_figures import draw_scatter
from analysis.spec import Analysis, Figure, Source, setting

SAMPLED = 32
"""Windows sampled per latent, of those in which it is active: what quantile examples are chosen from."""


@dataclass(frozen=True, kw_only=True)
class LatentExamplesConfig:
    """Settings of `latent_examples`."""

    n_tokens: int = setting(16384, help="Tokens to read, sampled across as many documents as possible", unit="tokens", ge=1, le=10**9)
    window: int = setting(128, help="Length of a text window, at most the SAE's training context", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows and samples", ge=0, le=2**31 - 1)
    examples: int = setting(20, help="Top examples kept per latent", ge=1, le=100)
    top_tokens: int = setting(10, help="Tokens kept per latent as promoted, and as suppressed", unit="tokens", ge=1, le=100)
    neighbours: int = setting(8, help="Similar latents kept per latent, by decoder and by co-activation", unit="latents", ge=1, le=100)
    partners: int = setting(5, help="Correlated neurons and heads kept per latent; 0 for none", ge=0, le=100)
    n_sample: int = setting(
        1024, help="Tokens on which latents are compared with neurons and heads; 0 for none", unit="tokens", ge=0, le=65536
    )
    rare: float = setting(1e-4, help="Density below which a latent is rare", unit="share of tokens", ge=1e-9, le=0.1)
    dense: float = setting(0.5, help="Density above which a latent is dense", unit="share of tokens", ge=0.1, le=1.0)
    rank_first: bool = setting(False, help="Let position 0 into examples and comparisons (in many models it is an attention sink)")


def needs(subject: Any) -> str | None:
    """A model that reads text."""
    if subject.data is None or subject.data.token_ids is None:
        return f"{subject.label} must read text to show what latents stand for, got none; give a text with --data."
    return None


def memory(config: LatentExamplesConfig, facts: Mapping[str, Any]) -> int:
    """The sample for as many neurons as the parameters could make, twice, lists and histograms of latents, and the pass."""
    neurons = int(facts["n_parameters"]) // (2 * int(facts.get("d_model", 1024)))
    return 2 * 4 * config.n_sample * neurons + 2 * 10**9


def run(config: LatentExamplesConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: units of 8,192 tokens, then weights, partners and examples."""
    from analysis.latents.example_rows import example_tables, found_examples, latent_table, neighbour_rows
    from analysis.latents.latent_lens import latent_lens, token_rows
    from analysis.latents.partners import partners
    from analysis.latents.studying import Study, seen_all
    from analysis.stats.coactivation import BUDGET

    subject = inputs["model"]
    study = Study.of(config, subject, inputs[SAE])
    seen = seen_all(study, work, top=config.examples, sampled=SAMPLED, pairs=BUDGET, rank_first=config.rank_first)
    lens = latent_lens(subject, study.predicts, study.dictionary, config.top_tokens)
    work.facts |= study.facts() | _facts(config, study, seen, lens.words)
    for _ in work.units(["all latents"], what="reading weights"):
        yield "latents", latent_table(study, seen, lens)
        yield from (("latent_tokens", rows) for rows in token_rows(lens, subject.token_pieces()))
        yield from neighbour_rows(study, seen)
    yield from partners(study, work)
    for _ in work.units(["all latents"], what="reading examples"):
        yield from example_tables(study, found_examples(study, seen), work)


def _facts(config: LatentExamplesConfig, study: Any, seen: Any, lens: str) -> dict[str, Any]:
    """What only running can tell."""
    n, n_documents = seen.latents.n_tokens, int(seen.latents.documents.result()["n_documents"])
    words = study.mask.words
    left = [words.removesuffix(" left out")] if words.endswith(" left out") else []
    left += ["position 0 of windows"] if not config.rank_first and study.mask.positions[0] in (None, 0) else []
    return {
        "n_tokens": n,
        "n_documents": n_documents,
        "n_windows": len(study.token_ids),
        "n_silent": int((seen.latents.n_active == 0).sum()),
        "n_sampled": min(config.n_sample, n),
        "n_coactive_tokens": seen.n_together,
        "left_out_of_examples": left,
        "promoted_and_suppressed": lens,
    }


LATENT_EXAMPLES = Analysis(
    slug="latent_examples",
    title="Latent examples",
    question="What does each latent of an SAE stand for: where does it peak, what does it promote, and what else does the same?",
    version=1,
    kind="dynamic",
    sources=(
        Source("Logit lens of decoder directions, feature dashboards", "METHODS D7; SAEDashboard, Neuronpedia", "C"),
        Source("Density and classes", "METHODS D2; docs/decisions/0003-undecided.md", "O"),
        Source("Fair sample of active windows, co-activation, neurons and heads beyond chance", "docs/methods.md", "O"),
    ),
    config=LatentExamplesConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure(
            "activations", "Activations of a latent", "latents", draw_activations,
            ("latent", "n_active", "density", "max", "bins", "counts"),
        ),
        Figure("tokens", "Tokens a latent promotes and suppresses", "latent_tokens", draw_tokens),
        Figure(
            "logits", "Effect of a latent on all logits", "latents", draw_logits, ("latent", "logit_low", "logit_high", "logit_counts"),
        ),
        Figure(
            "scatter", "Density and largest activation", "latents", draw_scatter,
            ("latent", "density", "max", "class", "mean", "n_active"),
        ),
        Figure(
            "lens", "Which latents stand for single tokens", "latents", draw_lens,
            ("latent", "logit_skewness", "logit_kurtosis", "class", "density"),
        ),
        Figure("partners", "Latents that follow single neurons or heads", "latent_partners", draw_partners),
    ),
    needs=needs,
    inputs=("model", SAE),
    memory=memory,
)  # fmt: skip
