"""Opening: from what a user types, or a module in memory, to a `Subject`.

1. Find the files (`places`); a GGUF file becomes a folder (`convert`).
2. Read config and headers, never weights: facts, ties and fingerprints come from those.
3. Cut the text into windows where data are wanted.
4. Model and tokenizer load when first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models import convert, fingerprints, loading, places, tensors
from analysis.models.batches import Data, GivenBatches
from analysis.models.subject import Subject
from analysis.models.text import TextWindows, model_inputs, text_windows
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
    n_tokens: int = 2048,
    window: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> Subject:
    """The subject that MODEL names, with windows of DATA where that is given.

    ``model``: a bundled name, a Hugging Face folder, a ``.gguf`` or ``.safetensors`` file, or a hub id; ``data``:
    ``python-docs``, a text file, or a folder of text files. Raises `UserError` with a sentence for everything else.
    """
    device = loading.check_device(device)
    tell = progress or _silent
    place = places.find(model)
    label, notes, folder = place.label, [], place.folder
    if place.gguf is not None:
        folder = convert.converted(place.gguf, tell)
        noted = convert.about(folder)
        notes = convert.notes_of(noted)
        label = convert.label_of(noted)
    if folder is None:
        subject = _weights_only(place, device)
    else:
        subject = _from_folder(place, folder, device, label, notes)
    if data is not None:
        _attach(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=tell)
    return subject


def _silent(*_: Any) -> None:
    """Progress for those who want none."""


def _from_folder(place: places.Place, folder: Path, device: str, label: str, notes: list[str]) -> Subject:
    config = loading.read_config(folder)
    files = place.weights if place.gguf is None else places.weight_files(folder)
    skeleton = loading.skeleton(config)
    listing = partial(tensors.tensors_of_files, files, skeleton)
    settings = None if place.gguf is not None else places.read_json(folder / "config.json")
    prints = {"weights": fingerprints.weights_fingerprint(place.weights, settings)}
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
        device=device,
        fingerprints=prints,
        facts=_facts(infos, config, type(skeleton).__name__, notes),
        load_model=partial(loading.load_model, folder, config, device),
        load_tokenizer=partial(loading.load_tokenizer, folder),
        list_tensors=listing,
    )


def _weights_only(place: places.Place, device: str) -> Subject:
    """A bare safetensors file: weights without a model that could run."""
    listing = partial(tensors.tensors_of_files, place.weights, None)
    infos = list(listing())
    prints = {"weights": fingerprints.weights_fingerprint(place.weights, None)}
    note = "only the weights are known: there is no config.json beside the file"

    def refuse() -> torch.nn.Module:
        raise UserError(f"a model that runs must come with its config.json, got only {place.source}; name the model's folder.")

    facts = _facts(infos, None, None, [note])
    return Subject(
        place.name, place.label, place.source, None, _main_dtype(infos), device, prints, facts, None, refuse, list_tensors=listing
    )


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
    `open_subject`, which needs a tokenizer. The module is fingerprinted once, now: change it later and it is another subject.
    """
    model.eval()
    config = getattr(model, "config", None)
    config = config if hasattr(config, "to_dict") else None
    listing = partial(tensors.tensors_of_module, model)
    infos = list(listing())
    prints = {"weights": fingerprints.module_fingerprint(model)}
    if tokenizer is not None:
        prints["tokenizer"] = fingerprints.tokenizer_object_fingerprint(tokenizer)
    subject = Subject(
        name=name,
        label=name,
        source="a module in memory",
        task=_task_of_module(model, config),
        dtype=_main_dtype(infos),
        device=device or str(next((p.device for p in model.parameters()), "cpu")),
        fingerprints=prints,
        facts=_facts(infos, config, type(model).__name__, []),
        load_model=lambda: model if device is None else model.to(device),
        load_tokenizer=lambda: tokenizer,
        list_tensors=listing,
    )
    if isinstance(data, str):
        _attach(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=_silent)
    elif data is not None:
        given = _given(data, subject.task, config is not None)
        subject.data, subject.fingerprints["data"] = given, given.fingerprint
    return subject


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
    tokenizer = subject.tokenizer
    if tokenizer is None:
        raise UserError(
            f"a model must come with a tokenizer to read text, got {subject.source} without tokenizer files; "
            "add them (tokenizer.json), or ask a question that reads weights only."
        )
    stated = subject.facts.get("context_length")
    own = loading.context_length(None, tokenizer)
    limit = min([n for n in (stated, own) if n is not None], default=None)
    windows = text_windows(data, tokenizer, n_tokens=n_tokens, window=window, seed=seed, limit=limit, task=subject.task, progress=progress)
    subject.data, subject.fingerprints["data"] = windows, windows.fingerprint


def _facts(infos: list[tensors.TensorInfo], config: Any, architecture: str | None, notes: list[str]) -> dict[str, Any]:
    """What is known without loading: counts, sizes, ties, notes. Only what is known is in it."""
    tied = [[info.name, *info.tied] for info in infos if info.tied]
    facts: dict[str, Any] = {
        "n_parameters": sum(info.numel for info in infos),
        "n_tensors": len(infos),
        "architecture": architecture,
        "tied": tied,
        "notes": notes + [f"{' and '.join(names)} are one tensor, counted once" for names in tied],
    }
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
