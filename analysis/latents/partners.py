"""Which neurons and heads of the model rise and fall with each latent, on one sample of tokens.

1. A pass over the sampled windows keeps, of the sampled tokens: what the dictionary reads, every neuron, and of every head the norm of what
   it gives to the output matrix. Memory: sampled tokens x (width + neurons + heads), in 32 bits.
2. Latents of these tokens are correlated with all neurons, and with all heads; and again with the latents' values in random order, which
   tells what chance gives. Sampling, standardising and chance are those of `neuron_correlation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.latents.example_tables import HEAD, NEURON
from analysis.neurons.sampling import Sample, SampleObserver, gathered
from analysis.spec import IncompatibleSubject
from analysis.stats.correlation import chance_levels, correlation_threshold, heaviness, orders_for, shuffled, standardised
from analysis.stats.nearest import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Site
    from analysis.latents.studying import Study

SAMPLING = "reading neurons and heads"
Rows = dict[str, Any]


class _Observer:
    """Hands the place's values to one sample, neurons' values and heads' norms to another."""

    def __init__(self, own: SampleObserver, others: SampleObserver, heads: dict[str, int]) -> None:
        self._own, self._others, self._heads = own, others, heads
        self._names = {site.name for site in own.sites}, {site.name for site in others.sites}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """One site was reached."""
        if site.name in self._names[0]:
            self._own.values(site, values, rows)
        if site.name in self._names[1]:
            n = self._heads.get(site.name)
            self._others.values(site, values if n is None else values.float().unflatten(1, (n, -1)).norm(dim=2), rows)


@dataclass(frozen=True)
class Group:
    """Units that latents are compared with: sites, and standardised rows of each."""

    kind: str
    sites: Sequence[Site]
    rows: Sequence[Tensor]
    units: Sequence[np.ndarray]
    """Which unit of its site each row is."""


def partners(study: Study, work: Any) -> Iterator[tuple[str, Rows]]:
    """Rows of `latent_partners`."""
    neurons, heads = _sites(study)
    if not study.config.n_sample or not study.config.partners or not (neurons or heads):
        return
    config = study.config
    asked = SimpleNamespace(n_sample=config.n_sample, seed=config.seed, include_special=False, include_first=config.rank_first)
    sample, split = Sample(study.data, asked), [site for site, _ in heads.values()]
    others = [*neurons, *split]
    _read(study, sample, others, {name: n for name, (_, n) in heads.items()}, work)
    for _ in work.units(["latents"], what="comparing latents"):
        rows, defined = standardised(_latents(study, sample, work))
        found = _values(study, sample, others, work)
        for kind, sites in ((NEURON, neurons), (HEAD, split)):
            group = _group(kind, [site for site in sites if site.name in found], found, study.subject.device)
            if sum(map(len, group.rows)) and bool(defined.any()):
                yield "latent_partners", _compared(study, group, rows[defined], defined.nonzero().squeeze(1).cpu().numpy())


def _sites(study: Study) -> tuple[list[Site], dict[str, tuple[Site, int]]]:
    """The neurons' sites, and what output matrices read: by name the site, called as its place is, and into how many heads it splits."""
    from analysis.latents.places import places
    from analysis.neurons.observing import neuron_sites

    batch, _ = next(iter(study.data.batches(2, study.subject.device)))
    found = places(study.subject.model, batch, names=study.subject.hook_names())
    stream = study.place.site.stream
    split = [place for place in found if place.kind == "attention_z" and place.n_heads and place.site.stream == stream]
    heads = {place.site.name: (replace(place.site, hook_name=place.hook_name), int(place.n_heads or 1)) for place in split}
    try:
        neurons = neuron_sites(study.subject)
    except IncompatibleSubject:
        neurons = []
    return [site for site in neurons if site.stream == stream], heads


def _read(study: Study, sample: Sample, others: list[Site], heads: dict[str, int], work: Any) -> None:
    from analysis.capture import Frame, capture
    from analysis.latents.encoding import WINDOWS

    own = study.place.site
    sites = list({site.name: site for site in [own, *others]}.values())
    parts, subject = study.parts, study.subject
    for name in work.units(list(parts), what=SAMPLING):
        kept = SampleObserver([own], sample, parts[name]), SampleObserver(others, sample, parts[name])
        with capture(subject.model, sites, _Observer(*kept, heads)) as session:
            for inputs, windows in subject.data.batches(WINDOWS, subject.device, parts[name]):
                if sample.wanted(windows):
                    frame = Frame.of(inputs)
                    for one in kept:
                        one.begin(windows, frame)
                    session.run(inputs, frame)
                work.report((windows.stop - parts[name].start) / (parts[name].stop - parts[name].start))
        work.save_state({f"{part}/{key}": v for part, one in zip(("own", "others"), kept) for key, v in one.state().items()})


def _states(part: str, work: Any) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for unit, state in work.states(SAMPLING):
        yield unit, {name.removeprefix(f"{part}/"): v for name, v in state.items() if name.startswith(f"{part}/")}


def _values(study: Study, sample: Sample, sites: list[Site], work: Any) -> dict[str, np.ndarray]:
    """Values [tokens, units] by site, of the sites that follow the text as the place does."""
    found = gathered(sites, sample, study.parts, _states("others", work))
    return next(iter(found.values()), {})


def _latents(study: Study, sample: Sample, work: Any) -> Tensor:
    """Latents [tokens, F] of the sampled tokens."""
    import torch

    own = study.place.site
    ((_, values),) = gathered([own], sample, study.parts, _states("own", work)).items()
    with torch.no_grad():
        x = torch.from_numpy(values[own.name]).to(study.subject.device)
        return study.dictionary.encode(x).float()


def _group(kind: str, sites: list[Site], values: dict[str, np.ndarray], device: str) -> Group:
    """The group of these sites; takes their values [tokens, units] out of the mapping, so that they are not held twice."""
    import torch

    rows, units = [], []
    for site in sites:
        one, defined = standardised(torch.from_numpy(values.pop(site.name)).to(device))
        rows.append(one[defined])
        units.append(defined.nonzero().squeeze(1).cpu().numpy())
    return Group(kind, sites, rows, units)


def _compared(study: Study, group: Group, latents: Tensor, number: np.ndarray) -> Rows:
    """The units with the highest correlation with each of some latents, standardised rows [n, tokens]."""
    value, which, place = (t.cpu().numpy() for t in nearest(latents, group.rows, study.config.partners))
    level = _chance(study, group, latents)
    limit = correlation_threshold(latents.shape[1], max(1, len(latents) * sum(map(len, group.rows))))
    row, rank = np.nonzero(np.isfinite(value))
    which, place = which[row, rank], place[row, rank]
    unit = np.array([group.units[g][p] for g, p in zip(which, place, strict=True)], np.int64)
    correlation = np.clip(value[row, rank].astype(np.float64), -1.0, 1.0)
    return {
        "latent": number[row],
        "kind": pa.repeat(group.kind, len(row)),
        "rank": rank,
        "layer": np.array([site.layer for site in group.sites], np.int64)[which],
        "hook_name": pa.array([site.hook_name for site in group.sites]).take(pa.array(which)),
        "unit": unit,
        "correlation": correlation,
        "chance": level[row],
        "above_noise": correlation > np.maximum(level[row], limit),
    }


def _chance(study: Study, group: Group, latents: Tensor) -> np.ndarray:
    """What chance gives each latent [n]: its highest correlation once its values are in random order."""
    found = []
    for order in range(orders_for(len(latents))):
        seed = np.random.SeedSequence([study.config.seed, order]).generate_state(1)[0]
        best = nearest(shuffled(latents, int(seed)), group.rows, 1)[0][:, 0]
        found.append(np.clip(best.cpu().numpy().astype(np.float64), -1.0, 1.0))
    return chance_levels(heaviness(latents), np.array(found))
