r"""The caption of a figure, generated: what it shows with its n and unit, which model, which data, by which method, after whom.

As text to paste, and as a LaTeX figure with ``\cite`` for every source that `figures.bibliography` has an entry of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures import bibliography
from figures.latex import escape, label_name
from figures.prepared import caption
from figures.presets import PLAIN, Preset
from figures.spec import FigureSpec
from figures.words import number, tokens_seen, visible

LONGEST_VALUE = 120
"""Characters of a setting in a caption."""


def caption_lines(spec: FigureSpec, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """The whole caption as text: the figure's sentence and notes, then where its numbers come from."""
    return (*caption(spec), *origin(provenance), *(f"Source: {bibliography.words(one)}" for one in provenance.get("sources") or ()))


def origin(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Model, data, method and run, a sentence each, as far as they are recorded; ``told`` has further ones, of figures of no single run."""
    lines = [f"Model: {provenance.get('model_label') or provenance['model']}."] if provenance.get("model") else []
    if provenance.get("data"):
        tokens = tokens_seen(provenance)
        role = (provenance.get("facts") or {}).get("data_role") or "Data"
        lines.append(f"{role}: {provenance['data']}" + (f", {number(tokens)} tokens." if tokens is not None else "."))
    if provenance.get("slug"):
        settings = ", ".join(
            f"{name} {_short(value)}" for name, value in (provenance.get("config") or {}).items() if value not in ("", None)
        )
        method = f"Method: {provenance.get('title') or provenance['slug']} ({provenance['slug']}, version {provenance.get('version')})"
        lines.append(method + (f" with {settings}." if settings else "."))
    lines += provenance.get("told") or ()
    if provenance.get("key"):
        lines.append(f"Made with Sparsescope, run {provenance['key']}-{provenance.get('attempt')}.")
    return tuple(lines)


def _short(value: Any) -> str:
    """A setting as a caption has room for it: the provenance beside the figure has it whole."""
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def caption_text(spec: FigureSpec, provenance: Mapping[str, Any]) -> str:
    """The caption as a text file: the title, then a line each."""
    return "\n".join(visible(line) for line in (spec.title, "", *caption_lines(spec, provenance))) + "\n"


def latex_caption(lines: tuple[str, ...], provenance: Mapping[str, Any]) -> str:
    r"""The sentences as LaTeX, and ``\cite`` of the sources; goes into ``\caption{}``."""
    keys = [entry.key for entry in bibliography.references(provenance).entries]
    cited = [rf"After~\cite{{{','.join(keys)}}}."] if keys else []
    return " ".join([*map(escape, lines), *cited])


def caption_latex(spec: FigureSpec, provenance: Mapping[str, Any], *, file: str | None, name: str, preset: Preset = PLAIN) -> str:
    r"""A LaTeX figure of ``file`` with the caption. It is set without a width: the file has the width of the preset.

    Without a file that LaTeX takes it is the ``\caption`` alone.
    """
    kind = "figure*" if preset.slug.endswith("-double") else "figure"
    lines = (*caption(spec), *origin(provenance))
    if file is None:
        said = "% No picture here is of a kind that LaTeX takes: export the figure as PDF, PNG or PGF, too."
        return f"{said}\n\\caption{{{latex_caption(lines, provenance)}}}\n"
    include = rf"\input{{{escape(file)}}}" if file.endswith(".pgf") else rf"\includegraphics{{{file}}}"
    return "\n".join(
        [
            rf"% Needs \usepackage{{{'pgf' if file.endswith('.pgf') else 'graphicx'}}}; made for: {escape(preset.words)}",
            rf"\begin{{{kind}}}",
            r"  \centering",
            f"  {include}",
            rf"  \caption{{{latex_caption(lines, provenance)}}}",
            rf"  \label{{fig:{label_name(name)}}}",
            rf"\end{{{kind}}}",
            "",
        ]
    )
