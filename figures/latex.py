r"""Rows as a LaTeX table with the rules of booktabs, and foreign text that LaTeX takes as text.

A name from a model or a file may hold anything, so that nothing of it reaches LaTeX unescaped: no command, no formula, no comment.
Letters beyond Latin, which pdfLaTeX cannot set without a font for them, are written as their code point.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from figures.spec import FigureError
from figures.words import label, visible

MOST_ROWS, MOST_COLUMNS = 100, 12
"""Beyond these a table is no longer read on paper."""

_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
}  # fmt: skip
_MATHS = {
    "≤": r"\leq", "≥": r"\geq", "×": r"\times", "±": r"\pm", "−": "-", "µ": r"\mu", "μ": r"\mu", "α": r"\alpha", "ε": r"\varepsilon",
    "σ": r"\sigma", "τ": r"\tau", "→": r"\rightarrow", "≈": r"\approx", "·": r"\cdot", "²": "^2", "³": "^3", "∞": r"\infty",
}  # fmt: skip
_SIGNS = {"–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "\u00a0": "~", "\u2060": ""}
_LAST_LATIN = 0x17F


def escape(text: str) -> str:
    """``text`` as LaTeX must be given it to set that text, whatever its fonts; quotation marks become those of running text."""
    return "".join(_character(c) for c in visible(text))


@functools.cache
def _character(c: str) -> str:
    if c in _ESCAPED:
        return _ESCAPED[c]
    if c in _MATHS:
        return f"${_MATHS[c]}$"
    if c in _SIGNS:
        return _SIGNS[c]
    return c if ord(c) <= _LAST_LATIN else rf"\texttt{{U+{ord(c):04X}}}"


def table(frame: Any, *, headings: Mapping[str, str], caption: str, name: str) -> str:
    """The rows as a ``table`` environment.

    ``headings``: words for columns that have better ones than their names. ``caption`` is LaTeX, ``name`` becomes the label.
    Numbers are shown to four significant digits and set to the right. Raises `FigureError` for more than a page can hold.
    """
    if len(frame) > MOST_ROWS or len(frame.columns) > MOST_COLUMNS:
        raise FigureError(
            f"a LaTeX table must have at most {MOST_ROWS} rows and {MOST_COLUMNS} columns, got {len(frame):,} and {len(frame.columns)}; "
            "take the CSV file instead."
        )
    numeric = [_is_number(frame[column]) for column in frame.columns]
    lines = [
        r"% Needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \label{{tab:{label_name(name)}}}",
        rf"  \begin{{tabular}}{{{''.join('r' if one else 'l' for one in numeric)}}}",
        r"    \toprule",
        "    " + _row([escape(headings.get(str(column), str(column))) for column in frame.columns]),
        r"    \midrule",
        *("    " + _row([_cell(value) for value in row]) for row in frame.itertuples(index=False, name=None)),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def label_name(name: str) -> str:
    """``name`` for ``\\label``: letters, digits and hyphens."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _is_number(column: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)


def _cell(value: Any) -> str:
    if hasattr(value, "__len__") and not isinstance(value, str):
        return escape(", ".join(label(one) for one in value))
    shown = label(value)
    return "--" if shown == "(none)" and not isinstance(value, str) else escape(shown)
