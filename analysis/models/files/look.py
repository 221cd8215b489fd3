"""Header first: what a file or folder holds, in milliseconds whatever its size, without torch and without reading one weight.

1. The kind, by the first bytes.
2. The structure, checked: safetensors header, zip directory, GGUF header; a pickle is never executed here.
3. What kind of model it seems to be, from config.json or from the tensors' names; what is missing, and what that leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.models.files import folders, gguf_header, safetensors_header, sniff, zips
from analysis.models.files.header import Entry, Header, check_count, quoted, size_words
from analysis.models.files.packed import note_of, packed_in
from analysis.spec import UnknownName, UserError

_NO_CONFIG = "there is no config.json: the model cannot be built and run, and questions about its weights alone can be answered"
_NO_TOKENIZER = "there are no tokenizer files: the model cannot read text"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
CONVERT = "its tensors are listed once it has been converted in a closed process"
_GUESSES: Sequence[tuple[str, str]] = (
    (r"lora_[AB]\b", "a LoRA adapter, which needs its base model"),
    (r"^(W_enc|W_dec|encoder\.weight|decoder\.weight)$", "an autoencoder, perhaps a sparse one"),
    (r"layers\.\d+\.mlp\.gate_proj", "a gated decoder of the LLaMA family"),
    (r"experts\.\d+\.|experts\.(gate_up|down)_proj", "a mixture of experts"),
    (r"\bh\.\d+\.attn\.c_attn", "a decoder of the GPT-2 family"),
    (r"gpt_neox\.layers\.\d+", "a decoder of the GPT-NeoX family"),
    (r"decoder\.layers\.\d+\.fc1", "a decoder of the OPT or BART family"),
    (r"encoder\.layer\.\d+\.attention\.self", "an encoder of the BERT family"),
    (r"(encoder|decoder)\.block\.\d+\.layer", "an encoder-decoder of the T5 family"),
    (r"patch_embed", "a vision transformer"),
    (r"mixer\.(A_log|in_proj)", "a state-space model of the Mamba family"),
    (r"weight_ih_l\d", "a recurrent network"),
    (r"self_attn\.in_proj_weight", "a transformer made of torch's own layers"),
    (r"blk\.\d+\.", "a language model converted to GGUF"),
)


def look(path: str | Path) -> Header:
    """What PATH holds. Raises `UnknownName` where nothing is there; what is there but not opened has its sentence in `Header.refusal`."""
    path = Path(path).expanduser()
    if not path.exists():
        raise UnknownName(f"the path must be a file or folder on this machine, got {quoted(str(path))}; check the spelling.")
    kind = "folder" if path.is_dir() else "other"
    try:
        if path.is_dir():
            found = folders.steps(path)
            return _series(path, found) if found else _folder(path)
        kind = sniff.kind_of(path)
        return _file(path, kind)
    except UserError as error:
        size = path.stat().st_size if path.is_file() else 0
        return Header(path, kind, sniff.WORDS.get(kind, "no model"), size, files=(path.name,), refusal=str(error))


def check_file(path: Path) -> str:
    """The kind of a weight file whose structure has been checked. Raises the sentence for one that is not opened."""
    kind = sniff.kind_of(path)
    if kind == "zip":
        found = zips.entries(path)
        kind = zips.kind_of(found)
        if kind == "torch":
            zips.check_stored(path, found)
        elif kind == "zip":
            zips.members_of_folder(path, found)
    if kind == "safetensors":
        safetensors_header.read(path)
    elif kind == "gguf":
        gguf_header.read(path)
    elif kind not in ("torch", "legacy", "zip", "exported"):
        raise sniff.refusal(path, kind)
    return kind


def _file(path: Path, kind: str) -> Header:
    size = path.stat().st_size
    if kind == "safetensors":
        found = safetensors_header.read(path)
        header = Header(path, kind, sniff.WORDS[kind], size, (path.name,), found.entries, found.metadata)
        return _judged(header, folders.config_of(path.parent) if _is_whole(path) else None, path.parent)
    if kind == "gguf":
        listed = gguf_header.read(path)
        header = Header(path, kind, sniff.WORDS[kind], size, (path.name,), listed.entries, listed.metadata, can_run=True)
        seems = listed.metadata.get("general.architecture")
        notes = ("dequantised to 32-bit numbers when it is opened",)
        return replace(header, seems=f"a {seems} model" if seems else guess(listed.entries), notes=notes)
    kind = check_file(path)
    header = Header(path, kind, sniff.WORDS[kind], size, (path.name,), must_convert=True, notes=(CONVERT,))
    if kind == "zip":
        members = tuple(sorted(zips.members_of_folder(path, zips.entries(path))))
        tokenizer = () if set(members) & set(_TOKENIZERS) else (_NO_TOKENIZER,)
        return replace(header, files=members, seems="a model in a Hugging Face folder", can_run=True, missing=tokenizer)
    if kind == "exported":
        from analysis.models.trust import refuse_exported

        return replace(header, refusal=str(refuse_exported(path)), can_run=True)
    return _judged(header, folders.config_of(path.parent) if _is_whole(path) else None, path.parent)


def _is_whole(path: Path) -> bool:
    """Whether the file is all of the weights of the model folder it lies in."""
    return (path.parent / "config.json").is_file() and folders.weight_files(path.parent) == (path,)


def _folder(path: Path) -> Header:
    config = folders.config_of(path)
    if config is None:
        ggufs = sorted(path.glob("*.gguf"))
        only = ggufs[0] if len(ggufs) == 1 else folders.adapter_file(path)
        if only is not None:
            return look(only)
        raise UserError(
            f"a model folder must hold config.json and weights, got {path} without config.json; name another folder, or one file."
        )
    files = folders.weight_files(path)
    entries: list[Entry] = []
    metadata: dict[str, str] = {}
    must_convert = False
    for file in files:
        kind = check_file(file)
        if kind == "safetensors":
            found = safetensors_header.read(file)
            entries += [replace(entry, file=file.name) for entry in found.entries]
            metadata |= found.metadata
            check_count(len(entries), str(path))
        elif kind in ("torch", "legacy"):
            must_convert = True
        else:
            raise UserError(f"a model folder must hold .safetensors or torch files, got {file}, {sniff.WORDS[kind]}; name the file itself.")
    names = {entry.name for entry in entries}
    if len(names) != len(entries):
        raise UserError(f"the files of {path} must name every tensor once, got one in two of them; get the model again.")
    size = sum(file.stat().st_size for file in files)
    words = f"{sniff.WORDS['folder']} of {len(files)} weight file{'s' * (len(files) > 1)}"
    listed = () if must_convert else tuple(_tied_by_config(entries, config))
    header = Header(path, "folder", words, size, tuple(f.name for f in files), listed, metadata, must_convert=must_convert)
    return _judged(header, config, path)


def _tied_by_config(entries: list[Entry], config: dict[str, Any]) -> Iterable[Entry]:
    """The input embedding also stands for an output matrix that is absent, where the config ties the two."""
    tied = config.get("tie_word_embeddings") and not any(e.name.endswith("lm_head.weight") for e in entries)
    for entry in entries:
        is_input = re.search(r"(embed_tokens|wte|embed_in|shared)\.weight$", entry.name)
        yield replace(entry, tied=(*entry.tied, "lm_head.weight")) if tied and is_input and not entry.tied else entry


def _judged(header: Header, config: dict[str, Any] | None, folder: Path) -> Header:
    """The header with what it seems to be, what is missing and what is odd."""
    missing, notes = [], list(header.notes)
    if config is None:
        missing.append(_NO_CONFIG)
    elif not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append(_NO_TOKENIZER)
    if config is not None:
        code = sorted(one.name for one in folder.glob("*.py"))
        if code:
            notes.append(f"the folder holds Python files ({', '.join(code[:3])}), which are never run")
    empty = [entry.name for entry in header.tensors if not entry.numel]
    if empty:
        first = quoted(empty[0])
        notes.append(f"{first} has no elements" if len(empty) == 1 else f"{len(empty)} tensors have no elements, for example {first}")
    unread = note_of(packed_in(header.tensors))
    notes += [unread] if unread else []
    if header.must_convert and CONVERT not in notes:
        notes.append(CONVERT)
    seems = _by_config(config) if config is not None else guess(header.tensors)
    return replace(header, seems=seems, missing=tuple(missing), notes=tuple(notes), can_run=config is not None)


def _by_config(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type", "an architecture that config.json does not name")
    layers = next((config[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if isinstance(config.get(key), int)), None)
    return f"{name}, {layers} layers" if layers is not None else str(name)


def guess(entries: Sequence[Entry]) -> str:
    """What kind of model tensors of such names and shapes seem to belong to, in words."""
    for pattern, words in _GUESSES:
        if any(re.search(pattern, entry.name) for entry in entries[:5_000]):
            return words
    if any(len(entry.shape) == 4 for entry in entries):
        return "a convolutional network"
    return "a network of unknown kind" if entries else "unknown until it has been converted"


def _series(path: Path, found: Sequence[Any]) -> Header:
    """The first checkpoint stands for all."""
    first = look(found[0].path)
    size = sum(sum(f.stat().st_size for f in ([s.path] if s.path.is_file() else s.path.iterdir()) if f.is_file()) for s in found)
    words = f"{sniff.WORDS['series']}: {len(found)} steps from {found[0].step:,} to {found[-1].step:,}, {size_words(size)}"
    note = f"listed are the tensors of step {found[0].step:,}"
    return replace(first, path=path, kind="series", kind_words=words, n_bytes=size, steps=tuple(found), notes=(*first.notes, note))
