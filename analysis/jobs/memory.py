"""How much memory a job will need, estimated from the headers of its files, before anything is loaded.

The rule: 1 GB for Python and its libraries, and then
- a static question reads one tensor at a time: three times the largest one in 32 bits;
- any other holds the weights as stored, a quarter of them again, and 1 GB of activations and accumulators.
A series is opened one checkpoint at a time, so that its largest stands for it.
Measured peaks beside what the rule says: weight_sparsity 0.71 and 0.77 of 1.14 and 1.34 GB (MiniLM, SmolLM2),
neuron_activity of 2,048 tokens 1.10 and 2.16 of 2.11 and 2.67 GB.
Each of several workers of this machine needs as much again (`analysis.executors`); those of a cluster need theirs on its nodes.
An analysis that knows better declares `Analysis.memory`: the bytes it needs beside the weights; a static one is asked before
anything is opened, too, with what the headers say for facts, so that one that reads in slices is not refused for a huge tensor.
weight_spectrum and checkpoint_diff leave it to the rule: some matrices they do hold whole. A GGUF file becomes 32-bit weights;
until it (or another file) has been converted, its own size stands for them, which is too little rather than too much.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.jobs.request import JobSpec
from analysis.models import places
from analysis.spec import UserError
from store.errors import size_words

ROOM = "SPARSESCOPE_MEMORY"
BASE = 10**9
ACCUMULATORS = 10**9
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_OTHER_BYTES = 1


@dataclass(frozen=True)
class Sizes:
    """Of a model's weights."""

    weights: int
    """Bytes, as stored."""
    largest: int
    """Elements of the largest tensor."""
    numel: int = 0
    """Elements of all tensors."""


def sizes_of_files(model: str) -> Sizes | None:
    """From the files that MODEL names; None for a hub id, whose files may not be here."""
    if places.is_hub_id(model):
        return None
    place = places.find(model)
    found = [_sizes(one) for one in ([step.place for step in place.steps] or [place])]
    return Sizes(*(max(getattr(one, name) for one in found) for name in ("weights", "largest", "numel")))


def _sizes(place: places.Place) -> Sizes:
    weights = sum(path.stat().st_size for path in place.weights)
    numels = [] if place.must_convert else [n for path in place.weights for n in _numels(path)]
    return Sizes(weights, max(numels, default=0), sum(numels))


def _numels(path: Any) -> Iterable[int]:
    from math import prod

    from safetensors import safe_open

    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            yield prod(file.get_slice(name).get_shape())


def sizes_of_subject(subject: Any) -> Sizes:
    """From an opened subject's tensors, whose values are not read; of a series, from its last checkpoint's."""
    infos = list((subject.series[-1].open() if subject.series else subject).tensors())
    weights = sum(info.numel * _ITEM_BYTES.get(info.dtype, _OTHER_BYTES) for info in infos)
    return Sizes(weights, max((info.numel for info in infos), default=0), sum(info.numel for info in infos))


def needed(spec: JobSpec, sizes: Iterable[Sizes], facts: Mapping[str, Any] | None = None) -> int:
    """Bytes, by the rule above. ``facts`` of the opened model, where it has been opened."""
    all_sizes = list(sizes)
    weights, largest = sum(_loaded(one, spec.dtype) for one in all_sizes), max((one.largest for one in all_sizes), default=0)
    static = spec.slug is not None and spec.analysis.kind == "static"
    if static and facts is None:
        facts = {"n_parameters": sum(one.numel for one in all_sizes)}
    if spec.slug is not None and facts is not None and spec.analysis.memory is not None:
        return BASE + (0 if static else weights) + spec.analysis.memory(spec.settings, facts)
    return BASE + (3 * 4 * largest if static else weights + weights // 4 + ACCUMULATORS)


def _loaded(sizes: Sizes, dtype: str) -> int:
    """Bytes of the weights in the format asked for; of files to be converted, whose numbers are not known, those of the files."""
    return sizes.numel * _ITEM_BYTES[dtype] if dtype and sizes.numel else sizes.weights


def estimate(spec: JobSpec) -> int | None:
    """Bytes a job will need, before anything is loaded; None where the files are not on this machine."""
    found = _found(spec)
    return spec.choice.processes * needed(spec, found) if found else None


def check_machine(spec: JobSpec) -> None:
    """Refuse what this machine could never hold, before a process is started."""
    import psutil

    _check(
        spec,
        spec.choice.processes * needed(spec, _found(spec)),
        _limit(psutil.virtual_memory().total),
        "in this machine",
        "use a smaller model",
    )


def check_now(spec: JobSpec, subjects: Mapping[str, Any] | None = None) -> None:
    """Refuse what does not fit into the memory that is free now; exactly, where the subjects have been opened."""
    need = spec.choice.processes * each(spec, subjects)
    _check(spec, need, free(), "free", "close other programs and resume it, use a smaller model")


def each(spec: JobSpec, subjects: Mapping[str, Any] | None = None) -> int:
    """Bytes that one process of the job needs."""
    if subjects is None:
        return needed(spec, _found(spec))
    return needed(spec, map(sizes_of_subject, subjects.values()), next(iter(subjects.values())).facts)


def free() -> int:
    """Bytes that a job may use now."""
    import psutil

    return _limit(psutil.virtual_memory().available)


def _found(spec: JobSpec) -> list[Sizes]:
    return [found for model in spec.models.values() if (found := sizes_of_files(model)) is not None]


def _limit(reported: int) -> int:
    """Bytes of the machine, or as many gigabytes as SPARSESCOPE_MEMORY says."""
    text = os.environ.get(ROOM)
    if text is None:
        return reported
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{ROOM} must be a number of gigabytes, got {text!r}; set it to what a job may use.") from error


def _check(spec: JobSpec, need: int, room: int, where: str, remedy: str) -> None:
    if need > room:
        n = spec.choice.processes
        by, remedy = (f" by {n} processes", f"ask for fewer workers, {remedy}") if n > 1 else ("", remedy)
        raise UserError(
            f"the memory for {spec.words}{by} must be about {size_words(need)}, got {size_words(room)} {where}; "
            f"{remedy} or a larger machine, or set {ROOM} to the gigabytes it may use if you know better."
        )
