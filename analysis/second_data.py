"""A second data set of one run: a setting that holds DATA, opened as a further input that shares the model with the first.

Its fingerprint is part of the run key, as that of the first data is; no level or mask is made twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

SECOND = "second_data"
"""Name of the setting, and of the input it is opened as."""


def filed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the second data as they are filed. Raises `UserError` for data that are not there or cannot be recognised."""
    from analysis.models.inputs import check_data, filed

    if not settings.get(SECOND):
        return dict(settings)
    text = filed(str(settings[SECOND]))
    check_data(text)
    return dict(settings) | {SECOND: text}


def second_of(
    subject: Any,
    data: Any,
    *,
    n_tokens: int = 2048,
    window: int = 128,
    seed: int = 0,
    progress: Callable[[str, float, float], Any] | None = None,
) -> Any:
    """The same subject with other data: the model is shared, not loaded again.

    ``data``: DATA as a user types it, or `Data` made in memory.
    """
    from analysis.models.fingerprints import digest, function_fingerprint
    from analysis.models.inputs import load_data

    if isinstance(data, str):
        data = load_data(subject, data, n_tokens=n_tokens, window=window, seed=seed, progress=progress)
    found = data.fingerprint
    if subject.loss is not None:
        found = digest([found.encode(), function_fingerprint(subject.loss).encode()])
    return replace(subject, data=data, fingerprints=subject.fingerprints | {"data": found})
