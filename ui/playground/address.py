"""Prompts in the address: as they are while they are short, packed (deflate, base64) where that makes the address shorter."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from urllib.parse import quote

from analysis.live.playing import MOST_CHARACTERS

TEXT, OTHER = "text", "other"
"""Of the first prompt, and of the one beside it; packed under the same name with a z before it."""
SHORT = 400
"""Characters of an address up to which a prompt stays readable in it."""
_MOST_BYTES = 4 * MOST_CHARACTERS


def packed(name: str, text: str) -> dict[str, str]:
    """The part of an address that holds a prompt; nothing for none."""
    if not text:
        return {}
    if len(quote(text)) <= SHORT:
        return {name: text}
    small = base64.urlsafe_b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode("ascii").rstrip("=")
    return {f"z{name}": small} if len(small) < len(quote(text)) else {name: text}


def unpacked(name: str, query: Mapping[str, str]) -> str | None:
    """The prompt of an address; empty where it has none, None where it cannot be read."""
    if name in query:
        return query[name]
    small = query.get(f"z{name}")
    if not small:
        return ""
    try:
        given = base64.b64decode(small + "=" * (-len(small) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(given, _MOST_BYTES)
        return text.decode("utf-8") if unpacker.eof else None
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError):  # cut short, or typed
        return None


def query(model: str, text: str = "", **more: str) -> dict[str, str]:
    """The address of the playground for a model; ``more``: ``unit="head 3:1"``, ``without=…``, ``step1=…``."""
    return {"model": model} | packed(TEXT, text) | more
