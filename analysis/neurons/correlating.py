"""From every neuron's values on a sample of tokens to the rows of `neuron_correlation`, site by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analysis.capture.site import Site
from analysis.neurons.link_tables import bins_of
from analysis.neurons.links import Comparable, site_columns
from analysis.neurons.sampling import Layout, Sample
from analysis.stats.correlation import chance_levels, correlation_threshold, heaviness, orders_for, shuffled, standardised

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.neurons.neuron_correlation import NeuronCorrelationConfig

COUNTS = ("n_constant", "n_nonfinite", "n_linked", "n_chance")


def compared(
    config: NeuronCorrelationConfig,
    subject: Any,
    sites: list[Site],
    sample: Sample,
    values: Mapping[Layout, Mapping[str, np.ndarray]],
    work: Any,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables, a unit per site; ``values`` [tokens, neurons] by layout and site name."""
    groups = {layout: _group(subject.device, sites, found) for layout, found in values.items()}
    limits = {layout: _threshold(len(sample.slots(layout).window), group) for layout, group in groups.items()}
    seen = {site.name: (layout, site) for layout, group in groups.items() for site in group.sites}
    work.facts |= _facts(config, subject, sites, sample, groups, limits, seen)
    by_name = {site.name: i for i, site in enumerate(sites)}
    for name in work.units(list(seen), what="random orders"):
        layout, site = seen[name]
        work.save_state(_by_chance(config, site, by_name[name], groups[layout]))
    chance = _levels(seen, dict(work.states("random orders")))
    for name in work.units(list(seen), what="comparing sites"):
        layout, site = seen[name]
        rows, counts = _rows(config, site, groups[layout], values[layout][name], limits[layout], *chance[name])
        yield from rows
        work.save_state({"counts": np.array(counts, np.int64)})
    totals = [state["counts"] for _, state in work.states("comparing sites")]
    work.facts |= {name: int(sum(counts[i] for counts in totals)) for i, name in enumerate(COUNTS)}


def _group(device: str, sites: list[Site], found: Mapping[str, np.ndarray]) -> Comparable:
    def make(site: Site) -> tuple[Tensor, np.ndarray]:
        rows, defined = standardised(torch.from_numpy(found[site.name]).to(device))
        return rows[defined], defined.nonzero().squeeze(1).cpu().numpy()

    return Comparable([site for site in sites if site.name in found], make)


def _threshold(n_tokens: int, group: Comparable) -> float:
    n = sum(len(group.of(site)[1]) for site in group.sites)
    return correlation_threshold(n_tokens, n * (n - 1) // 2) if n > 1 else 1.0


def _by_chance(config: NeuronCorrelationConfig, site: Site, index: int, group: Comparable) -> dict[str, np.ndarray]:
    """How heavy-tailed each neuron is, and its highest correlation in each of some random orders of its own values."""
    rows, _ = group.of(site)
    n = sum(len(group.of(other)[1]) for other in group.sites)
    found = []
    for order in range(orders_for(n) if len(rows) else 0):
        # A seed of its own for every site: two sites in the same random order would still be correlated with each other.
        seed = np.random.SeedSequence([config.seed, index, order]).generate_state(1)[0]
        found.append(group.highest(shuffled(rows, int(seed))))
    return {"heavy": heaviness(rows), "chance": np.array(found).reshape(-1, len(rows))}


def _levels(
    seen: Mapping[str, tuple[Layout, Site]], states: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each site what chance gives its neurons, and what the first random order gave; learnt from all neurons of a layout."""
    found = {}
    for layout in {layout for layout, _ in seen.values()}:
        names = [name for name, (other, _) in seen.items() if other == layout and len(states[name]["heavy"])]
        if not names:
            continue
        heavy, chance = (np.concatenate([states[name][part] for name in names], axis=-1) for part in ("heavy", "chance"))
        levels = chance_levels(heavy, chance)
        ends = np.cumsum([len(states[name]["heavy"]) for name in names])[:-1]
        found |= {name: (level, states[name]["chance"][0]) for name, level in zip(names, np.split(levels, ends))}
    return {name: found.get(name, (np.zeros(0), np.zeros(0))) for name in seen}


def _rows(
    config: NeuronCorrelationConfig, site: Site, group: Comparable, values: np.ndarray, limit: float, level: np.ndarray, once: np.ndarray
) -> tuple[list[Any], list[int]]:
    """Rows of all tables for one site, and its counts: constant, not finite, linked, above the bound by chance."""
    width, neurons = values.shape[1], group.of(site)[1]
    links = group.links(site, config.top_neurons)
    noise = level[np.searchsorted(neurons, links.neuron)]
    above = links.value > np.maximum(noise, limit)
    best, bins = links.best, bins_of(links.best)
    n_nonfinite = int((~np.isfinite(values)).any(0).sum())
    counts = [width - len(neurons) - n_nonfinite, n_nonfinite, len(np.unique(links.neuron[above])), int((once > limit).sum())]
    layer = site_columns(site, 1) | {name: [count] for name, count in zip(COUNTS, counts)}
    layer |= {"n_neurons": [width], "threshold": [limit], "n_tokens": [len(values)]}
    medians = {"correlation": best, "shuffled": once}
    layer |= {name: [float(np.median(found)) if len(best) else None] for name, found in medians.items()}
    found = [
        ("neuron_correlated", links.rows(site, group.sites) | {"correlation": links.value, "chance": noise, "above_noise": above}),
        ("correlation_bins", site_columns(site, len(bins["low"])) | bins),
        ("correlation_layers", layer),
    ]
    return [(table, rows) for table, rows in found if len(best) or table == "correlation_layers"], counts


def _facts(
    config: NeuronCorrelationConfig,
    subject: Any,
    sites: list[Site],
    sample: Sample,
    groups: Mapping[Layout, Comparable],
    limits: Mapping[Layout, float],
    seen: Mapping[str, tuple[Layout, Site]],
) -> dict[str, Any]:
    """What only running can tell: the sample, its noise, and what was left out."""
    largest = max(groups, key=lambda layout: len(sample.slots(layout).window))
    excluded = [words for words, kept in (("position 0", config.include_first), ("special tokens", config.include_special)) if not kept]
    sizes = {layout: sum(len(group.of(site)[1]) for site in group.sites) for layout, group in groups.items()}
    return {
        "n_tokens": len(sample.slots(largest).window),
        "n_windows": int(len(np.unique(sample.slots(largest).window))),
        "n_documents": int(len(np.unique(subject.data.document[sample.slots(largest).window]))),
        "n_neurons": sum(int(site.width or 0) for _, site in seen.values()),
        "n_pairs": sum(n * (n - 1) // 2 for n in sizes.values()),
        "threshold": max(limits.values()),
        "groups_compared": len(groups),
        "left_out_of_the_sample": excluded if sample.is_text else [],
        "sites": len(seen),
        "sites_without_rows": [site.hook_name for site in sites if site.name not in seen],
        "hook_names": subject.hook_reason or "TransformerLens' names",
    }
