"""Experts that are modules of their own: which sites belong to one group, and the sites of those that no token visited.

Experts are told by what happens, not by their names: several entries of one ModuleList or ModuleDict read different rows of the very
same tensor. (The blocks of a packed model all read the same rows, those of a stack in depth each read the one before.) Where only
one entry ran, its siblings of the same structure are taken for the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.capture.naming import identity
from analysis.capture.site import Site

if TYPE_CHECKING:
    from torch import nn

    from analysis.capture.discovery import Draft


def with_all_experts(model: nn.Module, drafts: Iterable[Draft]) -> list[Draft]:
    """The drafts, those of module experts marked with their group, and followed by the same for experts that were not visited."""
    drafts = list(drafts)
    groups = _groups(model, drafts)
    done: list[Draft] = []
    written: set[str] = set()
    for draft in drafts:
        group = _group_of(draft.site.module, groups)
        if group is None:
            done.append(_of_group(draft, groups) if draft.site.kind == "residual" else draft)
        elif group not in written:
            written.add(group)
            done += _whole_group(model, group, [d for d in drafts if d.site.module.startswith(f"{group}.")])
    return done


def _of_group(draft: Draft, groups: set[str]) -> Draft:
    """A residual addition with the group in place of one expert's matrix: which of them ran last depends on the tokens."""
    site = draft.site
    group = None if site.weight is None else _group_of(site.weight, groups)
    if group is None:
        return draft
    return replace(draft, site=replace(site, weight=group, name=identity(site.module, site.operator, site.role, group)))


def _groups(model: nn.Module, drafts: list[Draft]) -> set[str]:
    """Paths of the containers whose entries are experts."""
    from torch import nn

    read: dict[tuple[str, int], dict[str, set[int]]] = {}
    for draft in drafts:
        if draft.rows is None or draft.rows.origin is None or draft.stack:
            continue
        parts = draft.site.module.split(".")
        for depth in range(len(parts) - 1, -1, -1):
            container = ".".join(parts[:depth])
            if isinstance(model.get_submodule(container), nn.ModuleList | nn.ModuleDict):
                entries = read.setdefault((container, draft.rows.origin), {})
                entries.setdefault(parts[depth], set()).add(id(draft.rows))
    ran = {draft.site.module for draft in drafts}
    return {container for (container, _), entries in read.items() if _are_experts(model, container, entries, ran)}


def _are_experts(model: nn.Module, path: str, entries: dict[str, set[int]], ran: set[str]) -> bool:
    """Whether entries that read one tensor each read rows of their own; of a single one, whether others like it did not run."""
    if len(entries) > 1:
        rows = [one for ids in entries.values() for one in ids]
        return len(set(rows)) == len(rows)
    children = dict(model.get_submodule(path).named_children())
    visited = next(iter(entries))
    idle = [name for name in children if not any(module == f"{path}.{name}" or module.startswith(f"{path}.{name}.") for module in ran)]
    return any(_alike(children[name], children[visited]) for name in idle)


def _alike(a: nn.Module, b: nn.Module) -> bool:
    shapes = [[(name, p.shape) for name, p in module.named_parameters()] for module in (a, b)]
    return type(a) is type(b) and shapes[0] == shapes[1]


def _group_of(path: str, groups: set[str]) -> str | None:
    """The innermost group that a module lies in."""
    return max((g for g in groups if path.startswith(f"{g}.")), key=len, default=None)


def _whole_group(model: nn.Module, group: str, drafts: list[Draft]) -> list[Draft]:
    """The group's drafts, entry by entry; an entry that was not visited has those of the first that was."""
    container = dict(model.get_submodule(group).named_children())
    names = list(container)
    found = {name: [d for d in drafts if _entry(d.site.module, group) == name] for name in names}
    pattern = next(name for name in names if found[name])
    whole: list[Draft] = []
    for index, name in enumerate(names):
        made = found[name]
        if not made and _alike(container[name], container[pattern]):
            made = [replace(d, site=_moved(d.site, f"{group}.{pattern}", f"{group}.{name}")) for d in found[pattern]]
        whole += [replace(d, site=replace(d.site, group=group, member=index)) for d in made]
    return whole


def _entry(path: str, group: str) -> str:
    return path.removeprefix(f"{group}.").partition(".")[0]


def _moved(site: Site, old: str, new: str) -> Site:
    """The same site inside another entry."""

    def there(path: str) -> str:
        return new + path.removeprefix(old) if path == old or path.startswith(f"{old}.") else path

    module, weight = there(site.module), None if site.weight is None else there(site.weight)
    return replace(
        site,
        name=identity(module, site.operator, site.role, weight),
        module=module,
        weight=weight,
        producers=tuple(there(p) for p in site.producers),
        gate=None if site.gate is None else there(site.gate),
        up=None if site.up is None else there(site.up),
    )
