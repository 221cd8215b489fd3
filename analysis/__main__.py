"""Command line: list, describe, run, jobs, runs, export, export-masks, export-model, sql, labels, glossary, serve. Scripts use it, too.

Progress goes to stderr; the last line of ``run`` and ``export`` on stdout is the path of the file made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import ANALYSES, find_analysis
from analysis.commands import add_commands, add_executor_flags, add_queue_flags, add_trust_flags, run
from analysis.data_commands import add_data
from analysis.export_commands import add_exports
from analysis.figure_commands import add_export
from analysis.live.command import add_live
from analysis.models.inputs import DATA_WORDS
from analysis.spec import EVIDENCE_WORDS, Analysis, Setting, UserError, settings_of
from analysis.store_commands import add_store_commands
from figures.spec import FigureError
from store import StoreError

DEFAULT_STORE = "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one sentence on stderr where the user can put something right."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except (UserError, StoreError, FigureError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept, and the same command goes on from there.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line; each analysis' flags are derived from its config."""
    top = argparse.ArgumentParser(prog="python -m analysis", description="Which parts of this model matter?")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("list", help="every analysis, or every intervention, a line each")
    one.add_argument("--interventions", action="store_true", help="ways of making a model sparser: what each acts on, and what can use it")
    one.set_defaults(command=_list)

    one = commands.add_parser("describe", help="what an analysis measures, its settings, tables and figures; or what an intervention does")
    one.add_argument("slug", metavar="SLUG")
    one.set_defaults(command=_describe)

    one = commands.add_parser("run", help="run an analysis and seal its result")
    slugs = one.add_subparsers(required=True, metavar="SLUG", dest="slug")
    for analysis in ANALYSES:
        _add_run(slugs, analysis)

    add_commands(commands, _add_store)
    add_live(commands, _add_store)

    one = commands.add_parser("runs", help="the sealed runs of a store")
    _add_store(one)
    one.set_defaults(command=_runs)

    add_export(commands, _add_store)
    add_exports(commands, _add_store)
    add_store_commands(commands, _add_store)
    add_data(commands, _add_store)

    one = commands.add_parser("glossary", help="docs/glossary.md, made from the declarations")
    one.set_defaults(command=_glossary)

    _add_serve(commands)
    return top


def _add_serve(commands: Any) -> None:
    one = commands.add_parser("serve", help="open the dashboard on a store")
    _add_store(one)
    one.add_argument("--port", type=int, default=8501)
    one.add_argument("--address", default="127.0.0.1", help="address to listen on (default: this machine only)")
    one.add_argument("--open", action="store_true", help="open the dashboard in a browser")
    one.add_argument(
        "--folders",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders whose models may be opened by typing a path (default: $SPARSESCOPE_FOLDERS, or this folder and, on this machine "
        "only, your home folder)",
    )
    one.add_argument(
        "--embed-in",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="other sites whose pages may show units within them, such as https://wiki.example.org (default: none)",
    )
    one.set_defaults(command=_serve)


def _add_store(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--store",
        type=Path,
        default=Path(os.environ.get("SPARSESCOPE_STORE", DEFAULT_STORE)),
        metavar="DIR",
        help=f"folder of the results (default: $SPARSESCOPE_STORE or {DEFAULT_STORE})",
    )


def _add_run(slugs: Any, analysis: Analysis) -> None:
    one = slugs.add_parser(analysis.slug, help=analysis.question, description=analysis.question)
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="smollm2, minilm, a Hugging Face folder or its zip, a hub id, or a safetensors, GGUF or torch file")
    add_trust_flags(one, which)
    if analysis.reads_data:
        one.add_argument("--data", default="python-docs", help=f"{DATA_WORDS} (default: python-docs)")
    one.add_argument(
        "--with",
        dest="inputs",
        action="append",
        default=[],
        metavar="ROLE=REF",
        help="further inputs: base=MODEL, run=ID, sae=RUN-OR-FOLDER",
    )
    one.add_argument("--set", dest="values", action="append", default=[], metavar="FIELD=VALUE", help="a setting (listed below)")
    one.add_argument("--config", type=Path, metavar="FILE.json", help="settings from a file; --set goes before it")
    one.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, or auto: shared out over all GPUs, then main memory")
    one.add_argument("--dtype", default="", help="float32, bfloat16 or float16 (default: as in the files)")
    one.add_argument("--force", action="store_true", help="run again although a sealed run exists")
    add_queue_flags(one)
    add_executor_flags(one)
    _add_store(one)
    group = one.add_argument_group("settings")
    for s in settings_of(analysis.config):
        group.add_argument(f"--{s.name.replace('_', '-')}", dest=f"set_{s.name}", metavar=s.type.__name__.upper(), help=_words(s))
    one.set_defaults(command=run)


def _words(s: Setting) -> str:
    unit = f" {s.unit}" if s.unit else ""
    return f"{s.help} ({s.range_words}; default {s.default}{unit})".replace("%", "%%")


# ---------------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    if options.interventions:
        from analysis.interventions.catalogue import lines

        print(lines())
        return 0
    for analysis in ANALYSES:
        print(f"{analysis.slug:20} {analysis.kind:8} {analysis.question}")
    return 0


def _describe(options: argparse.Namespace) -> int:
    from analysis.interventions import catalogue

    if any(entry.slug == options.slug for entry in catalogue.INTERVENTIONS):
        print(catalogue.describe(catalogue.find_intervention(options.slug)))
    else:
        print(describe(find_analysis(options.slug)))
    return 0


def describe(analysis: Analysis) -> str:
    """Everything an analysis declares, as text."""
    lines = [f"{analysis.title} ({analysis.slug}, version {analysis.version}, {analysis.kind})", analysis.question, "", "Sources"]
    lines += [f"  {s.title}. {s.reference} [{EVIDENCE_WORDS[s.evidence]}]" for s in analysis.sources]
    lines += ["", "Settings"] + [f"  {s.name}: {_words(s)}".replace("%%", "%") for s in settings_of(analysis.config)]
    for table in analysis.tables:
        lines += ["", f"Table {table.name}: {table.meaning} Key: {', '.join(table.key)}."]
        lines += [f"  {c.name} ({c.type}): {c.comment}" for c in table.columns]
    lines += ["", "Figures"] + [f"  {f.slug}: {f.title}" for f in analysis.figures]
    return "\n".join(lines)


def _runs(options: argparse.Namespace) -> int:
    from store import Store

    for info in Store(options.store).runs():
        print(f"{info.id}  {info.slug:20} {info.model:24} {info.data or '-':16} {info.started}  {info.path}")
    return 0


def _glossary(_: argparse.Namespace) -> int:
    from analysis.glossary import glossary

    print(glossary(ANALYSES), end="")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from ui.serve import serve_command

    argv, environment = serve_command(
        options.store, options.port, options.address, open_browser=options.open, folders=options.folders, embed_in=options.embed_in
    )
    print(f"The dashboard is at http://{options.address}:{options.port}; Ctrl-C stops it.", flush=True)
    return subprocess.run(argv, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
