"""What can be asked of one table of one run: rows, and answers the database makes so that a page never gets more than it draws.

``derive`` adds or replaces columns for one question (see `store.records`): of another table of the run, of a ratio, of labels
by conditions. Filters, sorting and counting then see those columns like any other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from store.derive import cells, grouped, limits
from store.reading import Pool, to_pandas
from store.records import Derived, Filter, Order, RunInfo

if TYPE_CHECKING:
    import pandas as pd

Ref = RunInfo | str | Path


class Questions:
    """The part of a store that answers questions about tables."""

    pool: Pool

    @abstractmethod
    def _path(self, ref: Ref) -> Path:
        """The sealed file of a run, or a sentence why it cannot be read."""

    def read(
        self,
        run: Ref,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        where: Sequence[Filter] = (),
        order_by: Sequence[Order | str] = (),
        limit: int | None = None,
        offset: int = 0,
        derive: Sequence[Derived] = (),
    ) -> pd.DataFrame:
        """Rows of one table of one run. Missing floats are NaN in the frame, as pandas has no other word for them."""
        with self.pool.reader(self._path(run)) as reader:
            return to_pandas(reader.rows(table, columns, where, order_by, limit, offset, derive))

    def count(self, run: Ref, table: str, where: Sequence[Filter] = (), derive: Sequence[Derived] = ()) -> int:
        """How many rows of a table fulfil all conditions."""
        with self.pool.reader(self._path(run)) as reader:
            return reader.count(table, where, derive)

    def groups(
        self, run: Ref, table: str, by: Sequence[str], *, where: Sequence[Filter] = (), derive: Sequence[Derived] = ()
    ) -> pd.DataFrame:
        """How many rows there are of every combination of values of ``by``: those columns, sorted, and ``n_rows``."""
        with self.pool.reader(self._path(run)) as reader:
            return to_pandas(grouped(reader, table, by, where, derive))

    def limits(
        self, run: Ref, table: str, columns: Sequence[str], *, where: Sequence[Filter] = (), derive: Sequence[Derived] = ()
    ) -> dict[str, tuple[float, float] | None]:
        """The smallest and the largest value of each column of numbers; None where it has none."""
        with self.pool.reader(self._path(run)) as reader:
            return limits(reader, table, columns, where, derive)

    def cells(
        self,
        run: Ref,
        table: str,
        x: str,
        y: str,
        *,
        columns: Sequence[str] = (),
        log_x: bool = False,
        shape: tuple[int, int] = (360, 180),
        where: Sequence[Filter] = (),
        derive: Sequence[Derived] = (),
    ) -> pd.DataFrame:
        """A scatter thinned to what can be told apart: the first row of each occupied cell of a grid over x and y.

        Every row is in exactly one cell, so none that stands alone is lost. The frame has x, y, ``columns`` and ``n_rows``, the rows
        that the shown one stands for. With ``log_x`` columns of the grid are equally wide in log x, and values of x that
        are 0 or less have a column of their own. Rows without an x or a y are left out.
        """
        with self.pool.reader(self._path(run)) as reader:
            return to_pandas(cells(reader, table, (x, y), columns, log_x, shape, where, derive))
