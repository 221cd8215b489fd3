"""Which heads, and which earlier tokens, feed each latent of an SAE that reads attention outputs?

1. One pass over text: the top examples of the latents asked for.
2. At each example the pre-activation is split, attention frozen, into what every head adds from every source position: exactly, and what
   the dictionary really read stands beside the sum.
3. From the weights alone: how much of each latent's decoder direction lies in each head, and so how many latents each head serves.

Sources: METHODS D6. In the source a head counts as polysemantic where the ten latents with the largest share in it, read by a person, have
different tasks; those ten are stored. The counts beside them are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.given_sae import SAE
from analysis.latents.attribution_figures import draw_by_head, draw_distances, draw_heads, draw_shares, headlines
from analysis.latents.attribution_tables import TABLES
from analysis.latents.latent_examples import needs
from analysis.spec import Analysis, Figure, Source, UserError, setting

if TYPE_CHECKING:
    import numpy as np

    from analysis.latents.attributing import Asked
    from analysis.latents.studying import Seen, Study

ATTRIBUTING = "attributing examples"


@dataclass(frozen=True, kw_only=True)
class LatentAttributionConfig:
    """Settings of `latent_attribution`."""

    n_tokens: int = setting(16384, help="Tokens to read, sampled across as many documents as possible", unit="tokens", ge=1, le=10**9)
    window: int = setting(128, help="Length of a text window, at most the SAE's training context", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of the choice of windows", ge=0, le=2**31 - 1)
    latents: str = setting("", help="Numbers of latents to attribute, with commas between; empty for those with the largest activations")
    n_latents: int = setting(256, help="How many latents where none are named; 0 for all that are active", unit="latents", ge=0, le=10**7)
    examples: int = setting(5, help="Top examples attributed per latent", ge=1, le=100)
    sources: int = setting(10, help="Source positions kept per example", unit="positions", ge=1, le=1024)
    head_share: float = setting(
        0.5, help="A latent belongs to a head that holds at least this share of its decoder norm", unit="share", ge=0.01, le=1.0
    )
    rank_first: bool = setting(False, help="Let position 0 into examples (in many models it is an attention sink)")


def run(config: LatentAttributionConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: units of 8,192 tokens, twice, then the weights."""
    from analysis.latents.attributing import attention_of
    from analysis.latents.attribution_rows import head_rows, latent_head_rows
    from analysis.latents.studying import Study, seen_all
    from analysis.neurons.examples import window_rows

    study = Study.of(config, inputs["model"], inputs[SAE])
    place = attention_of(study)
    seen = seen_all(study, work, top=config.examples, sampled=1, rank_first=config.rank_first)
    active = seen.latents.n_active > 0
    asked = _asked(config, study, seen)
    yield from _attributed(study, place, asked, work)
    sums, gap = _summed(work, int(study.place.n_heads or 1))
    for _ in work.units(["all latents"], what="reading weights"):
        yield "latent_heads", latent_head_rows(study, active)
        yield "head_latents", head_rows(study, active, config.head_share, sums)
        yield "latent_windows", window_rows(study.data, _unique(asked.window))
    work.facts |= study.facts() | {
        "n_tokens": seen.latents.n_tokens,
        "n_documents": int(seen.latents.documents.result()["n_documents"]),
        "n_active": int(active.sum()),
        "n_attributed": len(asked.latent),
        "n_latents_attributed": len(_unique(asked.latent)),
        "largest_gap": gap,
        "path": "gate" if study.dictionary.architecture == "gated" else "encoder",
        "row_scale": "each token is normalised by itself before it is encoded, which is left out here"
        if study.dictionary.scales_each_row
        else "",
    }


def _unique(values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.unique(values)


def _asked(config: LatentAttributionConfig, study: Study, seen: Seen) -> Asked:
    """The top examples of the latents asked for, in order of windows."""
    import numpy as np

    from analysis.latents.attributing import Asked

    top = seen.peaks.top
    chosen = _named(config.latents, study.dictionary.d_sae)
    if chosen is None:
        order = np.argsort(-np.where(top.filled > 0, top.value[:, 0], 0), kind="stable")
        chosen = order[: config.n_latents or None]
    there = np.zeros(top.value.shape, bool)
    there[chosen] = (np.arange(top.value.shape[1]) < top.filled[:, None])[chosen]
    latent, rank = np.nonzero(there)
    window, position = np.divmod(top.index[latent, rank], study.token_ids.shape[1])
    found = Asked(latent, rank, top.value[latent, rank].astype(np.float64), window, position)
    by_window = np.argsort(window, kind="stable")
    return Asked(*(getattr(found, name)[by_window] for name in found.__dataclass_fields__))


def _named(latents: str, n: int) -> np.ndarray | None:
    """The numbers in the setting; None where it is empty. Raises `UserError` for what is no latent."""
    import numpy as np

    names = [name.strip() for name in latents.split(",") if name.strip()]
    wrong = [name for name in names if not name.isdecimal() or int(name) >= n]
    if wrong:
        raise UserError(f"latents must be numbers from 0 to {n - 1} with commas between, got {wrong[0]!r}; give others, or leave it empty.")
    return np.unique([int(name) for name in names]) if names else None


def _attributed(study: Study, place: Any, asked: Asked, work: Any) -> Iterator[tuple[str, Any]]:
    """Rows of `latent_attributions` and `latent_sources`; per unit what each head adds, and the largest gap."""
    import numpy as np

    from analysis.latents.attributing import attributed
    from analysis.latents.attribution_rows import attribution_rows, constants

    parts, constant = study.parts, constants(study.dictionary)
    for name in work.units(list(parts), what=ATTRIBUTING):
        sums, n, gap = np.zeros(int(study.place.n_heads or 1)), 0, 0.0
        for found in attributed(study, place, asked, parts[name], work.report):
            examples, sources = attribution_rows(found, constant, study.config.sources)
            yield "latent_attributions", examples
            yield "latent_sources", sources
            size = np.abs(found.joint.sum(2))
            some = size.sum(1) > 0
            sums += (size[some] / size[some].sum(1, keepdims=True)).sum(0)
            n += int(some.sum())
            off = np.abs(found.joint.sum((1, 2)) - found.direct) / np.maximum(np.abs(found.joint).sum((1, 2)), np.finfo(float).tiny)
            gap = max(gap, float(off.max()))
        work.save_state({"sums": sums, "n": np.array(n), "gap": np.array(gap)})


def _summed(work: Any, n_heads: int) -> tuple[np.ndarray | None, float]:
    """What each head adds as a share, mean over examples [H] (None without any); and the largest gap, of the sum of magnitudes."""
    import numpy as np

    sums, n, gap = np.zeros(n_heads), 0, 0.0
    for _, state in work.states(ATTRIBUTING):
        sums, n, gap = sums + state["sums"], n + int(state["n"]), max(gap, float(state["gap"]))
    return (np.minimum(sums / n, 1.0) if n else None), gap


LATENT_ATTRIBUTION = Analysis(
    slug="latent_attribution",
    title="Latent attribution",
    question="Which heads, and which earlier tokens, feed each latent of an SAE that reads attention outputs?",
    version=1,
    kind="dynamic",
    sources=(
        Source(
            "Interpreting Attention Layer Outputs with Sparse Autoencoders",
            "Kissane et al. 2024, arXiv 2406.17759; github.com/ckkissane/attention-output-saes",
            "C",
        ),
        Source("Counts of latents per head, similarity of a head's latents", "METHODS D6", "O"),
    ),
    config=LatentAttributionConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("heads", "How many latents each head serves", "head_latents", draw_heads),
        Figure("shares", "Latents of one head and of many", "latent_heads", draw_shares),
        Figure("distances", "From how far back latents are fed", "latent_sources", draw_distances, ("back", "contribution")),
        Figure("by_head", "Heads behind a latent", "latent_attributions", draw_by_head, ("latent", "value", "by_head")),
    ),
    needs=needs,
    inputs=("model", SAE),
    memory=lambda settings, facts: 2 * 10**9,
    headlines=headlines,
)
