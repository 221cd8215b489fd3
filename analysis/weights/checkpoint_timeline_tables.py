"""The tables of `checkpoint_timeline`: every column with its type, unit, meaning and range."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.checkpoint_timeline_structure_tables import STRUCTURE_TABLES
from analysis.weights.columns import COUNT, KIND, LAYER, ROLE, SHARE, SIZE, STEP, TENSOR, optional_share

_FIRST = "NULL for the first checkpoint"
_PQ = "PQ Index (p = 0.5, q = 1) {}; NULL where all are zero"


def _level_columns() -> tuple[Column, ...]:
    """What a tensor and a scope have at a step."""
    return (
        Column("n_weights", "int", "Weights, finite or not; tied ones once", unit="weights", range=COUNT),
        Column("n_zero", "int", "Exact zeros", unit="weights", range=COUNT),
        Column("n_nonfinite", "int", "NaN, infinite or beyond 1e150: left out of every other number", unit="weights", range=COUNT),
        Column("zero_share", "float", "Exact zeros / weights", unit="share", range=SHARE, evidence="C"),
        Column(
            "near_zero_share",
            "float",
            "Weights with |w| at most `near` times their tensor's root mean square, zeros among them / weights",
            unit="share",
            range=SHARE,
            evidence="O",
        ),
        Column(
            "below_share",
            "float",
            "Weights with |w| below the one threshold of the series / weights",
            unit="share",
            range=SHARE,
            evidence="K",
        ),
        Column("norm", "float", "Root of the sum of squares", range=SIZE),
    )


def _change_columns() -> tuple[Column, ...]:
    """What changed since the checkpoint before."""
    return (
        Column("n_new_zero", "int", f"Zero now, not in the checkpoint before; {_FIRST}", unit="weights", range=COUNT, optional=True),
        Column("n_revived", "int", f"Zero in the checkpoint before, not now; {_FIRST}", unit="weights", range=COUNT, optional=True),
        optional_share(
            "changed_share",
            f"Weights with another value than in the checkpoint before / compared; {_FIRST}",
        ),
        Column("change_norm", "float", f"Norm of the difference from the checkpoint before; {_FIRST}", range=SIZE, optional=True),
        Column("before_norm", "float", f"Norm of what it is compared with; {_FIRST}", range=SIZE, optional=True),
        Column(
            "relative_change",
            "float",
            f"change_norm / before_norm; {_FIRST}, and where before_norm is 0 and something changed",
            range=SIZE,
            optional=True,
            evidence="O",
        ),
        optional_share("mask_overlap", f"Weights that are not zero: in both / in at least one; {_FIRST}, and where both are all zero"),
        optional_share("mask_chance", "mask_overlap that two random masks of the same two densities have; NULL where mask_overlap is"),
        Column(
            "cosine",
            "float",
            f"Cosine with the checkpoint before; {_FIRST}, and where either is all zero",
            range=(-1, 1),
            optional=True,
        ),
        Column(
            "norm_ratio",
            "float",
            f"Norm / that in the checkpoint before; {_FIRST}, and where that is 0",
            range=SIZE,
            optional=True,
        ),
    )


TENSORS = Table(
    "timeline_tensors",
    "A row per checkpoint and weight tensor.",
    ("step", "tensor"),
    (
        STEP,
        TENSOR,
        LAYER,
        KIND,
        ROLE,
        *_level_columns(),
        Column("max_abs", "float", "Largest |w|", range=SIZE),
        Column("pq_index", "float", _PQ.format("of all weights"), range=SHARE, optional=True, evidence="C"),
        Column("pq_index_kept", "float", _PQ.format("of the weights that are not zero"), range=SHARE, optional=True, evidence="C"),
        *_change_columns(),
    ),
)

TIMELINE = Table(
    "timeline",
    "A row per checkpoint and scope.",
    ("step", "scope"),
    (
        STEP,
        Column("scope", "str", "all weights; matrices: those inside blocks, or all where there are no blocks"),
        Column("checkpoint", "str", "Name of its file or folder"),
        Column("n_tensors", "int", "Tensors in the scope", unit="tensors", range=COUNT),
        *_level_columns(),
        Column("pq_index", "float", f"Mean {_PQ.format('of all weights of each tensor')}", range=SHARE, optional=True, evidence="C"),
        Column(
            "pq_index_kept",
            "float",
            f"Mean {_PQ.format('of the weights that are not zero, of each tensor')}",
            range=SHARE,
            optional=True,
            evidence="C",
        ),
        *_change_columns(),
        optional_share(
            "cubic_share",
            "Zeros that the cubic pruning schedule between the same ends has at this step; NULL where zeros follow no schedule, and for "
            "all weights",
            "C",
        ),
    ),
    summary=True,
)

JUMPS = Table(
    "timeline_jumps",
    "The largest rise of each share from one checkpoint to the next, over the matrices.",
    ("measure",),
    (
        Column("measure", "str", "below_share (METHODS A1), zero_share or near_zero_share"),
        Column("jump", "float", "Largest rise from one checkpoint to the next; negative where it only falls", range=(-1, 1), evidence="O"),
        Column("before_step", "int", "Checkpoint before it", unit="steps", range=COUNT),
        Column("step", "int", "Checkpoint after it", unit="steps", range=COUNT),
        Column(
            "is_abrupt",
            "bool",
            "Whether it stands out: at least 5 points, and more than three times the changes beside it, as they are and per step; NULL "
            "with fewer than 4 checkpoints",
            optional=True,
            evidence="O",
        ),
    ),
    summary=True,
)

SCHEDULE = Table(
    "timeline_schedule",
    "The zeros of the matrices beside the cubic pruning schedule with the same ends; no row where they rise by less than a point.",
    ("begin_step",),
    (
        Column("begin_step", "int", "Last checkpoint before the rise", unit="steps", range=COUNT),
        Column("end_step", "int", "First checkpoint at its end", unit="steps", range=COUNT),
        Column("initial_share", "float", "Zeros of the first checkpoint", unit="share", range=SHARE),
        Column("final_share", "float", "Zeros of the last checkpoint", unit="share", range=SHARE),
        Column("deviation", "float", "Largest |zeros - cubic schedule| over the checkpoints", unit="share", range=SHARE, evidence="C"),
        Column("deviation_step", "int", "Checkpoint where that is", unit="steps", range=COUNT),
        Column("linear_deviation", "float", "The same from a straight line", unit="share", range=SHARE, evidence="O"),
        Column("n_between", "int", "Checkpoints between begin and end: without any, every schedule fits", range=COUNT),
        Column("n_revived", "int", "Zeros that became weights again, over all checkpoints: a pruning mask only grows", range=COUNT),
    ),
    summary=True,
)

PHASES = Table(
    "timeline_phases",
    "Phases of the mean PQ Index of the weights that are not zero, over the matrices.",
    ("phase",),
    (
        Column("phase", "int", "Number of the phase, from 0", range=COUNT),
        Column("first_step", "int", "Its first checkpoint", unit="steps", range=COUNT),
        Column("last_step", "int", "Its last checkpoint, the first of the next phase", unit="steps", range=COUNT),
        Column("direction", "str", "falls, rises or flat; moves back within the tolerance are no turn", evidence="O"),
        Column("change", "float", "PQ Index at its last minus at its first checkpoint", range=(-1, 1)),
    ),
    summary=True,
)

TABLES = (TENSORS, TIMELINE, JUMPS, SCHEDULE, PHASES, *STRUCTURE_TABLES)
