"""Whether a model that is said to be N of M sparse is: every group of every matrix inside its blocks, along the input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.patterns import PATTERNS, name_of

Groups = NDArray[np.int64]
"""[5 patterns, groups, conforming groups, line, group and non-zeros of the first against it (-1 where there is none)]."""

_NAMED = re.compile(
    r"(?P<shard>part|shard|split|piece|chunk|file|model|weights|checkpoint|ckpt|consolidated)?(?<![0-9])[-_. ]?(\d)(?::|of)(\d)(?![0-9])",
    re.IGNORECASE,
)
"""``2:4`` and ``2of4``; with marks between them, or behind such a word, they are the number of a shard."""


def groups_array(direction: Any) -> Groups:
    """What is kept of a matrix' groups along the input, to be put together at the end of a run."""
    rows = []
    for pattern in PATTERNS:
        found = direction.conforming[pattern]
        rows.append([found.n_groups, found.n_conforming, *(found.first or (-1, -1, -1))])
    return np.array(rows, np.int64)


def claims_of(setting: str, names: Sequence[str], matrices: Mapping[str, Groups]) -> list[tuple[int, str]]:
    """Patterns claimed, as places in `PATTERNS`, and who claims them: the setting, the name, or half of the matrices."""
    if setting == "none" or not matrices:
        return []
    if setting != "found":
        return [([name_of(*p) for p in PATTERNS].index(setting), "the setting")]
    for name in names:
        for match in _NAMED.finditer(name):
            pattern = (int(match[2]), int(match[3]))
            if pattern in PATTERNS and not (match["shard"] and ":" not in match[0]):
                return [(PATTERNS.index(pattern), f"its name, {name}")]
    whole = np.array([(groups[:, 0] > 0) & (groups[:, 1] == groups[:, 0]) for groups in matrices.values()])
    order = sorted(range(len(PATTERNS)), key=lambda p: (PATTERNS[p][0] / PATTERNS[p][1], PATTERNS[p][1]))
    return [(p, "most of its own matrices") for p in order if whole[:, p].mean() >= 0.5][:1]


def claim_rows(label: str, claims: Sequence[tuple[int, str]], matrices: Mapping[str, Groups]) -> dict[str, list[Any]]:
    """The rows of ``claims``."""
    rows = [_claim_row(label, place, source, matrices) for place, source in claims]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _claim_row(label: str, place: int, source: str, matrices: Mapping[str, Groups]) -> dict[str, Any]:
    against = [name for name, groups in matrices.items() if groups[place, 0] == 0 or groups[place, 1] < groups[place, 0]]
    pattern, n = name_of(*PATTERNS[place]), len(matrices)
    first = matrices[against[0]][place] if against else None
    line, group, nonzeros = (None, None, None) if first is None or first[2] < 0 else (int(v) for v in first[2:])
    if not against:
        said = f"{label} is {pattern} in all {n:,} matrices looked at, group by group along the input."
    elif line is None:
        said = (
            f"{label} is not {pattern} throughout: {len(against):,} of {n:,} matrices are too narrow for a group, the first {against[0]}."
        )
    else:
        said = (
            f"{label} is not {pattern} throughout: {len(against):,} of {n:,} matrices have groups with more, "
            f"the first {against[0]}, row {line:,}, group {group:,}, with {nonzeros} non-zeros of {PATTERNS[place][1]}."
        )
    return {
        "pattern": pattern,
        "source": source,
        "confirmed": not against,
        "n_matrices": n,
        "n_conforming": n - len(against),
        "tensor": against[0] if against else None,
        "first_line": line,
        "first_group": group,
        "first_nonzeros": nonzeros,
        "sentence": said,
    }
