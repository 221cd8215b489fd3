"""From the classes that data name to the classes that a model tells apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.models.inputs.reads import Reads


def class_ids(given: Sequence[str | int], reads: Reads, names: Sequence[str] | None = None) -> tuple[np.ndarray | None, str]:
    """Ids int64 [n] of the classes given, and by what rule; no ids and the reason where the names mean nothing to the model.

    1. Whole numbers are ids.
    2. Names that the model's config knows have its ids.
    3. Else ``names``, all the names there are, in order, are 0, 1, ..., unless the model knows its classes by other names.
    """
    if all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in given):
        return np.asarray(given, dtype=np.int64), "whole numbers in the data"
    words = [str(one).strip().lower() for one in given]
    if reads.classes and all(word in reads.classes for word in words):
        return np.asarray([reads.classes[word] for word in words], dtype=np.int64), "names in the model's config"
    if all(word.isdecimal() for word in words):
        return np.asarray([int(word) for word in words], dtype=np.int64), "whole numbers in the data"
    fits = names is not None and (not reads.classes or len(names) == reads.n_classes)
    if names is None or not fits:
        missing = next((word for word in words if word not in reads.classes), words[0])
        return None, f"labels must be names or numbers of the model's classes, and {missing!r} is none"
    order = {name.strip().lower(): i for i, name in enumerate(names)}
    return np.asarray([order[word] for word in words], dtype=np.int64), "order of the names in the data"
