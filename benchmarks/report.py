"""docs/benchmarks.md: one table of everything measured, what is missed, what is left out and why, and how it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import words
from benchmarks.listed import BENCHMARKS
from benchmarks.peers import Found
from benchmarks.plots import draw
from benchmarks.running import Outcome
from benchmarks.words import Row

LIBRARIES = ("torch", "transformers", "numpy", "numba", "duckdb", "pyarrow", "streamlit")
HEAD = ("what", "ours", "held against", "ours takes", "it takes", "ours over it, by the clock", "by processor time", "memory, MB", "target")


def write(place: Path, outcomes: Sequence[Outcome], peers: Mapping[str, Found], mode: str) -> None:
    """The page and its plots, beside each other."""
    rows = [row for outcome in outcomes for row in outcome.results]
    plots = draw(rows, place.parent)
    parts = [
        _head(outcomes, mode),
        _pictures(plots),
        _table(rows),
        _shortfalls(outcomes),
        _left_out(outcomes, peers),
        _how(outcomes, peers),
    ]
    place.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _head(outcomes: Sequence[Outcome], mode: str) -> str:
    done = [one for one in outcomes if one.status == "done"]
    minutes = sum(one.seconds for one in outcomes) / 60
    command = "make bench QUICK=1" if mode == "quick" else "make bench"
    n_rows = sum(len(one.results) for one in outcomes)
    judged = [row["met"] for one in outcomes for row in one.results if row["met"] is not None]
    return (
        f"# Benchmarks\n\nWritten by `{command}` on {datetime.now(UTC):%-d %B %Y}: {len(done)} of {len(BENCHMARKS)} benchmarks "
        f"in {minutes:.0f} minutes on {machine()}. {n_rows} comparisons; {sum(judged)} of {len(judged)} targets are met.\n\n"
        "A ratio is ours over what it is held against, taken in turns in the same run, so that a busy machine slows both: less is better. "
        "Its median stands with the lowest and the highest round. Processor time does not count waiting for a core. Memory is the peak of "
        "a process that does nothing else, ours / the other."
    )


def machine() -> str:
    """The kind of machine, without its name."""
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    flags = Path("/proc/cpuinfo").read_text()
    wide = ", AVX-512" if "avx512f" in flags else ", AVX2" if "avx2" in flags else ""
    return f"{os.cpu_count()} cores ({platform.machine()}{wide}), {memory:.0f} GB of memory, {platform.system()}"


def _pictures(plots: Mapping[str, str]) -> str:
    return "\n\n".join(f"![{words_}]({name})" for name, words_ in plots.items())


def _table(rows: Sequence[Row]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    for row in rows:
        taken = words.seconds(row["seconds"])
        if row["worst_seconds"] is not None:
            taken += f", p99 {words.seconds(row['worst_seconds'])}"
        cells = (
            row["what"] + (f" ({row['note']})" if row["note"] else ""), row["arm"], row["beside"] or "–", taken,
            words.seconds(row["beside_seconds"]), words.ratio(row["wall"]), words.ratio(row["processor"]), words.memory(row),
            words.target(row) + (" – **slower**" if words.slower(row) and row["met"] is None else ""),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def _shortfalls(outcomes: Sequence[Outcome]) -> str:
    found = [(one.name, words.shortfall(row)) for one in outcomes for row in one.results]
    lines = [f"- {sentence} {_profile(name)}" for name, sentence in found if sentence]
    said = "\n".join(lines) if lines else "Nothing."
    return f"## Where ours is slower, or a target is missed\n\n{said}"


def _profile(name: str) -> str:
    """Where to read what bounds a benchmark, and how to see it again."""
    explained = next(one.explained for one in BENCHMARKS if one.name == name)
    page = f" [What it said](benchmarks-{explained}.md)." if explained else ""
    return f"`make profile WHAT={name}` says where the time goes.{page}"


def _left_out(outcomes: Sequence[Outcome], peers: Mapping[str, Found]) -> str:
    lines = [f"- {one.name}: {one.status}; {one.reason}." for one in outcomes if one.reason]
    lines += [f"- {one.name}: {one.reason}" for one in peers.values() if one.reason]
    done = {one.name for one in outcomes}
    lines += [f"- {one.name}: not reached." for one in BENCHMARKS if one.name not in done]
    return "## What is not here, and why\n\n" + ("\n".join(lines) if lines else "Everything is here.")


def _how(outcomes: Sequence[Outcome], peers: Mapping[str, Found]) -> str:
    targets = {one.name: one.target for one in BENCHMARKS}
    versions = [f"Python {platform.python_version()}", *(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)]
    theirs = [f"{one.name} {one.version}" for one in peers.values() if one.version]
    lines = ["| benchmark | command | took | load before | target |", "| --- | --- | --- | --- | --- |"]
    module = {one.name: one.module for one in BENCHMARKS}
    for one in outcomes:
        if one.status != "left out":
            command = f"`python -m benchmarks.{module[one.name]} {' '.join(one.arguments)}".rstrip() + "`"
            lines.append(f"| {one.name} | {command} | {one.seconds:.0f} s | {one.load:.1f} | {targets[one.name]} |")
    return "## How\n\n" + f"{', '.join(versions)}. Peers: {', '.join(theirs)}.\n\n" + "\n".join(lines)
