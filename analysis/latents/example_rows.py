"""From what was seen of latents to rows of `latent_examples`' tables."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from analysis.latents.example_tables import COACTIVE, DECODER
from analysis.latents.quality_rows import latent_rows
from analysis.neurons.examples import Examples, example_columns, examples_of, strip_plan, window_rows
from analysis.stats.coactivation import most_coactive
from analysis.stats.nearest import nearest, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.latent_lens import LatentLens
    from analysis.latents.studying import Seen, Study
    from analysis.neurons.observing import StripPlan

Rows = dict[str, Any]


def latent_table(study: Study, seen: Seen, lens: LatentLens) -> Rows:
    """Rows of `latents`, the columns of `sae_quality` and those of the lens."""
    from analysis.latents.latent_lens import lens_columns

    about = SimpleNamespace(config=study.config, dictionary=study.dictionary)
    return latent_rows(cast("Any", about), cast("Any", seen)) | lens_columns(lens, study.dictionary.d_sae)


def found_examples(study: Study, seen: Seen) -> Examples:
    """The examples of all latents."""
    return examples_of(cast("Any", seen.peaks), study.token_ids.shape[1])


def example_tables(study: Study, examples: Examples, work: Any) -> Iterator[tuple[str, Rows]]:
    """Rows of `latent_examples` and `latent_windows`, after one more pass over the windows that hold any."""
    if not len(examples.neuron):
        return
    plan = strip_plan(examples, study.token_ids.shape[1])
    _read_strips(study, plan, work)
    yield "latent_examples", {"latent": examples.neuron} | example_columns(examples, plan)
    yield "latent_windows", window_rows(study.data, plan.windows)


def _read_strips(study: Study, plan: StripPlan, work: Any) -> None:
    parts = study.parts
    for done, part in enumerate(parts.values()):
        if np.isin(np.arange(part.start, part.stop), plan.windows).any():
            for windows in study.windows(part, lambda share, done=done: work.report((done + share) / len(parts))):
                plan.read(windows.latents.cpu().numpy(), windows.number)


# ---------------------------------------------------------------------------------------------------------------------


def neighbour_rows(study: Study, seen: Seen) -> Iterator[tuple[str, Rows]]:
    """Rows of `latent_neighbours`: by decoder direction and by co-activation."""
    k = study.config.neighbours
    latent, rank, other, value = _decoder_neighbours(study.dictionary.W_dec, k)
    yield "latent_neighbours", _neighbours(DECODER, latent, rank, other, value)
    row, which = np.concatenate(seen.together, axis=1)
    latent, rank, other, value = most_coactive(row, which, seen.n_together, study.dictionary.d_sae, k)
    yield "latent_neighbours", _neighbours(COACTIVE, latent, rank, other, value)


def _decoder_neighbours(decoder: Tensor, k: int) -> tuple[np.ndarray, ...]:
    unit, has = unit_rows(decoder.detach())
    kept = has.nonzero().squeeze(1).cpu().numpy()
    alive = unit[has]
    best, _, place = (t.cpu().numpy() for t in nearest(alive, [alive], k, own=0))
    row, rank = np.nonzero(np.isfinite(best))
    return kept[row], rank, kept[place[row, rank]], np.clip(best[row, rank].astype(np.float64), -1.0, 1.0)


def _neighbours(by: str, latent: np.ndarray, rank: np.ndarray, other: np.ndarray, value: np.ndarray) -> Rows:
    return {"latent": latent, "by": pa.repeat(by, len(latent)), "rank": rank, "other": other, "value": value}
