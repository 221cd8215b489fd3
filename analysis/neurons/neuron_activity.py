"""Which FFN neurons fire, how often, how strongly, and on what?

1. Find the FFN sites of the model by running it once.
2. Per unit of windows: forward passes in which the values at every site flow past a bounded accumulator.
3. Merge the accumulators of all units; any split and any order gives the same result.
4. Read the activations around the examples' peaks in one more pass over the windows that hold any.
5. Classify each neuron by its density and by what n allows to say; write rows site by site.

Sources: METHODS B1 (lazy neuron), B2 (static and dynamic dead neurons), B12 (activation frequency), B13 (Hoyer, Gini);
relative contribution is ours (docs/decisions/0002-active.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.neurons.figures import draw_classes, draw_densities, draw_experts
from analysis.neurons.glance import STRIPES, headlines
from analysis.neurons.tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.capture.fitting import Fitting
    from analysis.executors.assignment import Compute

UNIT_TOKENS = 8192
"""Tokens per unit of work: what a killed run may lose, about half a minute on two cores."""


@dataclass(frozen=True, kw_only=True)
class NeuronActivityConfig:
    """Settings of `neuron_activity`."""

    n_tokens: int = setting(16384, help="Tokens to read, sampled across as many documents as possible", unit="tokens", ge=1, le=10**9)
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows and samples", ge=0, le=2**31 - 1)
    active: float = setting(0.01, help="Active where |a||w_out| exceeds this share of the norm of FFN(x)", unit="share", ge=1e-9, le=1.0)
    magnitude: float = setting(
        0.0625, help="Active where |a| exceeds this, at sites without an FFN output", unit="activation", ge=0.0, le=1e6
    )
    rare: float = setting(1e-4, help="Below this density a neuron is rare", unit="share of tokens", ge=1e-9, le=0.1)
    dense: float = setting(0.5, help="Above this density a neuron is dense", unit="share of tokens", ge=0.11, le=1.0)
    examples: int = setting(20, help="Top examples kept per neuron", ge=1, le=100)
    rank_first: bool = setting(False, help="Let position 0 into rankings (in many models it is an attention sink)")
    rank_special: bool = setting(False, help="Let special tokens into rankings")
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=2, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """A model to run and inputs to run it on; whether it has FFN sites shows when it is run once."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and neuron_activity measures what fires on them; give a text with --data."
    return None


def run(config: NeuronActivityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: units of 8,192 tokens, then the examples, then the sites."""
    from analysis.capture.fitting import Fitting
    from analysis.neurons.observing import merged, neuron_sites

    subject = inputs["model"]
    sites = neuron_sites(subject)
    tokens = subject.data.token_ids
    per_window = 1 if tokens is None else tokens.shape[1]
    batch = Fitting.windows(config.batch_tokens, subject.data)
    parts = [f"{p.start}-{p.stop}" for p in subject.data.parts(max(1, UNIT_TOKENS // per_window))]
    for _, state in work.computed(parts, "reading windows", partial(_read, config, subject, sites, batch)):
        work.save_state(state)
    accumulators = merged(sites, work.states("reading windows"))
    seen = [site for site in sites if accumulators[site.name].n_rows]
    work.facts |= _facts(config, subject, sites, seen, accumulators)
    yield from _experts(sites, len(subject.data.documents), work)
    yield from _examples(subject, seen, accumulators, batch.size, work)
    yield from _sites(config, subject, seen, accumulators, work)


@contextmanager
def cells(config: NeuronActivityConfig, inputs: Mapping[str, Any]) -> Iterator[Compute]:
    """A unit of windows, by its first and the one after its last."""
    from analysis.capture.fitting import Fitting
    from analysis.neurons.observing import neuron_sites

    subject = inputs["model"]
    batch = Fitting.windows(config.batch_tokens, subject.data)
    yield partial(_read, config, subject, neuron_sites(subject), batch)


def _read(
    config: NeuronActivityConfig, subject: Any, sites: Sequence[Any], batch: Fitting, name: str, report: Callable[[float], None]
) -> dict[str, Any]:
    """The accumulators' arrays after a unit of windows."""
    from analysis.neurons.observing import NeuronObserver

    first, _, end = name.partition("-")

    def state(size: int) -> dict[str, Any]:
        observer = NeuronObserver(subject, sites, config)
        _observe(subject, observer, size, slice(int(first), int(end)), report)
        return observer.state()

    return batch(state)


def _observe(subject: Any, observer: Any, batch: int, part: slice, report: Callable[[float], None]) -> None:
    from analysis.capture import Frame, capture

    with capture(subject.model, observer.sites, observer) as session:
        for inputs, windows in subject.data.batches(batch, subject.device, part):
            frame = Frame.of(inputs)
            observer.begin(windows, frame)
            session.run(inputs, frame)
            observer.end()
            report((windows.stop - part.start) / (part.stop - part.start))


def _examples(subject: Any, sites: list[Any], accumulators: Mapping[str, Any], batch: int, work: Any) -> Iterator[tuple[str, Any]]:
    """Examples of all sites at once: they are read in one pass."""
    import numpy as np

    from analysis.capture import Frame
    from analysis.neurons.examples import example_rows, examples_of, read_strips, strip_plan, window_rows

    for _ in work.units(["all sites"], what="reading examples"):
        first, _ = next(iter(subject.data.batches(1, subject.device)))
        lengths = {s.name: rows_per_window(s, accumulators[s.name], Frame.of(first)) for s in sites}
        found = {s.name: examples_of(accumulators[s.name], lengths[s.name]) for s in sites}
        plans = {s.name: strip_plan(found[s.name], lengths[s.name]) for s in sites if len(found[s.name].neuron)}
        shown = [s for s in sites if s.name in plans]
        if not shown:
            continue
        read_strips(subject, shown, plans, batch, work.report)
        for site in shown:
            yield "neuron_examples", example_rows(site, found[site.name], plans[site.name])
        yield "windows", window_rows(subject.data, np.unique(np.concatenate([plan.windows for plan in plans.values()])))


def _experts(sites: list[Any], n_documents: int, work: Any) -> Iterator[tuple[str, Any]]:
    """Which tokens were sent to which expert, where the model has any."""
    from analysis.neurons.expert_load import expert_loads, expert_rows, group_rows, merge_packed, per_token_rows

    loads = expert_loads(sites, n_documents)
    for _ in work.units(["experts"] if loads else [], what="counting experts"):
        merge_packed(loads, work.states("reading windows"))
        for group, load in loads.items():
            yield "expert_layers", group_rows(group, load)
            yield "experts", expert_rows(group, load)
            yield "experts_per_token", per_token_rows(group, load)


def rows_per_window(site: Any, accumulator: Any, frame: Any) -> int:
    """Rows a window has at a site, padding among them: its positions, or the places of an image."""
    shape = frame.shape(site.stream)
    return max(1, accumulator.n_rows // accumulator.n_windows) if shape is None else shape[1]


def _sites(
    config: NeuronActivityConfig, subject: Any, sites: list[Any], accumulators: Mapping[str, Any], work: Any
) -> Iterator[tuple[str, Any]]:
    from analysis.neurons.results import density_bin_rows, density_rows, histogram_rows, layer_row, neuron_rows, weights_of

    by_name = {site.name: site for site in sites}
    for name in work.units(list(by_name), what="writing sites"):
        site, accumulator = by_name[name], accumulators[name]
        weights = weights_of(subject.model, site)
        rows, classes = neuron_rows(site, accumulator, weights, config)
        histogram = accumulator.histogram.astype("int64")
        yield "neurons", rows
        yield "layers", layer_row(site, accumulator, weights, classes)
        yield "density_bins", density_bin_rows(site, rows["density"])
        yield "neuron_densities", density_rows(site, histogram)
        yield "neuron_histograms", histogram_rows(site, histogram)


def _facts(
    config: NeuronActivityConfig, subject: Any, sites: list[Any], seen: list[Any], accumulators: Mapping[str, Any]
) -> dict[str, Any]:
    """What only running can tell: tokens, exclusions, sites that saw nothing."""
    first = max((accumulators[s.name] for s in seen), key=lambda a: a.n_rows)
    special = subject.data.special
    excluded = [words for words, kept in (("position 0", config.rank_first), ("special tokens", config.rank_special)) if not kept]
    return {
        "n_tokens": first.n_rows,
        "n_windows": first.n_windows,
        "n_documents": int(first.result()["n_documents"]),
        "n_special_tokens": 0 if special is None else int(special.sum()),
        "left_out_of_rankings": excluded if special is not None else [],
        "sites": len(seen),
        "sites_without_rows": [s.hook_name for s in sites if s not in seen],
        "hook_names": subject.hook_reason or "TransformerLens' names",
    }


NEURON_ACTIVITY = Analysis(
    slug="neuron_activity",
    title="Neuron activity",
    question="Which FFN neurons fire, how often, how strongly, and on what?",
    version=1,
    kind="dynamic",
    sources=(
        Source("Relative contribution, classes and bounds", "docs/decisions/0002-active.md, 0003-undecided.md", "O"),
        Source("The Lazy Neuron Phenomenon", "Li et al., ICLR 2023, arXiv 2210.06313", "3"),
        Source("AP: Selective Activation for De-sparsifying Pruned Networks", "Liu et al., TMLR 2023, arXiv 2212.06145", "K"),
        Source("Comparing Measures of Sparsity", "Hurley and Rickard, IEEE Trans. Inf. Theory 2009, arXiv 0811.4706", "K"),
    ),
    config=NeuronActivityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("layer_classes", "Dead, rare, normal and dense neurons per layer", "layers", draw_classes),
        Figure("expert_load", "Tokens sent to each expert", "experts", draw_experts),
        Figure("densities", "How often neurons are active", "density_bins", draw_densities),
    ),
    needs=needs,
    cells=cells,
    headlines=headlines,
    stripes=STRIPES,
)
