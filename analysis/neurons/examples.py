"""Examples of every neuron: top, bottom and quantile peaks, each with the activations around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.capture.site import Site
from analysis.neurons.observing import StripPlan, StripReader
from analysis.stats.neurons import NeuronActivity

BEFORE, AFTER = 15, 8
"""Tokens kept before and after a peak: what comes before explains it, what follows shows how it fades."""
QUANTILES = 10
"""Examples spread evenly over the sampled windows' maxima."""
KINDS = ("top", "bottom", "quantile")


@dataclass
class Examples:
    """The examples of one site, an entry each."""

    neuron: np.ndarray
    kind: np.ndarray
    """Index into `KINDS`."""
    rank: np.ndarray
    value: np.ndarray
    quantile: np.ndarray
    """NaN for top and bottom; written as NULL."""
    window: np.ndarray
    position: np.ndarray


def examples_of(accumulator: NeuronActivity, per_window: int) -> Examples:
    """All examples of a site; per_window tokens make a window."""
    r = accumulator.result()
    parts = [_ranked(r, "top", 0), _ranked(r, "bottom", 1), _quantiles(r)]
    neuron, kind, rank, value, quantile, index = (np.concatenate(column) for column in zip(*parts))
    return Examples(neuron, kind, rank, value, quantile, index // per_window, index % per_window)


def _ranked(r: dict[str, Any], name: str, kind: int) -> tuple[np.ndarray, ...]:
    value = r[f"{name}_value"]
    neuron, rank = np.nonzero(np.arange(value.shape[1]) < r[f"{name}_filled"][:, None])
    n = len(neuron)
    return neuron, np.full(n, kind), rank, value[neuron, rank], np.full(n, np.nan), r[f"{name}_token_index"][neuron, rank]


def _quantiles(r: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Up to ten of each neuron's sampled windows, evenly spread over the order of their maxima."""
    value, defined = r["sample_value"], r["sample_defined"]
    n_sampled = defined.sum(1)
    order = np.argsort(np.where(defined, -value, np.inf), axis=1, kind="stable")
    n_shown = np.minimum(n_sampled, QUANTILES)
    neuron, rank = np.nonzero(np.arange(QUANTILES) < n_shown[:, None])
    last = np.maximum(n_shown[neuron] - 1, 1)
    place = np.rint(rank * (n_sampled[neuron] - 1) / last).astype(np.int64)
    column = order[neuron, place]
    share = 1 - place / n_sampled[neuron]
    return neuron, np.full(len(neuron), 2), rank, value[neuron, column], share, r["sample_token_index"][neuron, column]


def strip_plan(examples: Examples, per_window: int) -> StripPlan:
    """What to read again for these examples."""
    return StripPlan(examples.neuron, examples.window, examples.position, per_window, BEFORE, AFTER)


def read_strips(subject: Any, sites: Sequence[Site], plans: dict[str, StripPlan], batch: int, report: Callable[[float], None]) -> None:
    """One more pass over the windows that hold examples; batches without any are skipped."""
    from analysis.capture import Frame, capture
    from analysis.capture.fitting import Fitting

    wanted = np.unique(np.concatenate([plan.windows for plan in plans.values()]))

    def read(size: int) -> None:
        reader = StripReader(plans)
        with capture(subject.model, sites, reader) as session:
            for inputs, part in subject.data.batches(size, subject.device):
                here = np.arange(part.start, part.stop)
                if np.isin(here, wanted).any():
                    frame = Frame.of(inputs)
                    reader.begin(here, frame)
                    session.run(inputs, frame)
                report(part.stop / subject.data.n_windows)

    Fitting(batch)(read)


def example_rows(site: Site, examples: Examples, plan: StripPlan) -> dict[str, Any]:
    """Rows of `neuron_examples`."""
    n = len(examples.neuron)
    place = {"layer": np.full(n, site.layer), "hook_name": pa.repeat(site.hook_name, n), "neuron": examples.neuron}
    return place | example_columns(examples, plan)


def example_columns(examples: Examples, plan: StripPlan) -> dict[str, Any]:
    """What every table of examples says of each: why it was kept, its value, where it stands, and the strip around it."""
    lengths = plan.stop - plan.first
    inside = np.arange(plan.strips.shape[1]) < lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return {
        "kind": pa.DictionaryArray.from_arrays(pa.array(examples.kind.astype(np.int8)), pa.array(KINDS)).dictionary_decode(),
        "rank": examples.rank,
        "value": examples.value.astype(np.float64),
        "quantile": pa.array(examples.quantile, mask=np.isnan(examples.quantile)),
        "window": examples.window,
        "position": examples.position,
        "first": plan.first,
        "strip": pa.ListArray.from_arrays(offsets, plan.strips[inside].astype(np.int64)),
    }


def window_rows(data: Any, windows: np.ndarray) -> dict[str, Any]:
    """Rows of `windows` for the windows that examples point into."""
    names = [data.documents[d] for d in data.document[windows]]
    rows: dict[str, Any] = {"window": windows, "document": names}
    if data.token_ids is None:
        empty = pa.nulls(len(windows))
        return rows | {"start": np.zeros(len(windows), np.int64), "token_ids": empty, "tokens": empty}
    ids = data.token_ids[windows]
    pieces = [[data.token_strings.get(int(t), f"<{t}>") for t in row] for row in ids]
    return rows | {"start": data.start[windows], "token_ids": ids.tolist(), "tokens": pieces}
