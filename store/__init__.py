"""Results that stay: sealed runs in DuckDB, found through a catalogue in SQLite. Knows nothing of models.

with store.begin(key, record) as attempt:
    for unit in units:
        if unit not in attempt.done():
            attempt.commit(unit, tables, state)
    path = attempt.seal(layouts, provenance)
store.read(path, "layers", where=[Filter("layer", "<", 4)], order_by=["density"])
"""

from store.attempt import Attempt
from store.errors import JobNotFound, NoSpace, RunLocked, RunNotFound, StoreError
from store.jobs import Job, JobStatus
from store.labels import Label
from store.models import ModelInfo
from store.records import Case, ColumnInfo, Derived, Filter, Lookup, Order, Ratio, RunInfo, TableInfo, TableLayout
from store.store import Store
from store.unfinished import Unfinished

__all__ = [
    "Attempt",
    "Case",
    "ColumnInfo",
    "Derived",
    "Filter",
    "Job",
    "JobNotFound",
    "JobStatus",
    "Label",
    "Lookup",
    "ModelInfo",
    "NoSpace",
    "Order",
    "Ratio",
    "RunInfo",
    "RunLocked",
    "RunNotFound",
    "Store",
    "StoreError",
    "TableInfo",
    "TableLayout",
    "Unfinished",
]
