"""What every section of the page shares: who is missing and what to run, what speaks against comparing, tables, ranked lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from analysis import find_analysis
from figures.words import number
from store import RunInfo
from ui import data
from ui.compare.changes import SHOWN, SURE, Changes
from ui.compare.sides import Answers, Side, answers
from ui.links import START_PAGE
from ui.words import count, percent, plain

MINUS = "−"


@dataclass(frozen=True)
class Contrast:
    """The first model, and the one whose difference from it is shown."""

    first: Side
    side: Side

    @property
    def minus(self) -> str:
        """``B − A``."""
        return f"{self.side.letter} {MINUS} {self.first.letter}"


@dataclass(frozen=True)
class Pair(Contrast):
    """Two models that both answer a question."""

    base: RunInfo
    """Of the first."""
    run: RunInfo
    """Of the other."""
    reasons: tuple[str, ...]
    """Against comparing them; empty where differences are paired."""

    @property
    def provenance(self) -> dict[str, Any]:
        """How both were made, for the files of exported figures: the method once, what they share, then each whole."""
        record = self.base.provenance
        shared = {name: record[name] for name in ("title", "sources") if name in record}
        same = {} if self.reasons else {"data": self.base.data, "config": dict(self.base.config)}
        own = {"model": f"{self.side.name} minus {self.first.name}", "slug": self.base.slug, "version": self.base.version}
        return own | shared | same | {"first": dict(record), "second": dict(self.run.provenance)}

    @property
    def notes(self) -> tuple[str, ...]:
        """For figures: why the two are not comparable, and which runs they are (foreign text)."""
        return (*self.reasons, f"Runs {self.base.id} ({self.first.letter}) and {self.run.id} ({self.side.letter}).")


Body = Callable[[Sequence[Pair], Pair | None], None]
"""Draws a section: all pairs, and the one looked at closer, None where it is not among them."""


def legend(sides: Sequence[Side]) -> None:
    """Which letter is which model."""
    first, *others = sides
    names = " · ".join(f"**{side.letter}** {plain(side.name)}" for side in sides)
    minus = ", ".join(f"{side.letter} {MINUS} {first.letter}" for side in others)
    st.markdown(f"{names} · differences are {minus}, above 0 where {first.letter} is smaller")


def section(sides: Sequence[Side], slug: str, title: str, body: Body, closer: str) -> None:
    """A heading, then what can be compared; for every model that has not been measured a sentence and the way to it."""
    st.header(title, anchor=slug.replace("_", "-"))
    found = answers(sides, slug)
    pairs = pairs_of(sides, found)
    if not found.runs:
        st.markdown(f"**{plain(find_analysis(slug).title)}** has been asked of none of these models; it shows here once two have it.")
        _way(sides[0], slug, None)
    else:
        for side in found.missing:
            _missing(side, slug)
            _way(side, slug, next(iter(found.runs.values())))
    if not pairs:
        return
    for pair in pairs:
        against(pair)
    body(pairs, next((pair for pair in pairs if pair.side.letter == closer), None))


def pairs_of(sides: Sequence[Side], found: Answers) -> list[Pair]:
    """Every other model that can be set beside the first."""
    first, *others = sides
    if first.letter not in found.runs:
        return []
    base = found.runs[first.letter]
    return [Pair(first, one, base, found.runs[one.letter], tuple(found.reasons[one.letter])) for one in others if one.letter in found.runs]


def against(pair: Pair) -> None:
    """Why two runs are not comparable; and where they are the same run, that."""
    if pair.run.id == pair.base.id:
        st.caption(f"{pair.first.letter} and {pair.side.letter} show the same run here, so all differences are 0.")
    elif pair.reasons:
        words = " ".join(plain(reason) for reason in pair.reasons)
        said = "Their numbers stand side by side only: a difference may come from that, and none is tested."
        st.warning(f"**{pair.side.letter} and {pair.first.letter} are not comparable here.** {words} {said}", icon=":material/difference:")


def _missing(side: Side, slug: str) -> None:
    why = "has been answered by another version only" if side.outdated(slug) else "has not been asked"
    st.markdown(f"**{plain(find_analysis(slug).title)}** {why} of {side.letter}, {plain(side.name)}, so there is nothing of it to compare.")


def _way(side: Side, slug: str, like: RunInfo | None) -> None:
    """The form and the command, on the data of the run that it would be compared with."""
    flags = {"data": like.data} if like is not None and like.data else {}
    further = next((role for role in find_analysis(slug).inputs if role != "model"), None)
    flags |= {"with": f"{further}=RUN_OR_FOLDER"} if further else {}
    with st.container(horizontal=True, vertical_alignment="center"):
        query = {"analysis": slug, "model": side.entry.ref}
        label = f"Ask it of {side.letter}"
        st.page_link(START_PAGE, label=label, icon=":material/play_arrow:", query_params=query, width="content")
        st.code(data.command(slug, side.entry.ref, **flags), language=None, wrap_lines=True)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers side by side


Value = float | int | None


def shown(one: Value, *, share: bool) -> str:
    """A number as it is read; what could not be had in words."""
    if one is None or one != one:
        return "not available"
    return percent(float(one)) if share else number(one)


def signed(one: Value, *, share: bool) -> str:
    """A difference with its sign; of shares in percentage points, exactly 0 as such."""
    if one is None or one != one:
        return "not available"
    if one == 0:
        return "0"
    if share:
        points = 100 * float(one)
        return f"{points:+.2g} points" if abs(points) < 1 else f"{points:+.1f} points"
    return f"{int(one):+,}" if isinstance(one, int) else f"{one:+.4g}"


def side_by_side(rows: Sequence[tuple[str, Mapping[str, Value], bool]], pairs: Sequence[Contrast], *, key: str, alt: str) -> None:
    """A row per number: its name, its value by letter, and whether it is a share; a column per model and per difference."""
    import pandas as pd

    first = pairs[0].first
    table: dict[str, list[str]] = {"": [name for name, _, _ in rows]}
    table[first.heading] = [shown(values.get(first.letter), share=share) for _, values, share in rows]
    for pair in pairs:
        table[pair.side.heading] = [shown(values.get(pair.side.letter), share=share) for _, values, share in rows]
        gaps = [(gap(values.get(pair.side.letter), values.get(first.letter)), share) for _, values, share in rows]
        table[pair.minus] = [signed(one, share=share) for one, share in gaps]
    st.dataframe(pd.DataFrame(table), hide_index=True, height="content", key=key, alt=alt)


def gap(one: Value, base: Value) -> Value:
    """One minus the other; None where either could not be had."""
    return None if one is None or base is None else one - base


# ---------------------------------------------------------------------------------------------------------------------
# What changed most


def ranked(pair: Pair, found: Changes, name: str, columns: Mapping[str, Any], table: Any, noun: str, *, key: str) -> None:
    """The list with its heading and the sentence how many units changed. ``table``: a data frame, ``columns``: how its columns show."""
    st.markdown(f"### What changed most: {plain(noun)}s by {plain(name)}")
    st.markdown(_summary(pair, found, name, noun))
    if not found.n_changed:
        return
    both = {"in_base": _link(pair.first), "in_run": _link(pair.side)}
    st.dataframe(
        table, hide_index=True, placeholder="—", column_config={**columns, **both}, height=430 if len(table) > 11 else "content", key=key,
        alt=f"One row per {noun}, the largest change of {name} first, with links to the {noun} in both models.",
    )  # fmt: skip


def _summary(pair: Pair, found: Changes, name: str, noun: str) -> str:
    unknown = found.n - found.n_known
    missing = f" {count(unknown, noun)} without this number on both sides left out." if unknown else ""
    if not found.n_changed:
        return f"Nothing changed: {plain(name)} is exactly the same for all {count(found.n_known, noun)} that both models have.{missing}"
    listed = f"the {SHOWN} largest differences are listed" if found.n_changed > SHOWN else "all of them are listed"
    of = f"{found.n_changed:,} of {count(found.n_known, noun)} that both models have"
    text = f"{of} differ in {plain(name)}; {listed}, largest first.{missing}"
    if pair.reasons:
        return f"{text} None is tested, since the two are not comparable here."
    if found.n_sure is None:
        return text
    return f"{text} After correction for {count(found.n_known, noun)}, **{found.n_sure:,}** stand out (q below {SURE:g})."


def _link(side: Side) -> Any:
    return st.column_config.LinkColumn(
        f"in {side.letter}", display_text="open", help=plain(f"Its page in {side.name}; opens beside this one")
    )


def unit_address(page: str, query: Mapping[str, str]) -> str:
    """The address of a unit's page, relative to this one."""
    return f"{PurePosixPath(page).stem}?{urlencode(query)}"


def value_columns(pair: Pair, name: str, *, form: str = "%.4g") -> dict[str, Any]:
    """The three columns of a ranked list: A, B, B − A."""
    made = st.column_config.NumberColumn
    return {
        "base": made(pair.first.heading, format=form, help=plain(name)),
        "value": made(pair.side.heading, format=form, help=plain(name)),
        "change": made(pair.minus, format=form.replace("%", "%+", 1), help=plain(f"{name}: second minus first")),
    }
