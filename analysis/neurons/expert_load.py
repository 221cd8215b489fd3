"""Which tokens were sent to which expert: counted while the neurons are, reported per expert, per group and per token.

A group is what a router chooses from: a stack of matrices, or a list of modules. Groups whose rows cannot be told to be tokens of a
stream (experts over image patches) are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.capture.site import Site
from analysis.stats.load import evenness, imbalance

Rows = dict[str, list[Any]]
_MARK = "experts"


class ExpertLoad:
    """The counts of one group of E experts. Memory: E x documents bits, rounded up to bytes, and 2 E numbers."""

    def __init__(self, sites: Sequence[Site], n_documents: int) -> None:
        self.sites = list(sites)
        size = max(int(site.member or 0) for site in sites) + 1
        self.n_tokens = np.zeros(size, np.int64)
        """Tokens sent to each expert [E]."""
        self.per_token = np.zeros(size + 1, np.int64)
        """Tokens that went to 0, 1, ... E experts [E + 1]."""
        self.reached = np.zeros((size, n_documents), bool)
        """Documents of which an expert got a token [E, D]."""
        self._places: list[np.ndarray] = []

    def see(self, expert: int, places: np.ndarray, documents: np.ndarray) -> None:
        """Tokens sent to an expert: their places in the batch [n], and their documents."""
        self.n_tokens[expert] += len(places)
        self.reached[expert, documents] = True
        self._places.append(places)

    def end(self, n_read: int) -> None:
        """The batch had this many real tokens."""
        if n_read:
            _, chosen = np.unique(np.concatenate([np.zeros(0, np.int64), *self._places]), return_counts=True)
            self.per_token += np.bincount(chosen, minlength=len(self.per_token))
            self.per_token[0] += n_read - len(chosen)
        self._places.clear()

    def state(self) -> dict[str, np.ndarray]:
        """The counts, for a checkpoint."""
        return {"n_tokens": self.n_tokens, "per_token": self.per_token, "reached": self.reached}

    def merge(self, state: Mapping[str, np.ndarray]) -> None:
        """Add the counts of another part of the windows; any order gives the same."""
        self.n_tokens += state["n_tokens"]
        self.per_token += state["per_token"]
        self.reached |= state["reached"]


def expert_loads(sites: Sequence[Site], n_documents: int) -> dict[str, ExpertLoad]:
    """Empty counts of every group whose rows are tokens, by the group. One site an expert: the first that ran."""
    groups: dict[str, dict[int, Site]] = {}
    for site in sites:
        if site.group is not None and site.member is not None and site.stream != "rows":
            groups.setdefault(site.group, {}).setdefault(site.member, site)
    return {group: ExpertLoad([one[e] for e in sorted(one)], n_documents) for group, one in groups.items() if len(one) > 1}


def packed(loads: Mapping[str, ExpertLoad]) -> dict[str, np.ndarray]:
    """The states of all groups in one mapping."""
    return {f"{_MARK}|{i}|{name}": array for i, load in enumerate(loads.values()) for name, array in load.state().items()}


def is_packed(name: str) -> bool:
    """Whether an entry of a state is one of `packed`."""
    return name.startswith(f"{_MARK}|")


def merge_packed(loads: Mapping[str, ExpertLoad], states: Iterator[tuple[str, Mapping[str, np.ndarray]]]) -> None:
    """Add the packed states of all units."""
    for _, state in states:
        for i, load in enumerate(loads.values()):
            load.merge({name: state[f"{_MARK}|{i}|{name}"] for name in load.state()})


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def expert_rows(group: str, load: ExpertLoad) -> Rows:
    """Rows of `experts`: one an expert, also where it got nothing."""
    n = load.n_tokens
    total = int(n.sum())
    rows: Rows = {"layer": [], "hook_name": [], "expert_group": [], "expert": [], "n_tokens": [], "share": [], "load": []}
    rows |= {"documents_reached": [], "n_documents": []}
    for site in load.sites:
        expert = int(site.member or 0)
        share = float(n[expert] / total) if total else None
        values = (site.layer, site.hook_name, group, expert, int(n[expert]), share, None if share is None else share * len(n))
        for column, value in zip(rows, (*values, int(load.reached[expert].sum()), load.reached.shape[1]), strict=True):
            rows[column].append(value)
    return rows


def group_rows(group: str, load: ExpertLoad) -> Rows:
    """The group's row of `expert_layers`."""
    n, tokens = load.n_tokens, int(load.per_token.sum())
    total = int(n.sum())
    found = {
        "layer": load.sites[0].layer,
        "expert_group": group,
        "n_experts": len(n),
        "n_idle": int((n == 0).sum()),
        "n_tokens": tokens,
        "n_unsent": int(load.per_token[0]),
        "n_pairs": total,
        "experts_per_token": total / tokens if tokens else None,
        "largest_load": float(n.max() / n.mean()) if total else None,
        "imbalance": imbalance(n),
        "evenness": evenness(n),
        "n_documents": load.reached.shape[1],
    }
    return {name: [value] for name, value in found.items()}


def per_token_rows(group: str, load: ExpertLoad) -> Rows:
    """Rows of `experts_per_token`: the numbers of experts that occur."""
    counts = load.per_token
    chosen, tokens = np.flatnonzero(counts), int(counts.sum())
    k = len(chosen)
    return {
        "layer": [load.sites[0].layer] * k,
        "expert_group": [group] * k,
        "n_experts": chosen.tolist(),
        "n_tokens": counts[chosen].tolist(),
        "share": (counts[chosen] / max(tokens, 1)).tolist(),
    }
