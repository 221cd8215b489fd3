"""Everything of a run that can be taken along, figures and tables, as bundles: for the page and the command line alike.

A run becomes a folder with one folder per figure or table, and beside them the provenance, what to cite, and a README that says what is
there and what is not, and why. The same choice of the same run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from analysis import find_analysis
from analysis.drawing import draw
from analysis.spec import UnknownName, UserError
from figures.bundle import DEFAULT_FORMATS, check_formats, figure_files, origin_files, zipped
from figures.captions import latex_caption, origin
from figures.frames import csv_bytes, parquet_bytes
from figures.latex import table as latex_table
from figures.presets import PLAIN, Preset
from figures.spec import FigureError
from figures.words import visible
from store import RunInfo, Store, StoreError, TableInfo

MOST_ROWS = 1_000_000
"""Rows of a table that a bundle holds; larger ones are for DuckDB, which opens the sealed file itself."""
MOST_BYTES = 400_000_000
"""Of all files of one zip together: it is made in memory."""
TABLE_FORMATS = ("csv", "parquet", "tex")
_OWN = "run"
"""The table every sealed file has of how it was made: the provenance says the same."""

Kind = Literal["figure", "table"]


@dataclass(frozen=True)
class Item:
    """One figure or table of a run."""

    kind: Kind
    slug: str
    title: str
    rows: int = 0
    """Of a table."""

    @property
    def id(self) -> str:
        """Its name in addresses and on the command line, and of its folder."""
        return self.slug if self.kind == "figure" else f"table-{self.slug}"


@dataclass(frozen=True)
class Wish:
    """How things are wanted."""

    preset: Preset = PLAIN
    formats: tuple[str, ...] = DEFAULT_FORMATS
    title: bool = False
    dpi: int = 300


@dataclass(frozen=True)
class Made:
    """The files of one item by name, and a sentence for everything that could not be made."""

    item: Item
    files: Mapping[str, bytes] = field(repr=False)
    left_out: tuple[str, ...] = ()


def items(store: Store, info: RunInfo) -> tuple[Item, ...]:
    """Everything exportable: the figures in their analysis' order, then the tables in the file's."""
    try:
        figures = [Item("figure", one.slug, one.title) for one in find_analysis(info.slug).figures]
    except UnknownName:
        figures = []  # a table needs no registered analysis, a figure does
    tables = [Item("table", one.name, one.comment, one.rows) for one in store.table_info(info) if one.name != _OWN]
    return (*figures, *tables)


def pick(known: Sequence[Item], ids: Iterable[str]) -> tuple[Item, ...]:
    """The items of these ids, in their usual order. Raises `UnknownName` for one the run does not have."""
    wanted = set(ids)
    if unknown := sorted(wanted - {one.id for one in known}):
        raise UnknownName(f"items must be of {', '.join(one.id for one in known)}, got {', '.join(unknown)}; choose from these.")
    return tuple(one for one in known if one.id in wanted)


def make(store: Store, info: RunInfo, item: Item, wish: Wish) -> Made:
    """The files of one item. What cannot be made is said, not raised: one figure must not cost the others."""
    try:
        return _figure(store, info, item, wish) if item.kind == "figure" else _table(store, info, item, wish)
    except (FigureError, UserError, StoreError) as error:
        return Made(item, {}, (str(error),))


def run_files(store: Store, info: RunInfo, chosen: Sequence[Item], wish: Wish) -> Iterator[tuple[Item, dict[str, bytes]]]:
    """Item by item its files under their paths in the bundle; the last item brings the files of the whole with it."""
    check_formats(wish.formats)
    made: list[Made] = []
    for i, item in enumerate(chosen):
        one = make(store, info, item, wish)
        files = {f"{item.id}/{name}": content for name, content in one.files.items()}
        made.append(Made(item, dict.fromkeys(one.files, b""), one.left_out))  # names are enough for the README
        if i == len(chosen) - 1:
            files |= origin_files(cited(store.provenance(info))) | {"README.txt": _readme(info, made).encode()}
        yield item, files


def run_zip(store: Store, info: RunInfo, chosen: Sequence[Item], wish: Wish, tell: Any = lambda item, i: None) -> bytes:
    """All of it as one zip; ``tell(item, i)`` is called before each. Raises `FigureError` where it would be too large."""
    files: dict[str, bytes] = {}
    step = iter(run_files(store, info, chosen, wish))
    for i, item in enumerate(chosen):
        tell(item, i)
        files |= next(step)[1]
        size = sum(map(len, files.values()))
        if size > MOST_BYTES:
            raise FigureError(
                f"the files of one zip must be under {MOST_BYTES // 1_000_000} MB together, got {size // 1_000_000} MB at {item.id}; "
                "take fewer tables, or write a folder with export --all."
            )
    return zipped(files)


def cited(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance with the sources of every intervention the run names among those of its analysis."""
    from analysis.interventions.catalogue import INTERVENTIONS

    config = provenance.get("config") or {}
    named = set((provenance.get("facts") or {}).get("interventions") or ())
    named |= {name.strip() for key in ("interventions", "methods", "method") for name in str(config.get(key, "")).split(",")}
    sources = list(provenance.get("sources") or ())
    sources += [asdict(source) for entry in INTERVENTIONS if entry.slug in named for source in entry.sources]
    return dict(provenance) | {"sources": [one for i, one in enumerate(sources) if one not in sources[:i]]}


# ---------------------------------------------------------------------------------------------------------------------


def _figure(store: Store, info: RunInfo, item: Item, wish: Wish) -> Made:
    spec, provenance = draw(store, info, item.slug)
    look: dict[str, Any] = {"formats": wish.formats, "preset": wish.preset, "title": wish.title, "dpi": wish.dpi}
    files, left_out = figure_files(spec, cited(provenance), name=f"{info.slug}-{item.slug}", **look)
    return Made(item, files, left_out)


def _table(store: Store, info: RunInfo, item: Item, wish: Wish) -> Made:
    about = next(one for one in store.table_info(info) if one.name == item.slug)
    if about.rows > MOST_ROWS:
        return Made(item, {}, (f"it has {about.rows:,} rows, and a bundle holds {MOST_ROWS:,}; any DuckDB client opens {info.path}.",))
    frame, provenance = store.read(info, item.slug), cited(store.provenance(info))
    lines = (about.comment, *(f"{column.name}: {column.comment}" for column in about.columns))
    files: dict[str, bytes] = {}
    left_out = []
    for suffix in [one for one in TABLE_FORMATS if one in wish.formats] or ["csv"]:
        try:
            if suffix == "csv":
                files["data.csv"] = csv_bytes(frame, lines, provenance)
            elif suffix == "parquet":
                files["data.parquet"] = parquet_bytes(frame, lines, provenance, {one.name: one.comment for one in about.columns})
            else:
                files["table.tex"] = _latex(frame, about, info, provenance).encode()
        except FigureError as error:
            left_out.append(f"{suffix}: {error}")
    files["caption.txt"] = ("\n".join(visible(line) for line in (*lines, "", *origin(provenance))) + "\n").encode()
    return Made(item, files, tuple(left_out))


def _latex(frame: Any, about: TableInfo, info: RunInfo, provenance: Mapping[str, Any]) -> str:
    said = latex_caption((about.comment, *origin(provenance)), provenance)
    return latex_table(frame, headings={}, caption=said, name=f"{info.slug}-{about.name}")


def _readme(info: RunInfo, made: Sequence[Made]) -> str:
    """What is in the folder, item by item, and what is not, and why."""
    lines = [f"{info.slug}, run {info.id}, of {info.model}" + (f" on {info.data}" if info.data else ""), ""]
    lines += ["provenance.json says how the numbers were made, references.bib what to cite. make_figure.py redraws a figure from its"]
    lines += ["data.csv with pandas and matplotlib alone. caption.txt and caption.tex are captions to paste.", ""]
    for one in made:
        lines.append(f"{one.item.id}: {one.item.title}")
        lines += [f"  {name}" for name in sorted(one.files)]
        lines += [f"  left out: {words}" for words in one.left_out]
    return "\n".join(visible(line) for line in lines) + "\n"
