"""The command that draws: one figure of a run into one file, or everything of a run into a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.spec import UserError
from figures.presets import PLAIN, PRESETS, TYPEFACES
from figures.spec import SUFFIXES


def add_export(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add it to the command line."""
    words = "draw a figure of a run to a file, or everything of a run to a folder"
    one = commands.add_parser("export", help=words, description=f"{words}: export RUN FIGURE --to FILE, or export --all RUN --to DIR.")
    one.add_argument("run", metavar="RUN", help="run id, the beginning of one, or the path of a sealed file")
    one.add_argument("figure", metavar="FIGURE", nargs="?", help="slug of the figure (describe lists them)")
    one.add_argument("--all", action="store_true", help="every figure and table, each with data, caption, references and a script")
    one.add_argument("--to", required=True, type=Path, metavar="FILE", help=f"FILE ending in {', '.join(SUFFIXES)}; with --all a folder")
    one.add_argument("--preset", default=PLAIN.slug, metavar="PLACE", help=f"width and letters: {', '.join(PRESETS)} (default: plain)")
    one.add_argument("--typeface", choices=TYPEFACES, help="letters with serifs or without (default: as the preset says)")
    one.add_argument("--title", action="store_true", help="write the title above the figure (papers have it in the caption)")
    one.add_argument("--dpi", type=int, default=300, help="dots per inch of a PNG (default: 300)")
    one.add_argument("--formats", default="pdf,svg,png", metavar="F,F", help="with --all: formats, with commas (default: pdf,svg,png)")
    add_store(one)
    one.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    from figures.presets import find_preset
    from store import Store

    if options.all == (options.figure is not None):
        got = f"--all and {options.figure}" if options.all else "neither"
        raise UserError(f"export must be given a figure or --all, got {got}; describe lists the figures of an analysis.")
    store = Store(options.store)
    info = store.find(options.run)
    preset = find_preset(options.preset, options.typeface)
    if not options.all:
        from analysis.drawing import draw
        from analysis.gallery import cited
        from figures.export import export

        spec, provenance = draw(store, info, options.figure)
        print(export(spec, options.to, cited(provenance), preset=preset, title=options.title, dpi=options.dpi))
        return 0
    _export_all(options, store, info, preset)
    print(options.to)
    return 0


def _export_all(options: argparse.Namespace, store: Any, info: Any, preset: Any) -> None:
    from analysis.gallery import Wish, items, run_files
    from figures.bundle import check_formats
    from figures.export import write

    wish = Wish(preset, check_formats(options.formats.split(",")), options.title, options.dpi)
    chosen = items(store, info)
    if options.to.exists() and not options.to.is_dir():
        raise UserError(f"--to must be a folder with --all, got the file {options.to}; choose another name.")
    if options.to.is_dir() and any(options.to.iterdir()):  # files of an earlier export would stand among these and look like them
        raise UserError(f"--to must be a new or empty folder with --all, got {options.to}, which holds files; choose another name.")
    for i, (item, files) in enumerate(run_files(store, info, chosen, wish), 1):
        print(f"{i} of {len(chosen)}: {item.id}" + ("" if files else " (left out; README.txt says why)"), file=sys.stderr)
        for name, content in files.items():
            path = options.to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, content)
