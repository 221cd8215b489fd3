"""What is a sparse autoencoder worth: what does the model lose with its reconstruction, and which of its latents are dead or doubled?

1. Leave out the documents that trained it; fit means and rivals on one half of the rest, report on the other.
2. One pass over activations: explained variance, L0, densities, histograms, all as sums that merge.
3. The model with the reconstruction in place, with zeros, with the mean, and with rivals of equal L0: the same tokens replaced in every
   arm, the same positions scored. The increase of the loss in nats comes first, since the share recovered saturates.

Source: METHODS D1 to D5, D7, D8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.given_sae import SAE as SAE_INPUT
from analysis.latents.quality_figures import draw_baselines, draw_densities, draw_scatter, draw_similarity, headlines
from analysis.latents.quality_tables import EVERY, JUDGED, TABLES, USUAL
from analysis.sensitivity.choices import AUTO
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.interventions.sweep import Baseline, Point
    from analysis.latents.encoding import Observed
    from analysis.latents.quality_arms import Judging
    from analysis.latents.quality_rows import Told
    from analysis.latents.splicing import Splice

SPLITS = ("report", "all")
TASKS = (AUTO, "causal-lm", "masked-lm", "seq2seq", "classification", "divergence")
_BYTES = 2**31
"""Beside the weights: logits of a batch, dense outputs, latents of a pass, histograms."""


@dataclass(frozen=True, kw_only=True)
class SaeQualityConfig:
    """Settings of `sae_quality`."""

    n_tokens: int = setting(
        16384, help="Tokens to read, a half of which is reported on, the other fits means and rivals", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window, at most the SAE's training context", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits, random directions, dictionary learning", ge=0, le=2**31 - 1)
    task: str = setting(AUTO, help="What the model is asked to do; auto chooses from the model and the data", choices=TASKS)
    split: str = setting(
        "report", help="Documents to measure; all only where they are too few: rivals are then fitted on them too", choices=SPLITS
    )
    rare: float = setting(1e-4, help="Density below which a latent is rare", unit="share of tokens", ge=1e-9, le=0.1)
    dense: float = setting(0.5, help="Density above which a latent is dense", unit="share of tokens", ge=0.1, le=1.0)
    kl_positions: int = setting(
        1024, help="Positions on which KL to the model as it is is measured; 0 for none", unit="positions", ge=0, le=10**6
    )
    baselines: bool = setting(True, help="Compare with principal components and random directions at equal L0")
    dictionary_size: int = setting(512, help="Atoms of scikit-learn's dictionary learning; 0 for none", unit="atoms", ge=0, le=2048)
    dictionary_steps: int = setting(20, help="Batches of 256 tokens it learns from", unit="batches", ge=1, le=10_000)
    dictionary_tokens: int = setting(4096, help="Tokens it learns from; half as many are reconstructed", unit="tokens", ge=2, le=50_000)
    dictionary_seconds: int = setting(120, help="After so long it is given up, and said to be", unit="seconds", ge=1, le=86_400)
    batch_tokens: int = setting(
        1024,
        help="Tokens per forward pass while the loss is measured: speed and memory, no number",
        unit="tokens",
        ge=1,
        le=2**22,
        result=False,
    )


def needs(subject: Any) -> str | None:
    """A model that reads text."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and sae_quality reads some with the SAE in place; give a text with --data."
    if subject.data.token_ids is None:
        return f"{subject.label} must read text to be judged with an SAE in place, got {subject.data.name}; give a text with --data."
    return None


def run(config: SaeQualityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: points with their arms, the rest at the end."""
    import numpy as np

    from analysis.latents.quality_arms import Judging
    from analysis.latents.quality_rows import Told, baseline_rows, density_rows, latent_rows, say_losses, say_reconstruction, say_sparsity

    judging = Judging.of(config, inputs["model"], inputs[SAE_INPUT])
    fit = judging.fit(work)
    rivals = judging.rivals(fit)
    observed = judging.observe(rivals, fit.usual, work)
    spares = observed.fidelity[EVERY].n > observed.fidelity[JUDGED].n
    arms = judging.arms(fit, rivals, observed.latents.l0().value, spares)
    known: dict[str, Point] = {}
    yield from judging.measure(arms, known, work, lambda name, arm, point: _point_rows(judging, known, arm, point))
    baseline = judging.baseline(known)
    told = Told(judging.task.unit)
    latents = latent_rows(judging, observed)
    say_losses(told, baseline, known)
    say_reconstruction(told, observed, judging.mask.positions[0] in (None, 0))
    say_sparsity(told, observed, np.array(latents["class"]), np.asarray(latents["near_duplicate"]))
    work.facts |= _facts(judging, observed, told, baseline)
    yield "sae_quality", told.rows()
    yield "latents", latents
    yield "latent_bins", density_rows(observed)
    yield "sae_baselines", baseline_rows(judging, observed, fit, rivals, baseline, known)


def _point_rows(judging: Judging, known: Mapping[str, Point], arm: Splice, point: Point) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The arm as a point of the sensitivity page."""
    from analysis.sensitivity.curve_rows import loss_rows, point_rows
    from analysis.sensitivity.tables import FIRST

    place, mask = arm.place.hook_name, arm.mask.words
    key = {"method": arm.what, "structure": place, "scope": mask, "seed": judging.config.seed, "data": FIRST}
    baseline, units = judging.baseline(known), {"loss": judging.task.unit, "accuracy": "share of positions", "kl": "nats per position (KL)"}
    yield "curve_points", point_rows(key, arm.kind, point, baseline, judging.task, judging.cost, units)
    yield "point_losses", loss_rows(key, point, baseline)


def _facts(judging: Judging, observed: Observed, told: Told, baseline: Baseline) -> dict[str, Any]:
    """For the provenance: what was judged, on what, and the headline in words."""
    from analysis.stats.intervals import document_bound

    dictionary, latents = judging.dictionary, observed.latents
    n, documents = latents.n_tokens, int(latents.documents.result()["n_documents"])
    increase, explained, l0, dead, silent = (told.value(name) for name in ("loss_increase", "explained_variance", "l0", "dead", "silent"))
    ends = "" if increase.low is None else f" (95 % interval {increase.low:.3g} to {increase.high:.3g})"
    return judging.task.facts | {
        "sae": f"{dictionary.label} ({dictionary.architecture})",
        "hook_name": judging.reads.hook_name,
        "predicts": judging.predicts.hook_name,
        "layer": judging.reads.layer,
        "n_latents": dictionary.d_sae,
        "width": dictionary.d_in,
        "n_tokens": n,
        "n_documents": documents,
        "n_scored": int(baseline.resample.counts.sum()),
        "mask": f"{judging.mask.words}, in every arm alike",
        "preflight": list(judging.words),
        "documents_left_out": judging.held.n_left_out,
        "fitted_on": f"{judging.fitting.n_windows:,} windows of other documents"
        if judging.config.split == "report"
        else "the same documents",
        "intervals": baseline.resample.note or "over documents, bootstrap",
        "headline": [
            "no increase of the loss could be had" if increase.value is None else f"loss {increase.value:+.3g} {judging.task.unit}{ends}",
            _explained_words(explained.value, told.value("explained_variance", USUAL).value, n - observed.fidelity[USUAL].n),
            f"{l0.value:.1f} latents active per token" if l0.value is not None else "no latent was read",
            f"{dead.value or 0:.1%} of {dictionary.d_sae:,} latents dead",
        ],
        "silent_words": f"{silent.value or 0:.1%} of the latents were active on none of {n:,} tokens; such a latent is active, with 95 % "
        f"confidence, in fewer than {document_bound(documents):.2%} of such documents.",
    }


def _explained_words(judged: float | None, usual: float | None, n_outsized: int) -> str:
    """With and without the tokens of outsized norm, where there are any."""
    if judged is None:
        return "no explained variance"
    without = "" if usual is None or not n_outsized else f" ({usual:.3f} without {n_outsized:,} tokens of outsized norm)"
    return f"explained variance {judged:.3f}{without}"


SAE_QUALITY = Analysis(
    slug="sae_quality",
    title="SAE quality",
    question="What does the model lose with an SAE's reconstruction in place, and which latents are dead or doubled?",
    version=1,
    kind="causal",
    sources=(
        Source("SAELens: evaluation", "github.com/jbloomAus/SAELens, evals.py, version 6.54 and before", "C"),
        Source("Improving Dictionary Learning with Gated SAEs", "Rajamanoharan et al. 2024, arXiv 2404.16014, eq. 10: shrinkage", "C"),
        Source("dictionary_learning: evaluation", "github.com/saprmarks/dictionary_learning", "C"),
        Source("One mask for all arms, mean ablation, rivals at equal L0, classes of latents", "METHODS D4, D8", "O"),
    ),
    config=SaeQualityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("densities", "How often latents are active", "latent_bins", draw_densities),
        Figure(
            "scatter", "Density and largest activation", "latents", draw_scatter, ("latent", "density", "max", "class", "mean", "n_active")
        ),
        Figure("similarity", "Similar decoder directions", "latents", draw_similarity, ("latent", "max_decoder_cosine")),
        Figure("baselines", "Beside others of equal L0", "sae_baselines", draw_baselines),
    ),
    needs=needs,
    inputs=("model", SAE_INPUT),
    memory=lambda settings, facts: _BYTES,
    headlines=headlines,
)
