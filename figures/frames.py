"""Rows as files that other programs read: CSV for every program, Parquet with types, units and provenance inside.

The same rows give the same bytes: no date is written, and the order is that of the rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from figures.spec import FigureError
from figures.words import provenance_line, visible


def csv_bytes(frame: Any, lines: Sequence[str], provenance: Mapping[str, Any]) -> bytes:
    """The rows, every digit kept, below comment lines with what they are and the provenance.

    Read back with ``pandas.read_csv(path, comment="#", float_precision="round_trip")``. Texts are quoted, so that a
    ``#`` in a name is no comment. A list in a cell is written as JSON.
    """
    out = io.StringIO()
    out.writelines(f"# {visible(line)}\n" for line in (*lines, f"provenance: {provenance_line(provenance)}"))
    _flat(frame).to_csv(out, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return out.getvalue().encode()


def parquet_bytes(frame: Any, lines: Sequence[str], provenance: Mapping[str, Any], meanings: Mapping[str, str] | None = None) -> bytes:
    """The rows with their types; what they are and the provenance are in the schema, what a column means in its field."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise FigureError(f"a column of a Parquet file must hold values of one type, got a mixture ({error}); take CSV instead.") from error
    fields = [field.with_metadata({"comment": (meanings or {}).get(field.name, "")}) for field in table.schema]
    about = {"caption": "\n".join(lines), "provenance": provenance_line(provenance)}
    schema = pa.schema(fields, metadata={**(table.schema.metadata or {}), **about})
    out = io.BytesIO()
    pq.write_table(table.cast(schema), out, compression="zstd")
    return out.getvalue()


def _flat(frame: Any) -> Any:
    lists = {name: frame[name].map(_as_json, na_action="ignore") for name in frame.columns if _holds_lists(frame[name])}
    return frame.assign(**lists)


def _holds_lists(column: Any) -> bool:
    there = column.dropna() if column.dtype == object else ()
    return len(there) > 0 and hasattr(there.iloc[0], "__len__") and not isinstance(there.iloc[0], str)


def _as_json(values: Any) -> str:
    return json.dumps([one.item() if hasattr(one, "item") else one for one in values])
