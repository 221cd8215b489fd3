"""Records as documents: lines of a JSONL file, rows of a Hugging Face dataset saved on disk (Arrow or Parquet files).

Files are read with a JSON and an Arrow reader; a dataset's own code is never looked at. A record is read when it is visited: of a
JSONL file only where lines begin is kept, of an Arrow file nothing (it is mapped), of a Parquet file one group of rows.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

from analysis.models.documents import Document
from analysis.models.inputs.naming import DataName
from analysis.models.places import cannot_read, read_json
from analysis.spec import UserError

_SPLITS = ("test", "validation", "train")
"""The order in which a split is chosen where none is named."""


class Records(Sequence[Document]):
    """Documents that are made when asked for, so that a file of millions of records takes little memory."""

    def __init__(self, source: Any, options: Mapping[str, str]) -> None:
        self._source, self._options = source, options

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        return Document(
            self._source.where(row),
            lambda: self._words(row, "text") or "",
            lambda: self._source.label(self._field(row, "label")),
            lambda: self._words(row, "target"),
        )

    @property
    def label_names(self) -> list[str] | None:
        """All names of classes in order, where the data say them."""
        return self._source.names(self._options.get("label", "label"))

    def image(self, row: int) -> bytes:
        """The encoded image of a record."""
        value = self._field(row, "image")
        content = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(content, bytes):
            raise UserError(
                f"{self._source.where(row)} must hold the bytes of an image, got {_kind(content)}; save the dataset with its files."
            )
        return content

    @property
    def has_images(self) -> bool:
        """Whether the first record has a field of images."""
        return len(self) > 0 and self._options.get("image", "image") in self._source.read(0)

    def _words(self, row: int, what: str) -> str | None:
        value = self._field(row, what)
        if value is not None and not isinstance(value, str):
            name = self._options.get(what, what)
            raise UserError(f"{name!r} of {self._source.where(row)} must be text, got {_kind(value)}; correct it or name another field.")
        return value

    def _field(self, row: int, what: str) -> Any:
        record, name = self._source.read(row), self._options.get(what, what)
        if name in record:
            return record[name]
        if what in self._options or what in ("text", "image"):
            fields = ", ".join(map(str, record)) or "none"
            raise UserError(
                f"each record must have a field {name!r}, got {self._source.where(row)} with {fields}; "
                f"name the field with DATA?{what}=FIELD."
            )
        return None


def open_records(named: DataName) -> tuple[str, Records]:
    """Name and records of a JSONL file or a saved dataset."""
    if named.kind == "jsonl":
        name, source = named.path.name, _Lines(named.path)
    else:
        name, source = _dataset(named.path, named.options.get("split"))
    if not len(source):
        raise UserError(f"the data must hold at least one record, got {named.path} with none; give some records.")
    records = Records(source, named.options)
    if named.kind == "jsonl" or not records.has_images:
        records[0].read()  # a wrong field is told before anything else is done
    return name, records


class _Lines:
    """The lines of a JSONL file that are not blank."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._numbers = array("q"), array("q")
        place = 0
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        self._starts.append(place)
                        self._numbers.append(number)
                    place += len(line)
        except OSError as error:
            raise cannot_read(path, error) from error

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, row: int) -> str:
        return f"{self._path.name} line {self._numbers[row]}"

    def names(self, _field: str) -> None:
        return None

    def label(self, value: Any) -> str | int | None:
        if value is not None and not isinstance(value, str | int):
            raise UserError(f"a label must be a name or a whole number, got {value!r} in {self._path.name}; correct it.")
        return value

    def read(self, row: int) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._starts[row])
                line = file.readline()
            found = json.loads(line.decode("utf-8-sig"))
        except OSError as error:
            raise cannot_read(self._path, error) from error
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{self.where(row)} must be a JSON object, got one that cannot be read ({error}); correct or remove the line."
            ) from error
        if not isinstance(found, dict):
            raise UserError(f'{self.where(row)} must be a JSON object, got {_kind(found)}; write records as {{"text": ...}}.')
        return found


# ---------------------------------------------------------------------------------------------------------------------


class _Rows:
    """The rows of Arrow or Parquet files, in order."""

    def __init__(self, name: str, chunks: Sequence[tuple[int, Callable[[], Any]]], info: Mapping[str, Any]) -> None:
        self._name, self._info = name, info
        self._ends = array("q")
        for n, _ in chunks:
            self._ends.append(n + (self._ends[-1] if self._ends else 0))
        self._load = lru_cache(maxsize=4)(lambda i: chunks[i][1]())

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, row: int) -> str:
        return f"{self._name} row {row}"

    def names(self, field: str) -> list[str] | None:
        features = self._info.get("features")
        feature = features.get(field) if isinstance(features, Mapping) else None
        names = feature.get("names") if isinstance(feature, Mapping) else None
        return [str(name) for name in names] if isinstance(names, list) else None

    @cached_property
    def _label_names(self) -> list[str] | None:
        features = self._info.get("features")
        named = [names for field in features if (names := self.names(field))] if isinstance(features, Mapping) else []
        return named[0] if len(named) == 1 else None

    def label(self, value: Any) -> str | int | None:
        if value is not None and not isinstance(value, str | int):
            raise UserError(
                f"a label must be a name or a whole number, got {_kind(value)} in {self._name}; name another field with ?label=FIELD."
            )
        names = self._label_names
        return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value

    def read(self, row: int) -> dict[str, Any]:
        from bisect import bisect_right

        chunk = bisect_right(self._ends, row)
        first = self._ends[chunk - 1] if chunk else 0
        return self._load(chunk).slice(row - first, 1).to_pylist()[0]


def _dataset(path: Path, split: str | None) -> tuple[str, _Rows]:
    import pyarrow as pa

    folder, name = path, path.name
    if (path / "dataset_dict.json").is_file():
        listed = read_json(path / "dataset_dict.json")
        known = [str(s) for s in listed.get("splits", [])] if isinstance(listed, Mapping) else []
        known = [s for s in known if Path(s).name == s and (path / s).is_dir()]  # names come from whoever made the file
        chosen = split or next((s for s in (*_SPLITS, *known) if s in known), None)
        if chosen not in known:
            raise UserError(f"the split must be one of {', '.join(known) or 'none'}, got {chosen!r} in {path}; name one with ?split=NAME.")
        folder, name = path / str(chosen), f"{path.name}/{chosen}"
    files = [folder] if folder.is_file() else _files(folder)
    info = read_json(folder / "dataset_info.json") if (folder / "dataset_info.json").is_file() else {}
    try:
        chunks = [chunk for file in files for chunk in (_parquet(file) if file.suffix == ".parquet" else _arrow(file))]
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(
            f"{path} must hold complete Arrow or Parquet files, got one that cannot be read ({first}); save it again."
        ) from error
    return name, _Rows(name, chunks, info if isinstance(info, Mapping) else {})


def _files(folder: Path) -> list[Path]:
    """The files of one split: those its state lists, else all Arrow or Parquet files below it."""
    if (folder / "state.json").is_file():
        state = read_json(folder / "state.json")
        try:
            names = [str(entry["filename"]) for entry in state["_data_files"]]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'state.json'} must list the dataset's files, got one that does not; save the dataset again."
            ) from error
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise UserError(f"a saved dataset must hold the files it lists, got {folder} without {missing[0]!r}; save it again.")
        return [folder / name for name in names]
    return sorted(folder.rglob("*.parquet")) or sorted(folder.rglob("*.arrow"))


def _arrow(path: Path) -> list[tuple[int, Callable[[], Any]]]:
    """One chunk: the file mapped into memory, not read."""
    import pyarrow as pa

    mapped = pa.memory_map(str(path))
    try:
        table = pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(mapped).read_all()
    return [(table.num_rows, lambda: table)]


def _parquet(path: Path) -> list[tuple[int, Callable[[], Any]]]:
    """One chunk per group of rows."""
    import pyarrow.parquet as pq

    meta = pq.read_metadata(path)

    def load(group: int) -> Any:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group)

    return [(meta.row_group(g).num_rows, lambda g=g: load(g)) for g in range(meta.num_row_groups)]


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
