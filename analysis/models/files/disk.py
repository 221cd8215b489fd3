"""Small files and folders: JSON that is read with a bound, and the sentence for what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.spec import UserError

MAX_JSON = 64 * 10**6
"""Bytes; the largest tokenizers take about 35 MB."""


def cannot_read(path: Path, error: Exception) -> UserError:
    """The sentence for a file that is there but cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"{path} must be readable, got: {reason}; check its permissions, or get it again.")


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises `UserError` where it is none, or too large to be one."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise UserError(f"{path} must be a JSON file of at most {MAX_JSON:,} bytes, got {size:,}; get the model again.")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} must be a JSON file, got one that cannot be read ({error}); get the model again.") from error
