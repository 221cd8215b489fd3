"""From attributed examples and decoder weights to rows of `latent_attribution`'s tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.latents.attribution_tables import TOP
from analysis.stats.attribution import head_norms, head_shares

if TYPE_CHECKING:
    from analysis.latents.attributing import Attributed
    from analysis.latents.dictionary import Dictionary
    from analysis.latents.studying import Study

Rows = dict[str, Any]
Floats = NDArray[np.float64]


def constants(dictionary: Dictionary) -> Floats:
    """[F]: what the biases add to the pre-activation of each latent."""
    found = dictionary.b_enc.double()
    if getattr(dictionary.sae.cfg, "apply_b_dec_to_input", False):
        found = found - dictionary.b_dec.double() @ dictionary.W_enc.double()
    return found.cpu().numpy()


def attribution_rows(found: Attributed, constant: Floats, n_sources: int) -> tuple[Rows, Rows]:
    """Rows of `latent_attributions` and `latent_sources`."""
    asked, by_head, by_source = found.asked, found.joint.sum(2), found.joint.sum(1)
    order = np.argsort(-np.abs(by_source), axis=1, kind="stable")[:, :n_sources]
    kept = np.take_along_axis(by_source, order, 1)
    size = np.abs(by_source).sum(1)
    share = np.abs(kept).sum(1) / np.where(size > 0, size, 1.0)
    n, heads = by_head.shape
    examples = {
        **{name: getattr(asked, name) for name in ("latent", "rank", "value", "window", "position")},
        "direct": found.direct,
        "total": by_head.sum(1),
        "constant": constant[asked.latent],
        "by_head": pa.ListArray.from_arrays(np.arange(0, (n + 1) * heads, heads, dtype=np.int32), by_head.ravel()),
        "top_head": by_head.argmax(1),
        "sources_kept": pa.array(np.minimum(share, 1.0), mask=size == 0),
    }
    return examples, _source_rows(found, order, kept)


def _source_rows(found: Attributed, order: NDArray[np.int64], kept: Floats) -> Rows:
    """Sources that add nothing (keys that are not seen) are left out."""
    entry, rank = np.nonzero(kept)
    source = order[entry, rank]
    joint = found.joint[entry, :, source]
    head = np.abs(joint).argmax(1)
    return {
        "latent": found.asked.latent[entry],
        "rank": found.asked.rank[entry],
        "source_rank": rank,
        "source": source,
        "back": found.asked.position[entry] - source,
        "contribution": kept[entry, rank],
        "head": head,
        "head_contribution": joint[np.arange(len(head)), head],
    }


def latent_head_rows(study: Study, active: NDArray[np.bool_]) -> Rows:
    """Rows of `latent_heads`."""
    norms = head_norms(study.dictionary.W_dec, int(study.place.n_heads or 1))
    n, heads = norms.shape
    return {
        "latent": np.repeat(np.arange(n), heads),
        "head": np.tile(np.arange(heads), n),
        "decoder_norm": norms.cpu().numpy().ravel(),
        "share": head_shares(norms).clamp(max=1.0).cpu().numpy().ravel(),
        "active": np.repeat(active, heads),
    }


def head_rows(study: Study, active: NDArray[np.bool_], head_share: float, attributed: Floats | None) -> Rows:
    """Rows of `head_latents`; ``attributed`` [H]: what each head adds at examples, as a share."""
    heads = int(study.place.n_heads or 1)
    which = np.flatnonzero(active)
    shares = head_shares(head_norms(study.dictionary.W_dec, heads)).clamp(max=1.0).cpu().numpy()[which]
    best = shares.argmax(1)
    own = shares.max(1, initial=0.0)
    tops = [np.argsort(-shares[:, h], kind="stable")[:TOP] for h in range(heads)]
    return {
        "layer": np.full(heads, study.place.layer),
        "hook_name": [study.place.hook_name] * heads,
        "head": np.arange(heads),
        "n_latents": np.full(heads, len(which)),
        "n_top": np.bincount(best, minlength=heads),
        "n_above": np.bincount(best[own >= head_share], minlength=heads),
        "mean_share": shares.mean(0).tolist() if len(which) else [None] * heads,
        "attributed_share": [None] * heads if attributed is None else attributed.tolist(),
        "top_latents": [which[top].tolist() for top in tops],
        "top_shares": [shares[top, h].tolist() for h, top in enumerate(tops)],
        "top_similarity": [_similarity(study, which[top], h) for h, top in enumerate(tops)],
    }


def _similarity(study: Study, latents: NDArray[np.int64], head: int) -> float | None:
    """Mean cosine between different latents' decoder parts in a head; None for fewer than two that have any."""
    from analysis.stats.nearest import unit_rows

    part = study.dictionary.W_dec.unflatten(1, (int(study.place.n_heads or 1), -1))[latents.tolist(), head]
    unit, has = unit_rows(part)
    n = int(has.sum())
    if n < 2:
        return None
    total = float(unit.double().sum(0).square().sum())
    return min(1.0, max(-1.0, (total - n) / (n * (n - 1))))
