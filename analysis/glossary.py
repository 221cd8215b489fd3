"""The glossary: one word per thing, then every table and column, derived from the declarations.

`python -m analysis glossary` prints docs/glossary.md; a test keeps the file in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.spec import Analysis, settings_of

WORDS: tuple[tuple[str, str], ...] = (
    ("subject", "what is analysed: model, inputs and task, with a fingerprint of each part"),
    ("site", "a place in the forward pass, found by running the model; its identity is module path, operator and role"),
    ("layer, head, neuron", "counted from 0; a neuron is one coordinate of an FFN inner activation (or a conv channel)"),
    ("latent", 'one dictionary element of an SAE ("feature" is the concept it may stand for)'),
    ("document", "the unit of every interval: a topic, a file; tokens of one document are not independent"),
    ("window", "consecutive tokens of one document, read together"),
    ("active", "contribution |a|*|w_out| above a share of the FFN output's norm (docs/decisions/0002-active.md)"),
    ("density", "active tokens / tokens seen"),
    ("silent", "active on none of the tokens seen"),
    ("dead, rare, dense", "silent with enough tokens to say so / below 1e-4 / above 0.5 of tokens; the cut-offs are settings"),
    ("undecided", "too few tokens were seen to tell (docs/decisions/0003-undecided.md)"),
    ("static dead", "cannot fire, or cannot matter, because of its weights alone"),
    ("gate, up", "the two factors of a gated unit: the activated one, and the one it multiplies"),
    ("sparsity, density of weights", "share removed or zero / one minus it; always with its denominator"),
    ("near zero", "magnitude at most a stated share of the tensor's root mean square"),
    ("N:M", 'written "2 of 4 kept": at most N non-zeros in every M'),
    ("ablate, patch", "set to zero or mean / copy from another run"),
    ("hook, capture", 'a callback / a pass that yields activations ("probe" is a trained classifier, nothing else)'),
    ("run, run key, attempt", "one analysis on its inputs / its identity / one making of it"),
    ("sealed", "finished, immutable, in a file of its own"),
    ("unit of work", "a part of a run that is committed all or nothing; a resumed run goes on at the first missing one"),
)


def glossary(analyses: Sequence[Analysis]) -> str:
    """docs/glossary.md as text."""
    lines = ["# Glossary", "", "One word per thing. Made by `python -m analysis glossary`; change the declarations, not this file.", ""]
    lines += ["| word | means |", "|---|---|"] + [f"| {word} | {_cell(meaning)} |" for word, meaning in WORDS]
    for analysis in analyses:
        lines += ["", f"## {analysis.title} (`{analysis.slug}`, version {analysis.version})", "", analysis.question, ""]
        lines += ["| setting | default | means |", "|---|---|---|"]
        lines += [f"| `{s.name}` | {s.default} {s.unit} | {_cell(s.help)} |" for s in settings_of(analysis.config)]
        for table in analysis.tables:
            lines += ["", f"### `{table.name}`", "", f"{table.meaning} Key: {', '.join(f'`{k}`' for k in table.key)}.", ""]
            lines += ["| column | type | means |", "|---|---|---|"]
            lines += [f"| `{c.name}` | {c.type} | {_cell(c.comment)} |" for c in table.columns]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Entry:
    """A column of a table, as every analysis that fills the table declares it."""

    table: str
    column: str
    type: str
    unit: str
    means: str
    """Meaning, unit, range and evidence, as the sealed file says them."""
    analyses: tuple[str, ...]
    """Slugs of those that declare it."""


def entries(analyses: Sequence[Analysis]) -> list[Entry]:
    """Every declared column once, tables and columns in the order of their declaration."""
    found: dict[tuple[str, str], Entry] = {}
    for analysis in analyses:
        for table in analysis.tables:
            for c in table.columns:
                before = found.get((table.name, c.name))
                slugs = (*(before.analyses if before else ()), analysis.slug)
                found[table.name, c.name] = Entry(table.name, c.name, c.type, c.unit, before.means if before else c.comment, slugs)
    tables = list(dict.fromkeys(one.table for one in found.values()))
    return sorted(found.values(), key=lambda one: tables.index(one.table))


def table_meanings(analyses: Sequence[Analysis]) -> dict[str, str]:
    """What each table holds, in the words of the first analysis that declares it."""
    found: dict[str, str] = {}
    for analysis in analyses:
        for table in analysis.tables:
            found.setdefault(table.name, table.meaning)
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
