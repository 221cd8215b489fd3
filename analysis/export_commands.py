"""The commands that take a finding out of the store: export-masks, export-model and report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.spec import UserError


def add_exports(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add them to the command line."""
    for name, words, to in (
        ("export-masks", "which weights a pruned model keeps, as safetensors", "FILE"),
        ("export-model", "a pruned model as a folder that transformers opens", "FOLDER"),
    ):
        one = commands.add_parser(name, help=words, description=f"{words}; of an essential_sparsity or allocation run.")
        one.add_argument("run", metavar="RUN", help="run id, the beginning of one, or the path of a sealed file")
        one.add_argument("--level", type=float, required=True, metavar="L", help="share of the scope that is removed, 0 to 1")
        one.add_argument("--to", type=Path, required=True, metavar=to, help="where to; must be new")
        one.add_argument("--curve", default="", help="one of the run's curves, as its legend names it (default: the first)")
        one.add_argument("--model", default="", help="where the model is now (default: where it was)")
        one.add_argument("--data", default="", help="the data of the run (default: by the name it had)")
        add_store(one)
        one.set_defaults(command=_export, what=name)
    words = "one model in one HTML file: its numbers, figures, limits, and what was not measured"
    one = commands.add_parser("report", help=words, description=words)
    one.add_argument("model", metavar="MODEL", help="its name, where it came from, or the beginning of the fingerprint of its weights")
    one.add_argument("--to", type=Path, required=True, metavar="FILE.html", help="file to write")
    add_store(one)
    one.set_defaults(command=_report)


def _export(options: argparse.Namespace) -> int:
    from analysis.interventions.spec import check_level
    from analysis.sensitivity.exporting import export_masks, export_model
    from store import Store

    write = export_masks if options.what == "export-masks" else export_model
    level = check_level(options.level)
    print(write(Store(options.store), options.run, level, options.to, curve=options.curve, model=options.model, data=options.data))
    return 0


def _report(options: argparse.Namespace) -> int:
    from analysis.report.gathering import runs_of
    from analysis.report.page import report_html
    from figures.export import write
    from store import Store

    if options.to.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a report must be written to a file ending in .html, got {str(options.to)!r}; choose another name.")
    store = Store(options.store)
    write(options.to, report_html(store, runs_of(store, options.model)))
    print(options.to)
    return 0
