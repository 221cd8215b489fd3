"""Which paper a declared source is, as a BibTeX entry. The entries are in ``bibliography.bib``, and nowhere else.

A source, as analyses and interventions declare it, has a title, a reference and a tag of evidence. It is a paper of the file where its
reference holds the number of the paper on arXiv, or where its title begins the paper's (what stands in brackets or behind a semicolon
is a remark), or where the entry lists it under ``declared``, a field of ours which is left out of what is written. Everything else (a
definition of our own, a program) has no entry, and says so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("bibliography.bib")
_ENTRY = re.compile(r"^@(\w+)\{([^,]+),\n(.*?)\n\}$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
_ARXIV = re.compile(r"\b\d{4}\.\d{4,5}\b")
_SHORTEST = 4
"""Letters that a title must have to be told by how it begins."""


@dataclass(frozen=True)
class Entry:
    """One paper or book."""

    kind: str
    key: str
    fields: Mapping[str, str]

    @property
    def bibtex(self) -> str:
        """The entry as BibTeX reads it."""
        # The title in braces twice: BibTeX would make its names small otherwise.
        shown = {name: f"{{{value}}}" if name == "title" else value for name, value in self.fields.items() if name != "declared"}
        fields = [f"  {name} = {{{value}}}," for name, value in shown.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *fields, "}"])

    def is_of(self, title: str, reference: str) -> bool:
        """Whether a source with that title and reference is this paper."""
        if (number := self.fields.get("eprint")) is not None and number in _ARXIV.findall(reference):
            return True
        own, asked = _plain(self.fields["title"]), _plain(re.split(r"[(;]", title)[0])
        named = [_plain(one) for one in self.fields.get("declared", "").split(";") if one.strip()]
        return asked in named or len(asked) >= _SHORTEST and (own == asked or own.startswith(f"{asked} "))


@dataclass(frozen=True)
class References:
    """The entries of some sources, and what the sources are that have none."""

    entries: tuple[Entry, ...]
    without: tuple[str, ...]

    @property
    def bibtex(self) -> str:
        """A BibTeX file. Sources without an entry stand in it as comments."""
        remarks = [f"% No entry: {words}" for words in self.without]
        return "\n\n".join([*(entry.bibtex for entry in self.entries), *(["\n".join(remarks)] if remarks else [])]) + "\n"


def words(source: Mapping[str, Any]) -> str:
    """A source in words: title and reference."""
    return " ".join(f"{source['title']}. {source['reference']}.".split())


def references(provenance: Mapping[str, Any]) -> References:
    """What to cite for a figure of that provenance: an entry per paper, in the order the sources were declared."""
    return resolve(provenance.get("sources") or ())


def resolve(sources: Sequence[Mapping[str, Any]]) -> References:
    """The entries of sources, each once, and the words of those that have none."""
    found: dict[str, Entry] = {}
    without: list[str] = []
    for source in sources:
        these = [entry for entry in entries() if entry.is_of(str(source["title"]), str(source["reference"]))]
        found |= {entry.key: entry for entry in these}
        if not these:
            without.append(words(source))
    return References(tuple(found.values()), tuple(dict.fromkeys(without)))


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    text = _FILE.read_text(encoding="utf-8")
    return tuple(Entry(kind, key, dict(_FIELD.findall(fields))) for kind, key, fields in _ENTRY.findall(text))


def _plain(title: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9]+", " ", re.sub(r"[{}\\]", "", title).lower()).split())
