"""Rows of the tables of `sae_quality`, from what was observed and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.latents.encoding import Observed, of_usual
from analysis.latents.quality_arms import DENSE, MEAN, ZERO, ZERO_EVERYWHERE, Judging
from analysis.latents.quality_tables import AFTER_FIRST, EVERY, JUDGED, MEASURES, OURS, TOKENS, USUAL
from analysis.latents.rivals import LEARNED, SAE, Fit, Rival
from analysis.stats.decoder import most_similar, row_cosines
from analysis.stats.histogram import to_lists
from analysis.stats.intervals import CLASSES, activity_class, clopper_pearson, document_bound, expected_wakes
from analysis.stats.latents import density_counts, log10_density
from analysis.stats.number import Number
from analysis.stats.reconstruction import Fidelity
from analysis.stats.recovery import SAELENS_NAMES, recovered_over_documents

if TYPE_CHECKING:
    from analysis.interventions.sweep import Baseline, Point

Rows = dict[str, Any]
SCORED, SAMPLE = "scored", "a sample of tokens: no interval over documents"
_ARMS = (("zero", ZERO), ("mean", MEAN))
_EDGES = np.arange(-10.125, 0.2, 0.25)
"""Of log10 densities; the first bin holds -10 alone, the silent ones."""


class Told:
    """Rows of `sae_quality`, as they are found."""

    def __init__(self, unit: str) -> None:
        """``unit``: of the task's loss."""
        self._rows: list[dict[str, Any]] = []
        self._unit = unit

    def say(self, measure: str, tokens: str, number: Number, n: int, variant: str = OURS) -> None:
        """One row."""
        what = MEASURES[measure]
        name = "/".join(SAELENS_NAMES[measure]) if measure in SAELENS_NAMES and tokens in (JUDGED, SCORED) and variant == OURS else None
        self._rows.append(
            {
                "measure": measure, "tokens": tokens, "variant": variant, "value": number.value, "low": number.low, "high": number.high,
                "n": n, "unit": self._unit if what.unit == "nats per token" else what.unit, "meaning": what.meaning,
                "evidence": what.evidence, "saelens_name": name, "note": number.why or None,
            }
        )  # fmt: skip

    def value(self, measure: str, tokens: str = "") -> Number:
        """What was said of a measure, ours; first of all on the tokens of the headline."""
        row = next(row for row in self._rows if row["measure"] == measure and row["variant"] == OURS and tokens in ("", row["tokens"]))
        return Number(row["value"], row["low"], row["high"], row["note"] or "")

    def rows(self) -> Rows:
        """In order of `MEASURES`, ours first."""
        order = {name: i for i, name in enumerate(MEASURES)}
        rows = sorted(self._rows, key=lambda row: (order[row["measure"]], row["variant"] != OURS))
        return {name: [row[name] for row in rows] for name in rows[0]} | {"position": list(range(len(rows)))}


def say_losses(told: Told, baseline: Baseline, known: Mapping[str, Point]) -> None:
    """Loss and KL of the arms, and what is recovered."""
    from analysis.interventions.measuring import KL, LOSS
    from analysis.tasks import mean_loss

    n = int(known[DENSE].measured[LOSS].n.sum())
    increases = {name: baseline.increase(point.measured) for name, point in known.items() if name != DENSE}
    told.say("loss_increase", SCORED, increase_of(baseline, increases[SAE]), n)
    arms = (("loss_clean", DENSE), ("loss_spliced", SAE), *((f"loss_{word}_ablated", arm) for word, arm in _ARMS))
    for measure, arm in arms:
        told.say(measure, SCORED, _of(mean_loss(known[arm].measured[LOSS])), n)
    for word, arm in _ARMS:
        score = recovered_over_documents(increases[SAE], increases[arm], baseline.resample)
        told.say(f"loss_recovered_{word}", SCORED, score, n)
    if ZERO_EVERYWHERE in known:
        score = recovered_over_documents(increases[SAE], increases[ZERO_EVERYWHERE], baseline.resample)
        told.say("loss_recovered_zero", SCORED, score, n, f"sae-lens {metadata.version('sae-lens')}: ablates left-out tokens too")
    if KL in known[SAE].measured:
        _say_kl(told, known)


def _say_kl(told: Told, known: Mapping[str, Point]) -> None:
    from analysis.interventions.measuring import KL
    from analysis.stats.paired import Resample
    from analysis.tasks import mean_loss

    of = {arm: known[arm].measured[KL] for arm in (SAE, ZERO, MEAN)}
    n = int(of[SAE].n.sum())
    for measure, arm in (("kl_spliced", SAE), *((f"kl_{word}_ablated", arm) for word, arm in _ARMS)):
        told.say(measure, SCORED, _of(mean_loss(of[arm])), n)
    by_document = {arm: losses.by_document() for arm, losses in of.items()}
    seen = by_document[SAE].n > 0
    if not seen.any():
        return
    sums = {arm: np.where(found.n_endless > 0, np.inf, found.total)[seen] for arm, found in by_document.items()}
    resample = Resample.of(by_document[SAE].n[seen])
    for word, arm in _ARMS:
        told.say(f"kl_recovered_{word}", SCORED, recovered_over_documents(sums[SAE], sums[arm], resample), n)


def increase_of(baseline: Baseline, sums: np.ndarray) -> Number:
    """Mean increase of the loss with its interval over documents."""
    if not np.isfinite(sums).all():
        return Number.missing("the loss of a position is infinite or no number")
    found = baseline.estimate(sums)
    alone = baseline.resample.n_documents == 1
    return Number(found.value, None if alone else found.low, None if alone else found.high, baseline.resample.note)


def _of(found: Any) -> Number:
    """A mean over documents as a number."""
    if found is None:
        return Number.missing("the loss of a position is infinite or no number")
    return Number(found.value, found.low, found.high, found.note)


def say_reconstruction(told: Told, observed: Observed, mask_starts: bool) -> None:
    """Fidelity on each set of tokens; other programs' formulas on the judged ones. ``mask_starts``: whether position 0 is judged."""
    n = observed.fidelity[JUDGED].n
    for tokens in TOKENS:
        one = observed.fidelity[tokens]
        if tokens in (JUDGED, USUAL) or (tokens == EVERY and one.n > n) or (tokens == AFTER_FIRST and mask_starts):
            for measure, number in one.result().items():
                told.say(measure, tokens, number, one.n)
    judged = observed.fidelity[JUDGED]
    older = "SAELens 2025-10 and SAEBench 2026-05: evaluation script"
    told.say("explained_variance", JUDGED, judged.older_explained_variance(), judged.n, older)
    batchwise = observed.batchwise.result()
    told.say("mse", JUDGED, batchwise["mse_divided_twice"], judged.n, older)
    legacy = f"sae-lens {metadata.version('sae-lens')}, batches of 8 windows"
    told.say("explained_variance_legacy", JUDGED, batchwise["explained_variance_legacy"], judged.n, legacy)


def say_sparsity(told: Told, observed: Observed, classes: np.ndarray, duplicates: np.ndarray) -> None:
    """L0, L1, classes and densities."""
    latents = observed.latents
    n, f = latents.n_tokens, latents.n_latents
    told.say("l0", JUDGED, latents.l0(), n)
    told.say("l0_median", JUDGED, Number(float(latents.l0_quantile(0.5))), n)
    told.say("l0_q95", JUDGED, Number(float(latents.l0_quantile(0.95))), n)
    told.say("l1", JUDGED, latents.l1(), n)
    for one in CLASSES:
        told.say(one, JUDGED, Number(float((classes == one).mean())), f)
    told.say("silent", JUDGED, Number(float((latents.n_active == 0).mean())), f)
    fired = latents.documents.result()
    wakes = expected_wakes(fired["documents_active"], int(fired["n_documents"]))
    told.say("expected_wakes", JUDGED, Number(wakes.expected), f)
    for measure, value in density_counts(latents.density).items():
        told.say(measure, JUDGED, Number(value), f)
    told.say("near_duplicates", JUDGED, Number(float(duplicates.mean())), f)


def latent_rows(judging: Judging, observed: Observed) -> Rows:
    """Rows of `latents`."""
    latents, dictionary, config = observed.latents, judging.dictionary, judging.config
    found, n = latents.result(), latents.n_tokens
    documents = int(latents.documents.result()["n_documents"])
    low, high = clopper_pearson(found["n_active"], n)
    document_high = clopper_pearson(found["documents_active"], documents)[1]
    silent = found["n_active"] == 0
    similar, decoder, encoder = most_similar(dictionary.W_dec), dictionary.W_dec, dictionary.W_enc.T
    both = row_cosines(encoder, decoder) if encoder.shape == decoder.shape else (np.zeros(len(silent)), np.zeros(len(silent), bool))
    bins, counts = to_lists(latents.histogram)
    return {
        "latent": np.arange(len(silent)),
        "class": activity_class(found["n_active"], n, config.rare, config.dense).tolist(),
        "n_tokens": np.full(len(silent), n),
        "n_documents": np.full(len(silent), documents),
        **{name: found[name] for name in ("n_active", "windows_active", "documents_active", "density")},
        "density_low": low,
        "density_high": high,
        "document_high": np.where(found["documents_active"] == 0, document_bound(documents), document_high),
        "mean": _where(~silent, found["mean_active"]),
        "max": _where(~silent, found["max"]),
        "activations_per_window": _where(~silent, found["activations_per_window"]),
        "encoder_norm": encoder.double().norm(dim=1).cpu().numpy(),
        "encoder_bias": dictionary.b_enc.double().cpu().numpy(),
        "decoder_norm": decoder.double().norm(dim=1).cpu().numpy(),
        "encoder_decoder_cosine": _where(both[1], both[0]),
        "max_decoder_cosine": _where(similar.has, similar.cosine),
        "most_similar": _where(similar.has, similar.other),
        "near_duplicate": similar.duplicates(),
        "bins": bins,
        "counts": counts,
    }


def _where(has: np.ndarray, values: np.ndarray) -> list[Any]:
    return [value if ok else None for ok, value in zip(has, values.tolist(), strict=True)]


def density_rows(observed: Observed) -> Rows:
    """Rows of `latent_bins`."""
    counts, _ = np.histogram(log10_density(observed.latents.density), _EDGES)
    return {"low": _EDGES[:-1], "high": _EDGES[1:], "n_latents": counts}


# ---------------------------------------------------------------------------------------------------------------------


def baseline_rows(
    judging: Judging, observed: Observed, fit: Fit, rivals: Mapping[str, Rival], baseline: Baseline, known: Mapping[str, Point]
) -> Rows:
    """Rows of `sae_baselines`."""
    from analysis.interventions.measuring import LOSS

    found: list[tuple[Any, ...]] = []
    n_scored = int(known[DENSE].measured[LOSS].n.sum())
    zero = baseline.increase(known[ZERO].measured)
    own = {SAE: (JUDGED, USUAL, observed.latents.l0(), judging.dictionary.d_sae)}
    own |= {name: (name, of_usual(name), Number(float(one.n_active)), len(one.rows)) for name, one in rivals.items()}
    for method, (judged, usual, l0, n_directions) in own.items():
        found += _fidelity_rows(method, JUDGED, observed.fidelity[judged], l0, n_directions)
        if observed.fidelity[USUAL].n < observed.fidelity[JUDGED].n:
            found += _fidelity_rows(method, USUAL, observed.fidelity[usual], l0, n_directions)
        increase = baseline.increase(known[method].measured)
        found.append((method, JUDGED, "loss_increase", increase_of(baseline, increase), n_scored, judging.task.unit))
        score = recovered_over_documents(increase, zero, baseline.resample)
        found.append((method, JUDGED, "loss_recovered_zero", score, n_scored, MEASURES["loss_recovered_zero"].unit))
    found += list(_learned_rows(judging, observed, fit))
    columns = ("method", "tokens", "measure", "value", "low", "high", "n", "unit", "note")
    rows = [(*one[:3], one[3].value, one[3].low, one[3].high, *one[4:], one[3].why or None) for one in found]
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def _fidelity_rows(method: str, tokens: str, fidelity: Fidelity, l0: Number, n_directions: int) -> Iterator[tuple[Any, ...]]:
    result = fidelity.result()
    for measure in ("explained_variance", "fvu", "cosine"):
        yield method, tokens, measure, result[measure], fidelity.n, MEASURES[measure].unit
    yield method, tokens, "l0", l0, fidelity.n, "numbers per token"
    yield method, tokens, "n_directions", Number(float(n_directions)), fidelity.n, "directions"


def _learned_rows(judging: Judging, observed: Observed, fit: Fit) -> Iterator[tuple[Any, ...]]:
    """scikit-learn's dictionary learning on a sample, and the dictionary on the same tokens."""
    import torch

    from analysis.latents.sparse_coding import sparse_coding

    config = judging.config
    pair, rows = np.concatenate(observed.sample), np.concatenate(fit.sample)
    if not judging.compares or not config.dictionary_size or not len(pair) or not len(rows):
        return
    width = judging.predicts.width
    shown, hat = pair[:, :width], pair[:, width:]
    n_atoms = min(config.dictionary_size, judging.dictionary.d_sae, len(rows))
    n_active = min(fit.rank, n_atoms)
    made = sparse_coding(
        rows, shown, n_atoms=n_atoms, n_active=n_active, steps=config.dictionary_steps, seed=config.seed, seconds=config.dictionary_seconds
    )
    l0 = Number(float(n_active))
    both: list[tuple[str, Any, Number, int]] = [(SAE, hat, observed.latents.l0(), judging.dictionary.d_sae)]
    if isinstance(made, str):
        for measure in ("explained_variance", "fvu", "cosine"):
            yield LEARNED, "sample", measure, Number.missing(made), len(shown), MEASURES[measure].unit
    else:
        both.append((LEARNED, made, l0, n_atoms))
    for method, values, active, n_directions in both:
        fidelity = Fidelity.empty(1, width)
        fidelity.update(torch.from_numpy(shown), torch.from_numpy(np.ascontiguousarray(values)), np.zeros(len(shown), np.int64))
        for row in _fidelity_rows(method, "sample", fidelity, active, n_directions):
            yield (*row[:3], Number(row[3].value, why=SAMPLE if row[3].value is not None else row[3].why), *row[4:])
