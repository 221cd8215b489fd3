"""Which neurons fire together?

1. Sample tokens evenly over documents; keep every neuron's value on each.
2. Pearson correlation of every neuron with every other, in blocks; the highest ones of each neuron are kept.
3. Two ways to tell them from chance, and a link must pass both: a bound for the largest of all pairs if values were normal; and
   the correlations that neurons with values as heavy-tailed reach once their own values are put in random order, since rarely
   active neurons exceed that bound by coincidence.

Sources: Pearson; Fisher 1921 for the bound; searching all pairs and the random order are ours (docs/methods.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.neurons.link_tables import OTHER, SITE, UNIT, bin_columns, bin_heatmap
from analysis.spec import Analysis, Column, Figure, Source, Table, setting
from figures.spec import Axis, FigureSpec, Series

UNIT_TOKENS = 8192
"""Tokens per unit of work: what a killed run may lose."""


@dataclass(frozen=True, kw_only=True)
class NeuronCorrelationConfig:
    """Settings of `neuron_correlation`."""

    n_tokens: int = setting(16384, help="Tokens to read, sampled across as many documents as possible", unit="tokens", ge=1, le=10**9)
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, sample and random order", ge=0, le=2**31 - 1)
    n_sample: int = setting(1024, help="Tokens to correlate on, evenly over documents", unit="tokens", ge=4, le=2**20)
    top_neurons: int = setting(8, help="Correlated neurons kept per neuron", unit="neurons", ge=1, le=100)
    include_first: bool = setting(False, help="Let position 0 into the sample (in many models it is an attention sink)")
    include_special: bool = setting(False, help="Let special tokens into the sample")
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=2, le=2**22, result=False
    )


CORRELATED = Table(
    "neuron_correlated",
    "The neurons whose values rise and fall with a neuron's over the sampled tokens; opposite ones are not listed.",
    (*(c.name for c in UNIT), "rank"),
    (
        *UNIT,
        Column("rank", "int", "0 for the highest correlation", range=(0, 1000)),
        *OTHER,
        Column("correlation", "float", "Pearson correlation over the sampled tokens, in 32 bits", range=(-1, 1), evidence="O"),
        Column(
            "chance",
            "float",
            "What chance gives: once their values are in random order, 99 % of neurons with values as heavy-tailed as this one's have no "
            "higher correlation with any neuron",
            range=(-1, 1),
            evidence="O",
        ),
        Column("above_noise", "bool", "Whether the correlation is above both `chance` and the site's `threshold`", evidence="O"),
    ),
)

LAYERS = Table(
    "correlation_layers",
    "A row per site: how many of its neurons have a partner beyond chance.",
    tuple(c.name for c in SITE),
    (
        *SITE,
        Column("n_neurons", "int", "Neurons of the site", "neurons", (0, 1e15)),
        Column("n_constant", "int", "Neurons with the same value on every sampled token, which have no correlation", "neurons", (0, 1e15)),
        Column("n_nonfinite", "int", "Neurons with a value that is NaN or infinite, left out", "neurons", (0, 1e15)),
        Column("n_linked", "int", "Neurons with at least one correlation above noise", "neurons", (0, 1e15), evidence="O"),
        Column(
            "n_chance",
            "int",
            "Neurons that exceed `threshold` even in one random order: where the bound fails",
            "neurons",
            (0, 1e15),
            evidence="O",
        ),
        Column("correlation", "float", "Median of the neurons' highest correlation; NULL where there is none", "", (-1, 1), True, "O"),
        Column("shuffled", "float", "Median of the highest correlation in random order; NULL where none", "", (-1, 1), True, "O"),
        Column(
            "threshold",
            "float",
            "Correlation that the highest of all pairs exceeds by chance with probability 0.05 at most, if values are normal and tokens "
            "independent",
            "",
            (0, 1),
            evidence="O",
        ),
        Column("n_tokens", "int", "Tokens in the sample", "tokens", (0, 1e15)),
    ),
    summary=True,
)

BINS = Table(
    "correlation_bins",
    "How many neurons of each site have which highest correlation to any other neuron.",
    (*(c.name for c in SITE), "low"),
    (*SITE, *bin_columns("the highest correlation")),
)


def needs(subject: Any) -> str | None:
    """A model to run and inputs to run it on."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and neuron_correlation measures what fires together on them; give a text with --data."
    return None


def memory(config: NeuronCorrelationConfig, facts: Mapping[str, Any]) -> int:
    """The sample for as many neurons as the parameters could make, three times (read, standardised, in random order), and the pass."""
    parameters = int(facts["n_parameters"])
    neurons = parameters // (2 * int(facts.get("d_model", 1024)))
    return parameters + 3 * 4 * config.n_sample * neurons + 5 * 10**8


def run(config: NeuronCorrelationConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: units of 8,192 tokens are read, then the sites are compared."""
    from analysis.capture.fitting import Fitting
    from analysis.neurons.correlating import compared
    from analysis.neurons.observing import neuron_sites
    from analysis.neurons.sampling import Sample, SampleObserver, gathered

    subject = inputs["model"]
    sites, sample = neuron_sites(subject), Sample(subject.data, config)
    tokens = subject.data.token_ids
    per_window = 1 if tokens is None else tokens.shape[1]
    parts = {f"{p.start}-{p.stop}": p for p in subject.data.parts(max(1, UNIT_TOKENS // per_window))}
    batch = Fitting.windows(config.batch_tokens, subject.data)
    for name in work.units(list(parts), what="reading windows"):

        def state(size: int, part: slice = parts[name]) -> dict[str, Any]:
            observer = SampleObserver(sites, sample, part)
            _observe(subject, observer, sample, size, part, work)
            return observer.state()

        work.save_state(batch(state))
    values = gathered(sites, sample, parts, work.states("reading windows"))
    yield from compared(config, subject, sites, sample, values, work)


def _observe(subject: Any, observer: Any, sample: Any, batch: int, part: slice, work: Any) -> None:
    from analysis.capture import Frame, capture

    with capture(subject.model, observer.sites, observer) as session:
        for inputs, windows in subject.data.batches(batch, subject.device, part):
            if sample.wanted(windows):
                frame = Frame.of(inputs)
                observer.begin(windows, frame)
                session.run(inputs, frame)
            work.report((windows.stop - part.start) / (part.stop - part.start))


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def _n(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['n_neurons']:,} neurons of {provenance['model_label']}, {facts['n_tokens']:,} tokens from {facts['n_documents']:,} "
        f"documents of {provenance['data']}"
    )


def draw_highest(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The highest correlation of each neuron, per layer."""
    facts = provenance["facts"]
    return FigureSpec(
        kind="heatmap",
        data=bin_heatmap(rows),
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("bin", "Highest correlation with another neuron", scale="category"),
        colour=Axis("share", "Neurons", unit="share of the layer's neurons"),
        title="How closely neurons fire together",
        sentence=f"For each neuron its highest Pearson correlation with any other neuron of the model: {_n(provenance)}; "
        f"{facts['n_constant']:,} neurons that never changed have none.",
        hover=("n_neurons",),
        notes=(
            f"Below {facts['threshold']:.2f} even the highest of {facts['n_pairs']:,} pairs may be chance.",
            f"In random order {facts['n_chance']:,} neurons, most of them rarely active, exceed that all the same.",
        ),
    )


def draw_linked(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of neurons with a partner beyond chance, and the median correlation beside that in random order."""
    shown = rows.dropna(subset=["correlation"]).sort_values(["layer", "hook_name"]).reset_index(drop=True)
    shown["place"] = shown["layer"].astype(str) if shown["layer"].is_unique else shown["hook_name"]
    long = shown.melt(["place", "n_neurons", "n_linked"], ["correlation", "shuffled"], var_name="order", value_name="median")
    long["order"] = long["order"].map({"correlation": "as read", "shuffled": "in random order"})
    return FigureSpec(
        kind="bars",
        data=long,
        x=Axis("place", "Layer" if shown["layer"].is_unique else "Site", scale="category"),
        y=Axis("median", "Median of the highest correlation"),
        series=Series("order", "Values", order=("as read", "in random order")),
        title="Correlation beyond chance",
        sentence=f"Median over a site's neurons of the highest correlation with any other neuron, and the same after the neuron's own "
        f"values were put in random order: {_n(provenance)}. {int(rows['n_linked'].sum()):,} neurons have a partner beyond chance.",
        hover=("n_neurons", "n_linked"),
    )


NEURON_CORRELATION = Analysis(
    slug="neuron_correlation",
    title="Neuron correlation",
    question="Which FFN neurons fire together?",
    version=1,
    kind="dynamic",
    sources=(
        Source("Correlation beyond chance after searching all pairs", "docs/methods.md", "O"),
        Source('On the "Probable Error" of a Coefficient of Correlation', "Fisher, Metron 1921", "K"),
    ),
    config=NeuronCorrelationConfig,
    tables=(LAYERS, CORRELATED, BINS),
    run=run,
    figures=(
        Figure("highest", "How closely neurons fire together", "correlation_bins", draw_highest),
        Figure("beyond_chance", "Correlation beyond chance", "correlation_layers", draw_linked),
    ),
    needs=needs,
    memory=memory,
)
