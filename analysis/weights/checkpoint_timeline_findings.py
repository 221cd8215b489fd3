"""What a series says as a whole: its timeline, jumps, schedule and phases, as rows and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.stats.timeline import cubic, is_abrupt, largest_jump, phases, schedule
from analysis.weights.checkpoint_timeline_structure import turns
from analysis.weights.checkpoint_timeline_tables import TIMELINE

MATRICES = "matrices"
MEASURES = {"below_share": "weights below the threshold", "zero_share": "exact zeros", "near_zero_share": "near zeros"}

Rows = list[tuple[str, dict[str, list[Any]]]]


def findings(series: Sequence[Any], states: Mapping[str, Mapping[str, Any]], tolerance: float) -> tuple[Rows, dict[str, Any]]:
    """Rows of the tables over the whole series, and the sentences about them."""
    rows = sorted(_timeline(series, states), key=lambda row: (row["step"], row["scope"]))
    inside = [row for row in rows if row["scope"] == MATRICES]
    steps = [row["step"] for row in inside]
    jumps, jump_words = _jumps(steps, inside)
    planned, schedule_words = _schedule(steps, inside)
    parts, phase_words = _phases(inside, tolerance)
    changed, structure_words = turns(sorted({row["step"] for row in rows}), {int(one["step"][0]): one for one in states.values()})
    tables = {"timeline": rows, "timeline_jumps": jumps, "timeline_schedule": planned, "timeline_phases": parts, "timeline_turns": changed}
    facts = {"steps": steps, "jump_words": jump_words, "schedule_words": schedule_words, "phase_words": phase_words}
    facts["structure_words"] = structure_words
    return [(name, _columns(found)) for name, found in tables.items() if found], facts


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _timeline(series: Sequence[Any], states: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = {one.step: one.name for one in series}
    rows = []
    for state in states.values():
        step = int(state["step"][0])
        for scope in {key.partition("/")[0] for key in state if "/" in key}:
            row: dict[str, Any] = {"step": step, "scope": scope, "checkpoint": names[step], "cubic_share": None}
            for column in TIMELINE.columns:
                if column.name not in row:
                    values = state[f"{scope}/{column.name}"]
                    row[column.name] = values[0].item() if len(values) else None
            rows.append(row)
    return rows


def _jumps(steps: Sequence[int], inside: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    rows, words = [], []
    for measure, what in MEASURES.items():
        values = [row[measure] for row in inside]
        jump = largest_jump(values)
        if jump is None:
            continue
        abrupt = is_abrupt(values, steps)
        before, after = steps[jump.place - 1], steps[jump.place]
        rows.append({"measure": measure, "jump": jump.size, "before_step": before, "step": after, "is_abrupt": abrupt})
        if abrupt:
            words.append(f"{what} by {jump.size:.1%} of the weights between steps {before:,} and {after:,}")
    if rows and rows[0]["is_abrupt"] is None:
        return rows, f"Whether a rise was abrupt cannot be told from {len(steps)} checkpoints."
    return rows, f"Abrupt: {'; '.join(words)}." if words else "No rise was abrupt."


def _schedule(steps: Sequence[int], inside: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The row of the schedule; writes the schedule's shares into the timeline's rows."""
    found = schedule(steps, [row["zero_share"] for row in inside])
    if found is None:
        return [], "the share of zeros does not rise by a point from the first checkpoint to the last."
    for row in inside:
        row["cubic_share"] = cubic(row["step"], found.begin, found.end, found.initial, found.final)
    revived = sum(row["n_revived"] or 0 for row in inside)
    row = {
        "begin_step": found.begin,
        "end_step": found.end,
        "initial_share": found.initial,
        "final_share": found.final,
        "deviation": found.deviation,
        "deviation_step": steps[found.place],
        "linear_deviation": found.linear_deviation,
        "n_between": found.n_between,
        "n_revived": revived,
    }
    if not found.n_between:
        return [row], f"Zeros rise between steps {found.begin:,} and {found.end:,}, with no checkpoint between that would tell how."
    words = f"Zeros rise from {found.initial:.1%} to {found.final:.1%} between steps {found.begin:,} and {found.end:,}, at most "
    words += f"{found.deviation:.1%} of the weights off the cubic schedule and {found.linear_deviation:.1%} off a straight line"
    return [row], f"{words}; {revived:,} zeros became weights again." if revived else f"{words}."


def _phases(inside: Sequence[Mapping[str, Any]], tolerance: float) -> tuple[list[dict[str, Any]], str]:
    known = [row for row in inside if row["pq_index_kept"] is not None]
    values = [row["pq_index_kept"] for row in known]
    rows = [
        {
            "phase": number,
            "first_step": known[one.first]["step"],
            "last_step": known[one.last]["step"],
            "direction": one.direction,
            "change": values[one.last] - values[one.first],
        }
        for number, one in enumerate(phases(values, tolerance))
    ]
    if not rows:
        return [], "A PQ Index at fewer than two checkpoints has no phases."
    parts = [f"{one['direction']} from step {one['first_step']:,} to {one['last_step']:,} ({one['change']:+.3f})" for one in rows]
    return rows, f"That of the weights that are not zero {', then '.join(parts)}."
