"""Opening: from what a user types, or a module in memory, to a `Subject`.

1. Find the files (`places`); what is no folder of safetensors is converted in a closed process (`convert`, `files.torch_files`).
2. Read config and headers, never weights: facts, ties and fingerprints come from those.
3. Cut the text into windows where data are wanted.
4. Model and tokenizer load when first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models import convert, fingerprints, loading, making, placement, places, series, tensors
from analysis.models.batches import Data, GivenBatches
from analysis.models.files import packed, safetensors_header, torch_files
from analysis.models.inputs import Reads, load_data
from analysis.models.subject import Subject
from analysis.models.text import TextWindows, model_inputs
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, float, float], Any]
"""Called with what is being done, how much of it is done, and how much there is."""


def open_subject(
    model: str,
    data: str | None = None,
    *,
    device: str = "cpu",
    dtype: str = "",
    n_tokens: int = 2048,
    window: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> Subject:
    """The subject that MODEL names, with windows of DATA where that is given.

    ``model``: a bundled name, a Hugging Face folder or a zip of one, a safetensors, GGUF or torch file, or a hub id; with trust (see
    `trust`) a ``.pt2`` file or ``factory:package.module:function``, whose own inputs are used where they bring some; ``data``:
    anything `inputs` reads (text, records, arrays, images, digits); ``device``, ``dtype``: see `placement`. Raises
    `UserError` with a sentence for everything else.
    """
    device, dtype = placement.check_device(device), placement.check_dtype(dtype)
    tell = progress or _silent
    place = places.find(model)
    subject = _opened(place, device, tell)
    if dtype:
        _cast(subject, dtype)
    if data is not None and subject.data is None and not subject.series:
        _attach(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=tell)
    if subject.loss is not None and subject.data is not None:
        own = [subject.fingerprints["data"].encode(), fingerprints.function_fingerprint(subject.loss).encode()]
        subject.fingerprints["data"] = fingerprints.digest(own)
    return subject


def _cast(subject: Subject, dtype: str) -> None:
    """Have the model loaded in another number format than its files': it is another model then, by its runs' keys."""
    load = subject.load_model
    if not isinstance(load, partial) or load.func is not loading.load_model:
        raise UserError(
            f"a number format can be chosen for a model in a folder of safetensors only, got {subject.source}; leave --dtype out."
        )
    subject.load_model, subject.dtype = partial(load, dtype=dtype), dtype


def _opened(place: places.Place, device: str, tell: Progress) -> Subject:
    """The subject of a place, converted first where it must be."""
    if place.form == "series":
        return series.subject_of(place, placement.inputs_device(device), lambda one: _opened(one, device, tell))
    if place.form == "safetensors":
        return _weights_only(place, device)
    if place.form in ("exported", "factory"):
        return _made(place, device)
    if place.form in ("torch", "torch-folder"):
        tell("converting to safetensors (once, in a closed process)", 0, 0)
    if place.form == "torch":
        return _weights_only(place, device, torch_files.convert(place.weights[0]))
    if place.form == "zip":
        inside = places.find(str(torch_files.unzipped(place.weights[0])))
        return _opened(replace(inside, name=place.name, label=place.label, source=place.source), device, tell)
    label, notes, folder = place.label, [], place.folder
    if place.gguf is not None:
        folder = convert.converted(place.gguf, tell)
        noted = convert.about(folder)
        notes, label = convert.notes_of(noted), convert.label_of(noted)
    assert folder is not None, "every other form has a folder"
    if place.form == "torch-folder":
        folder, notes = torch_files.folder_of(folder, place.weights)
    return _from_folder(place, folder, device, label, notes)


def _silent(*_: Any) -> None:
    """Progress for those who want none."""


def _from_folder(place: places.Place, folder: Path, device: str, label: str, notes: list[str]) -> Subject:
    config = loading.read_config(folder)
    files = places.weight_files(folder) if place.must_convert else place.weights
    skeleton = loading.skeleton(config)
    loading.check_size(skeleton, files, folder)
    listing = partial(tensors.tensors_of_files, files, skeleton)
    prints = {"weights": fingerprints.place_fingerprint(place)}
    tokenizer = fingerprints.tokenizer_fingerprint(folder)
    if tokenizer is not None:
        prints["tokenizer"] = tokenizer
    infos = list(listing())
    stated = getattr(config, "dtype", None)
    return Subject(
        name=place.name,
        label=label,
        source=place.source,
        task=loading.task_of(config),
        dtype=str(stated).removeprefix("torch.") if stated is not None else _main_dtype(infos),
        device=placement.inputs_device(device),
        fingerprints=prints,
        facts=_facts(infos, config, type(skeleton).__name__, notes, files),
        load_model=partial(loading.load_model, folder, config, device),
        load_tokenizer=partial(loading.load_tokenizer, folder),
        list_tensors=listing,
        reads=Reads.of(skeleton, config, folder),
    )


def _weights_only(place: places.Place, device: str, made: torch_files.Converted | None = None) -> Subject:
    """Bare weights, as they are or as converted: no model that could run."""
    files = place.weights if made is None else (made.weights,)
    listing = partial(tensors.tensors_of_files, files, None)
    infos = list(listing())
    prints = {"weights": fingerprints.place_fingerprint(place)}
    notes = ["only the weights are known: there is no config.json beside the file", *(made.notes if made else ())]

    def refuse() -> torch.nn.Module:
        raise UserError(f"a model that runs must come with its config.json, got only {place.source}; name the model's folder.")

    facts = _facts(infos, None, None, notes, files)
    if place.adapter is not None:
        facts["adapter"] = dict(place.adapter)
    return Subject(
        name=place.name,
        label=place.label,
        source=place.source,
        task=None,
        dtype=_main_dtype(infos),
        device=placement.inputs_device(device),
        fingerprints=prints,
        facts=facts,
        load_model=refuse,
        list_tensors=listing,
    )


def _made(place: places.Place, device: str) -> Subject:
    """A model that came as code, by trust: an exported program, or what a function returned."""
    made = making.exported(place.weights[0]) if place.form == "exported" else making.by_factory(place.label)
    if place.form == "factory":
        made.model.eval()  # an exported program is in eval mode for good, and refuses to be told
    subject = _subject_of(made.model, place.name, place.label, place.source, placement.inputs_device(device))
    subject.loss = made.loss
    if made.batches is not None:
        given = _given(made.batches, subject.task, _config_of(made.model) is not None)
        subject.data, subject.fingerprints["data"] = given, given.fingerprint
    return subject


def subject_from(
    model: torch.nn.Module,
    *,
    name: str = "model",
    tokenizer: Any = None,
    data: Any = None,
    device: str | None = None,
    n_tokens: int = 2048,
    window: int = 128,
    seed: int = 0,
) -> Subject:
    """The subject made of a module in memory, set to eval mode; for notebooks and tests.

    ``data``: `TextWindows` or other `Data`, token ids [n_windows, window], a list of batches, or DATA as in
    `open_subject`, where text needs a tokenizer. The module is fingerprinted once, now: change it later and it is another subject.
    """
    model.eval()
    subject = _subject_of(model, name, name, "a module in memory", device, tokenizer)
    if isinstance(data, str):
        _attach(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=_silent)
    elif data is not None:
        given = _given(data, subject.task, _config_of(model) is not None)
        subject.data, subject.fingerprints["data"] = given, given.fingerprint
    return subject


def _subject_of(model: torch.nn.Module, name: str, label: str, source: str, device: str | None, tokenizer: Any = None) -> Subject:
    """A module in memory as a subject, without data."""
    config = _config_of(model)
    listing = partial(tensors.tensors_of_module, model)
    infos = list(listing())
    prints = {"weights": fingerprints.module_fingerprint(model)}
    if tokenizer is not None:
        prints["tokenizer"] = fingerprints.tokenizer_object_fingerprint(tokenizer)
    return Subject(
        name=name,
        label=label,
        source=source,
        task=_task_of_module(model, config),
        dtype=_main_dtype(infos),
        device=device or str(next((p.device for p in model.parameters()), "cpu")),
        fingerprints=prints,
        facts=_facts(infos, config, type(model).__name__, []),
        load_model=lambda: model if device is None else model.to(device),
        load_tokenizer=lambda: tokenizer,
        list_tensors=listing,
        reads=Reads.of(model, config, None),
    )


def _config_of(model: torch.nn.Module) -> Any | None:
    """The config of a transformers model; None for every other module."""
    config = getattr(model, "config", None)
    return config if hasattr(config, "to_dict") else None


def _given(data: Any, task: str | None, takes_names: bool) -> Data:
    if hasattr(data, "batches"):
        return data
    if isinstance(data, Sequence):
        return GivenBatches(data)
    ids = np.asarray(data)
    if ids.ndim == 2 and np.issubdtype(ids.dtype, np.integer):
        return TextWindows.from_ids(ids, inputs=model_inputs(task) if takes_names else ())
    return GivenBatches([data])


def _task_of_module(model: torch.nn.Module, config: Any) -> str | None:
    import copy

    if config is None:
        return None
    own = copy.copy(config)
    own.architectures = [type(model).__name__]
    return loading.task_of(own)


def _attach(subject: Subject, data: str, *, n_tokens: int, window: int, seed: int, progress: Progress) -> None:
    found = load_data(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=progress)
    subject.data, subject.fingerprints["data"] = found, found.fingerprint


def _facts(
    infos: list[tensors.TensorInfo], config: Any, architecture: str | None, notes: list[str], files: Sequence[Path] = ()
) -> dict[str, Any]:
    """What is known without loading: counts, sizes, ties, notes. Only what is known is in it."""
    tied = [[info.name, *info.tied] for info in infos if info.tied]
    unread = packed.packed_in([entry for file in files for entry in safetensors_header.read(file).entries])
    said = packed.note_of(unread)
    facts: dict[str, Any] = {
        "n_parameters": sum(info.numel for info in infos),
        "n_tensors": len(infos),
        "architecture": architecture,
        "tied": tied,
        "notes": notes + [f"{' and '.join(names)} are one tensor, counted once" for names in tied] + ([said] if said else []),
    }
    if packed.only_scales(unread, [(info.name, info.layer) for info in infos if len(info.shape) > 1]):
        facts["only_scales"] = True
    sizes = {"n_layers": "num_hidden_layers", "d_model": "hidden_size", "n_heads": "num_attention_heads", "d_vocab": "vocab_size"}
    for key, name in sizes.items():
        value = getattr(config, name, None)
        if isinstance(value, int):
            facts[key] = value
    limit = loading.context_length(config, None)
    if limit is not None:
        facts["context_length"] = limit
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation_function", None)
    if isinstance(activation, str):
        facts["activation"] = activation
    return facts


def _main_dtype(infos: list[tensors.TensorInfo]) -> str:
    """The dtype that most parameters have."""
    counts: dict[str, int] = {}
    for info in infos:
        counts[info.dtype] = counts.get(info.dtype, 0) + info.numel
    return max(counts, key=lambda dtype: counts[dtype], default="float32")
