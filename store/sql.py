"""Text that becomes part of SQL: names and literals. Values of filters are never among it; they are bound."""

from __future__ import annotations


def name(text: str) -> str:
    """``text`` as a quoted identifier."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` as a string literal, for the statements that take no parameters (COMMENT ON, ATTACH, CREATE VIEW)."""
    return "'" + text.replace("'", "''") + "'"
