"""Tokens as people see them, and the tokens a tokenizer adds or reserves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

_PROBE = "a"


def added_tokens(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids that the tokenizer puts before and after a text (``[CLS]``, ``[SEP]``; a beginning of text), found by trying."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    full = tokenizer(_PROBE)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return np.asarray(full[:start], np.int64), np.asarray(full[start + len(bare) :], np.int64)
    return np.empty(0, np.int64), np.empty(0, np.int64)


def reserved_ids(tokenizer: Any) -> set[int]:
    """Ids that never stand for text. The unknown token does stand for text, and is left out."""
    reserved: set[int] = set(getattr(tokenizer, "all_special_ids", ()))
    return reserved - {getattr(tokenizer, "unk_token_id", None)}


def pieces(tokenizer: Any, ids: Iterable[int]) -> dict[int, str]:
    """The exact piece of text of each token id, leading space kept.

    Byte-level tokens are turned back into their bytes; bytes that are no character alone are written ``\\xe2``.
    """
    wanted = [int(i) for i in ids]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    byte_level = backend is not None and "ByteLevel" in str(backend.decoder)
    tokens = tokenizer.convert_ids_to_tokens(wanted)
    convert = _from_bytes() if byte_level else lambda token: token.replace("▁", " ")
    return {i: convert(token) if token is not None else f"<{i}>" for i, token in zip(wanted, tokens)}


def embedding_module(model: Any, side: str) -> Any | None:
    """The model's own token embedding (``input``) or unembedding (``output``), one row a token; None where it names none."""
    try:
        module = getattr(model, f"get_{side}_embeddings", lambda: None)()
    except NotImplementedError:  # how transformers says that there is none
        return None
    weight = getattr(module, "weight", None)
    return module if getattr(weight, "ndim", 0) == 2 else None


def vocabulary(model: Any, tokenizer: Any | None) -> list[str] | None:
    """The piece of every id from 0 to the last one the model embeds or predicts; None where there is no tokenizer or no such matrix.

    Ids the tokenizer does not know (rows that only round up a matrix' size) are written ``<id>``.
    """
    ends = (embedding_module(model, side) for side in ("input", "output"))
    sizes = [int(end.weight.shape[0]) for end in ends if end is not None]
    if tokenizer is None or not sizes:
        return None
    n, known = max(sizes), len(tokenizer)
    return [*pieces(tokenizer, range(min(n, known))).values(), *(f"<{i}>" for i in range(known, n))]


def _from_bytes() -> Any:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}

    def convert(token: str) -> str:
        if any(character not in byte_of for character in token):
            return token  # a reserved token, written as itself
        return bytes(byte_of[character] for character in token).decode("utf-8", errors="backslashreplace")

    return convert
