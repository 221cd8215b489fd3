"""What a user may type after --data: a name or a path, and after a question mark which fields hold what.

``reviews.jsonl?text=body&label=stars`` reads the text of each record from ``body`` and its class from ``stars``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from analysis.models.places import cannot_read
from analysis.spec import UserError

Kind = Literal["text", "jsonl", "dataset", "arrays", "images", "digits"]

PYTHON_DOCS, DIGITS = "python-docs", "digits"
BUILT_IN = (PYTHON_DOCS, DIGITS)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npz", ".npy", ".pt", ".pth", ".safetensors")
DATA_WORDS = (
    "python-docs or digits, a text or .jsonl file, a folder of .txt files or of images, a saved Hugging Face dataset, "
    "or a .npz, .pt or .safetensors file of arrays"
)

_SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "dataset", ".arrow": "dataset"}
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "text": (),
    "jsonl": ("text", "label", "target"),
    "dataset": ("text", "label", "target", "image", "split"),
    "arrays": ("x", "y"),
    "images": (),
    "digits": (),
}
_WORDS: dict[Kind, str] = {
    "text": "text",
    "jsonl": "records, one a line",
    "dataset": "a saved dataset",
    "arrays": "arrays",
    "images": "images",
    "digits": "images of digits",
}


@dataclass(frozen=True)
class DataName:
    """DATA, taken apart."""

    path: Path
    kind: Kind
    options: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What kind of data it is, in words."""
        return _WORDS[self.kind]


def data_name(data: str) -> DataName:
    """DATA taken apart and recognised. Raises `UserError` where nothing is there, or an option does not belong to its kind."""
    if data in BUILT_IN:
        return DataName(Path(data), "digits" if data == DIGITS else "text")
    path, options = _split(data)
    try:
        if not data or not path.exists():
            raise UserError(f"the data must be {DATA_WORDS}, got {data!r}; check the path.")
        kind = _folder_kind(path) if path.is_dir() else _SUFFIXES.get(path.suffix.lower(), _file_kind(path))
    except OSError as error:
        raise cannot_read(path, error) from error
    for name in options:
        if name not in _OPTIONS[kind]:
            known = ", ".join(_OPTIONS[kind]) or "none"
            raise UserError(f"the fields that can be named of {_WORDS[kind]} are {known}, got {name!r} in {data!r}; leave it out.")
    return DataName(path, kind, options)


def check_data(data: str) -> None:
    """Raise the sentence for data that are not there or cannot be recognised; text, records and datasets are opened, too."""
    named = data_name(data)
    if named.kind in ("text", "jsonl"):
        from analysis.models.documents import open_documents

        open_documents(data)


def filed(data: str) -> str:
    """DATA as it is filed: built-in names as they are, everything that is on this machine as an absolute path."""
    path, options = _split(data)
    if data in BUILT_IN or not path.exists():
        return data
    return str(path.resolve()) + ("?" + data.rpartition("?")[2] if options else "")


def _split(data: str) -> tuple[Path, dict[str, str]]:
    path = Path(data).expanduser()
    before, mark, after = data.rpartition("?")
    if not mark or path.exists():
        return path, {}
    return Path(before).expanduser(), dict(parse_qsl(after, keep_blank_values=True))


def _file_kind(path: Path) -> Kind:
    return "arrays" if path.suffix.lower() in ARRAY_SUFFIXES else "text"


def _folder_kind(path: Path) -> Kind:
    """By what the folder holds most of: a saved dataset's own files go first."""
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "dataset"
    counts: Counter[str] = Counter()
    for file in path.rglob("*"):
        suffix = file.suffix.lower()
        counts["images" if suffix in IMAGE_SUFFIXES else "dataset" if suffix == ".parquet" else suffix] += 1
    texts, images, records = counts[".txt"], counts["images"], counts["dataset"]
    if not texts + images + records:
        raise UserError(
            f"a data folder must hold .txt files, images or a saved dataset, got {path} with none; put each document into a .txt file."
        )
    return "dataset" if records > max(texts, images) else "images" if images > texts else "text"
