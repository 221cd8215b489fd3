"""A GGUF file as a Hugging Face folder, made once and kept in the cache folder.

Reading a GGUF file through transformers takes 15 to 80 s; the converted folder loads in 1 to 4 s. It is named by the hash of
the file, written under a temporary name and renamed, so that a killed conversion leaves nothing half-visible and two at once do
no harm.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models.fingerprints import file_digest
from analysis.models.loading import quiet
from analysis.models.places import cache_folder, read_json
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.models.opening import Progress

FORMAT = 1
"""Raised when the converted folder changes, so that older ones are made again."""
ABOUT = "sparsescope.json"
_STALE_S = 3600.0
_UNQUANTISED = ("F64", "F32", "F16", "BF16")
_SUFFIX = re.compile(r"[._-]?(I?Q\d\w*|BF16|F16|F32)$", re.IGNORECASE)


def converted(gguf: Path, progress: Progress) -> Path:
    """The folder holding this GGUF file's model as float32 safetensors, with its tokenizer; made where it is missing."""
    folder = cache_folder() / f"gguf-{file_digest(gguf)}-{FORMAT}"
    if folder.is_dir():
        return folder
    remove_stale(cache_folder())
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        _write(gguf, partial, progress)
        try:
            os.rename(partial, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and made the same
                raise
    except OSError as error:
        raise UserError(
            f"the cache folder must have room for the converted {gguf.name}, got {folder.parent} ({error}); "
            "free some space or set SPARSESCOPE_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def remove_stale(cache: Path) -> None:
    """Remove conversions that were killed: temporary folders untouched for an hour."""
    for left in cache.glob("gguf-*.tmp"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _write(gguf: Path, partial: Path, progress: Progress) -> None:
    from safetensors import SafetensorError

    what = f"converting {gguf.name} (once)"
    progress(what, 0, 4)
    about = {"file": gguf.name, "parameters_by_type": types_in(gguf)}
    progress(what, 1, 4)
    model, tokenizer = _read(gguf)
    progress(what, 3, 4)
    model.hf_quantizer = None  # what is saved is plain float32; a reader must not look for the GGUF file again
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        with quiet():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    (partial / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    progress(what, 4, 4)


def _read(gguf: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        # The reader draws a bar of its own on stderr, whatever transformers' settings say; errors are raised, not printed.
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    except (ValueError, KeyError, NotImplementedError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{gguf} must be a language model whose GGUF architecture transformers can read, got: {first}; use its safetensors version."
        ) from error
    return model, tokenizer


def types_in(gguf: Path) -> dict[str, int]:
    """Number of parameters stored in each GGUF type, from the file's header. Raises `UserError` where that cannot be read."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise UserError(f"{gguf} must be a complete GGUF file, got one that cannot be read ({error}); get it again.") from error
    counts: Counter[str] = Counter()
    for tensor in reader.tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    return dict(counts.most_common())


def about(folder: Path) -> dict[str, Any]:
    """What was noted at conversion: the file's name and its parameters by GGUF type."""
    return read_json(folder / ABOUT)


def label_of(noted: dict[str, Any]) -> str:
    """The label of a converted model, e.g. ``SmolLM2-135M-Instruct (dequantised Q4_1)``."""
    stem = Path(noted["file"]).stem
    kinds = [kind for kind in noted["parameters_by_type"] if kind not in _UNQUANTISED]
    return f"{_SUFFIX.sub('', stem) or stem} (dequantised {kinds[0]})" if kinds else stem


def notes_of(noted: dict[str, Any]) -> list[str]:
    """Sentences that must accompany every number from this model."""
    types: dict[str, int] = noted["parameters_by_type"]
    total = sum(types.values())
    notes = []
    for kind, count in types.items():
        bits = re.match(r"I?Q(\d)", kind)
        if kind not in _UNQUANTISED:
            width = f"{bits.group(1)}-bit ({kind})" if bits else kind
            what = "linear weights are" if count > total / 2 else "some weights are"
            notes.append(f"{what} dequantised {width} values: {count:,} of {total:,} parameters")
    return notes
