"""A GGUF file as a Hugging Face folder, made once by the closed child process and kept in the cache folder.

Reading a GGUF file through transformers takes 15 to 80 s; the converted folder loads in 1 to 4 s. It is named by the hash of
the file, written under a temporary name and renamed, so that a killed conversion leaves nothing half-visible and two at once do
no harm.
"""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models.files import folders, gguf_header, safetensors_header, sandbox, torch_files
from analysis.models.files.disk import read_json
from analysis.models.files.header import Entry, Refused, quoted
from analysis.models.fingerprints import file_digest

if TYPE_CHECKING:
    from analysis.models.opening import Progress

FORMAT = 1
"""Raised when the converted folder changes, so that older ones are made again."""
ABOUT = "sparsescope.json"
_UNQUANTISED = ("F64", "F32", "F16", "BF16")
_GGUF_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
_SUFFIX = re.compile(r"[._-]?(I?Q\d\w*|BF16|F16|F32)$", re.IGNORECASE)


def converted(gguf: Path, progress: Progress) -> Path:
    """The folder holding this GGUF file's model as float32 safetensors, with its tokenizer; made where it is missing."""

    def make(partial: Path) -> None:
        what = f"converting {gguf.name} (once, in a closed process)"
        progress(what, 0, 4)
        contents = gguf_header.read(gguf)
        sandbox.run("gguf_child", gguf, partial, _limits(contents.entries), how={}, strict=False)
        (partial / "summary.json").unlink()
        _check(gguf, partial)
        about = {"file": gguf.name, "parameters_by_type": types_in(contents.entries)}
        (partial / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        progress(what, 4, 4)

    return torch_files.kept(f"gguf-{file_digest(gguf)}-{FORMAT}", 4 * gguf.stat().st_size, make)


def _limits(entries: Sequence[Entry]) -> sandbox.Limits:
    """Three times the 32-bit weights, beside what transformers takes; dequantising runs at about 5 million parameters a second."""
    n = sum(entry.numel for entry in entries)
    seconds = 180 + n // 10**6
    return sandbox.Limits(12 * 10**9 + 12 * n, seconds, 2.0 * seconds, 5 * n + 10**9, descriptors=1024)


def _check(gguf: Path, folder: Path) -> None:
    """What the child wrote: plain files of the kinds a model folder holds, weights with an honest header."""
    for one in folder.iterdir():
        if not stat.S_ISREG(one.lstat().st_mode) or one.suffix not in (".json", ".safetensors", ".txt", ".model", ".jinja"):
            raise Refused(f"{gguf} must become a model folder, got one with {quoted(one.name)}; do not use a file from this source.")
    for file in folders.weight_files(folder):
        safetensors_header.read(file)


def types_in(entries: Sequence[Entry]) -> dict[str, int]:
    """Number of parameters stored in each GGUF type."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts[_GGUF_NAMES.get(entry.dtype, entry.dtype)] += entry.numel
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
