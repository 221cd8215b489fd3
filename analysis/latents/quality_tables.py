"""Tables of `sae_quality`, and what each measure is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.sensitivity import tables as curves
from analysis.spec import Column, Evidence, Table
from analysis.stats.intervals import CLASSES

_N = (0, 1e18)
_ANY = (-1e308, 1e308)
_SHARE = (0.0, 1.0)
OURS = "ours"
JUDGED, USUAL, EVERY, AFTER_FIRST = "judged", "usual size", "every", "after first"
TOKENS: Mapping[str, str] = {
    JUDGED: "the mask of every headline: no special tokens, and only positions that training used",
    USUAL: "judged ones with a norm of at most 10 times the median one: a few tokens of many models are far larger and rule all squares",
    EVERY: "special tokens and left-out positions too",
    AFTER_FIRST: "judged ones but for position 0 of each window",
}
_NATS, _TOKENWISE, _LATENTS = "nats per token", "mean per token", "share of latents"


@dataclass(frozen=True)
class Measure:
    """What a row of `sae_quality` may say."""

    meaning: str
    unit: str = ""
    evidence: Evidence = "C"


MEASURES: Mapping[str, Measure] = {
    "loss_increase": Measure("Loss with the reconstruction spliced in, minus the loss without", _NATS),
    "loss_clean": Measure("Loss of the model as it is", _NATS),
    "loss_spliced": Measure("Loss with the reconstruction spliced in", _NATS),
    "loss_zero_ablated": Measure("Loss with zeros there", _NATS),
    "loss_mean_ablated": Measure("Loss with the mean there", _NATS, "O"),
    "loss_recovered_zero": Measure("Loss recovered against zero ablation", "share"),
    "loss_recovered_mean": Measure("Loss recovered against mean ablation, which is stricter", "share", "O"),
    "kl_spliced": Measure("KL divergence from the model as it is, reconstruction spliced in", _NATS),
    "kl_zero_ablated": Measure("The same with zeros there", _NATS),
    "kl_mean_ablated": Measure("The same with the mean there", _NATS, "O"),
    "kl_recovered_zero": Measure("KL recovered against zero ablation", "share"),
    "kl_recovered_mean": Measure("KL recovered against mean ablation", "share", "O"),
    "explained_variance": Measure("1 - FVU, about the per-dimension mean of all these tokens"),
    "fvu": Measure("Squared error over variance about the per-dimension mean of all these tokens"),
    "explained_variance_centred": Measure("1 - variance of the error over variance: forgives a constant error"),
    "mse": Measure("Squared error, summed over dimensions", _TOKENWISE),
    "mse_per_element": Measure("Squared error per dimension", _TOKENWISE),
    "cosine": Measure("Cosine of activation and reconstruction", _TOKENWISE),
    "l2_norm_in": Measure("Norm of the activation", _TOKENWISE),
    "l2_norm_out": Measure("Norm of the reconstruction", _TOKENWISE),
    "l2_ratio": Measure("Norm of the reconstruction over that of the activation: below 1 where it shrinks", _TOKENWISE),
    "relative_reconstruction_bias": Measure("E|x_hat|^2 / E<x, x_hat>: below 1 where it shrinks"),
    "l0": Measure("Latents active", "latents per token"),
    "l0_median": Measure("Median of the latents active on a token", "latents per token"),
    "l0_q95": Measure("95 % quantile of the latents active on a token", "latents per token"),
    "l1": Measure("Sum of the latents' magnitudes", _TOKENWISE),
    **{one: Measure(f"Latents whose class is {one}", _LATENTS, "O") for one in CLASSES},
    "silent": Measure("Latents active on none of these tokens, whether or not they are enough to call them dead", _LATENTS),
    "expected_wakes": Measure("Silent latents expected to fire on as many documents again (smoothed Good-Toulmin)", "latents", "O"),
    "frac_alive": Measure("Latents active on some of these tokens: depends on how many they are", _LATENTS),
    "below_1e-5": Measure("Latents with a density below 1e-5", _LATENTS),
    "below_1e-6": Measure("Latents with a density below 1e-6", _LATENTS),
    "freq_over_1_percent": Measure("Latents active on more than 1 % of tokens", _LATENTS),
    "freq_over_10_percent": Measure("Latents active on more than 10 % of tokens", _LATENTS),
    "mass_over_1_percent": Measure("Activations that come from latents active on more than 1 % of tokens", "share of activations"),
    "mass_over_10_percent": Measure("Activations that come from latents active on more than 10 % of tokens", "share of activations"),
    "near_duplicates": Measure("Latents whose decoder direction has another one at a cosine of at least 0.9", _LATENTS, "O"),
    "explained_variance_legacy": Measure("Mean over tokens of 1 - |error|^2 / |x - mean of the batch|^2, batches of 8 windows"),
}

QUALITY = Table(
    "sae_quality",
    "Every measure of the dictionary: ours, and beside them what other programs' formulas give for the same tokens.",
    ("measure", "tokens", "variant"),
    (
        Column("measure", "str", "Its name; what it means stands in the column meaning"),
        Column("tokens", "str", "Which tokens: " + "; ".join(f"{name} ({words})" for name, words in TOKENS.items()) + "; or scored ones, of a loss"),
        Column("variant", "str", "ours, or the program whose formula it is; for comparison only"),
        Column("value", "float", "The measure; NULL where it could not be had, and note says why", range=_ANY, optional=True),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL where there is none", range=_ANY, optional=True),
        Column("high", "float", "Upper end of it; NULL where there is none", range=_ANY, optional=True),
        Column("n", "int", "What it is taken over: tokens, scored positions, or latents", range=_N),
        Column("unit", "str", "Its unit; empty for a plain ratio"),
        Column("meaning", "str", "What it is, in words"),
        Column("evidence", "str", "Where the definition comes from: C official code, 3 paper or third party, K unverified, O ours"),
        Column("saelens_name", "str", "Group and key that SAELens' evaluation gives it; NULL where it has none", optional=True),
        Column("note", "str", "Why there is no value or no interval, or what limits it; NULL where nothing does", optional=True),
        Column("position", "int", "Order in which they are read, the most telling first", range=_N),
    ),
    summary=True,
    order=("position",),
)  # fmt: skip

LATENTS = Table(
    "latents",
    "A row per latent.",
    ("latent",),
    (
        Column("latent", "int", "Latent, from 0", range=_N),
        Column("class", "str", "dead, rare, undecided, normal or dense (docs/decisions/0003-undecided.md)"),
        Column("n_tokens", "int", "Tokens it was seen on (judged ones)", unit="tokens", range=_N),
        Column("n_documents", "int", "Documents it was seen on", unit="documents", range=_N),
        Column("n_active", "int", "Tokens it was active on: not exactly zero", unit="tokens", range=_N),
        Column("windows_active", "int", "Windows it was active in", unit="windows", range=_N),
        Column("documents_active", "int", "Documents it was active in", unit="documents", range=_N),
        Column("density", "float", "n_active / n_tokens", unit="share of tokens", range=_SHARE, evidence="C"),
        Column("density_low", "float", "Lower end of its 95 % Clopper-Pearson interval as if tokens were independent: an estimate", unit="share of tokens", range=_SHARE),
        Column("density_high", "float", "Upper end of that interval", unit="share of tokens", range=_SHARE),
        Column("document_high", "float", "With 95 % confidence it is active in at most this share of such documents; of a silent one 1 - 0.05^(1/D)", unit="share of documents", range=_SHARE),
        Column("mean", "float", "Mean of its magnitude over tokens it was active on; NULL for a silent one", unit="activation", range=(0, 1e308), optional=True),
        Column("max", "float", "Largest magnitude; NULL for a silent one", unit="activation", range=(0, 1e308), optional=True),
        Column("activations_per_window", "float", "Tokens it was active on per window with any (SAELens' consistent activation heuristic); NULL for a silent one", range=(0, 1e18), optional=True, evidence="C"),
        Column("encoder_norm", "float", "Norm of its encoder direction", range=(0, 1e308)),
        Column("encoder_bias", "float", "Its encoder bias", range=_ANY),
        Column("decoder_norm", "float", "Norm of its decoder direction", range=(0, 1e308)),
        Column("encoder_decoder_cosine", "float", "Cosine of both; NULL where either is zero, or of a transcoder", range=(-1, 1), optional=True, evidence="C"),
        Column("max_decoder_cosine", "float", "Cosine with the most similar other decoder direction; NULL where it has no direction", range=(-1, 1), optional=True, evidence="C"),
        Column("most_similar", "int", "That other latent; NULL where it has no direction", range=_N, optional=True),
        Column("near_duplicate", "bool", "Whether that cosine is at least 0.9", evidence="O"),
        Column("bins", "list[int]", "Histogram of its activations: bins that are not empty (docs/decisions/0001-histogram-bins.md)", range=(0, 514)),
        Column("counts", "list[int]", "Tokens in each of them", unit="tokens", range=_N),
    ),
)  # fmt: skip

DENSITIES = Table(
    "latent_bins",
    "Latents by density, in the bins that dashboards draw: log10(density + 1e-10), four to a decade.",
    ("low",),
    (
        Column("low", "float", "log10 of the density at the left edge; -10 holds the silent ones", range=(-10.5, 0.5)),
        Column("high", "float", "log10 of the density at the right edge", range=(-10.5, 0.5)),
        Column("n_latents", "int", "Latents in the bin", unit="latents", range=_N),
    ),
    summary=True,
)

BASELINES = Table(
    "sae_baselines",
    "The dictionary beside others that reconstruct the same tokens with as many numbers per token.",
    ("method", "tokens", "measure"),
    (
        Column("method", "str", "sae, pca (largest components), random directions (best few by least squares), dictionary learning (scikit-learn, matching pursuit)"),
        Column("tokens", "str", "judged: all judged tokens; usual size: but for a few of outsized norm; sample: some of them, spread evenly, where all would take too long"),
        Column("measure", "str", "As in sae_quality; n_directions: how many there are to choose from"),
        Column("value", "float", "The measure; NULL where it could not be had, and note says why", range=_ANY, optional=True),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL where there is none", range=_ANY, optional=True),
        Column("high", "float", "Upper end of it; NULL where there is none", range=_ANY, optional=True),
        Column("n", "int", "Tokens or scored positions it is taken over", range=_N),
        Column("unit", "str", "Its unit; empty for a plain ratio"),
        Column("note", "str", "Why there is no value or no interval; NULL where nothing does", optional=True),
    ),
    summary=True,
)  # fmt: skip

_WORDS = {
    "method": "What stands in place of the activations: a reconstruction, or an ablation",
    "structure": "At which place",
    "scope": "Which tokens are replaced",
    "level": "0: the model as it is; 1: every judged token replaced there. A point, without a continuum",
    "achieved": "As level",
    "already_zero": "0: nothing of it is so in the model as it is",
    "native_value": "L0: numbers that stand for a token; NULL for level 0 and for ablations",
    "kind": "point: without a continuum, exempt from drop points",
    "cost_params": "Parameters of the whole model that are not zero; the dictionary's own are not counted, nor its work",
}


def _as_points(table: Table) -> Table:
    """A table of curves with the words that belong to what is put in place of activations."""
    columns = tuple(replace(c, meaning=_WORDS[c.name], unit="") if c.name in _WORDS else c for c in table.columns)
    return replace(table, columns=columns)


POINTS = _as_points(curves.POINTS)
POINT_LOSSES = _as_points(curves.LOSSES)
TABLES = (QUALITY, LATENTS, DENSITIES, BASELINES, POINTS, POINT_LOSSES)
