"""Tables of `sparsity_plane`: those of `essential_sparsity` where they are the same, and what only a plane of all targets has."""

from __future__ import annotations

from dataclasses import replace

from analysis.sensitivity.columns import ANY, COUNT, N_DOCUMENTS, N_MEASURED, OF_SCOPE
from analysis.sensitivity.tables import DROPS, LOSSES, POINTS
from analysis.spec import Column, Table

OF_ITS_OWN = "share of the intervention's denominator"
PHASES = ("prefill", "decode", "resident")
TARGET = Column("target", "str", "What it acts on: weights, activations, attention, tokens, structure")
RUNS_ON = Column(
    "runs_on", "str", "What can use it: nothing (yet), 2 of 4, blocks, gathers, smaller dense model; fronts are of one of them"
)
METHOD = Column("method", "str", "The intervention, by its name in list --interventions")
LEVEL = Column("level", "float", "Share to be removed", unit=OF_ITS_OWN, range=(0, 1))
SEED = Column("seed", "int", "Seed of its random choices", range=COUNT)
_CURVE = {
    "method": METHOD,
    "structure": Column("structure", "str", "How the zeros lie, where it is on weights; else empty"),
    "scope": Column("scope", "str", "Which weights compete with each other, where it is on weights; else empty"),
    "level": LEVEL,
    "achieved": Column(
        "achieved", "float", "Share removed of the denominator, counted while the model ran; of weights, zeros of the dense model included",
        unit=OF_ITS_OWN, range=(0, 1),
    ),
}  # fmt: skip


def _of_plane(table: Table, *more: Column) -> Table:
    """A table of weight curves, as one of interventions of every kind: shares are of a denominator of their own."""
    own = [
        _CURVE[one.name] if one.name in _CURVE and not (one.optional and table is DROPS) else replace(one, unit=OF_ITS_OWN)
        if one.unit == OF_SCOPE else one
        for one in table.columns
    ]  # fmt: skip
    return replace(table, columns=(*own, *more))


PLANE_POINTS = _of_plane(
    POINTS,
    TARGET,
    RUNS_ON,
    Column("denominator", "str", "What level and achieved are shares of, in words"),
    Column(
        "recall", "float", "Of the neurons that add most to a token, the share that was named; NULL where nothing names neurons beforehand",
        range=(0, 1), optional=True,
    ),
)  # fmt: skip
PLANE_LOSSES, PLANE_DROPS = _of_plane(LOSSES), _of_plane(DROPS, TARGET, RUNS_ON)

_PLACE = (
    Column("context", "int", "Positions of the operating point; the loss is measured at the shortest only", unit="positions", range=COUNT),
    Column("phase", "str", "prefill (FLOPs of one pass, B = 1), decode (bytes moved per token) or resident (bytes held)"),
    Column("batch", "int", "Sequences side by side: part of what they touch is shared, so dynamic sparsity shrinks", range=COUNT),
)
_DELTA = (
    Column("delta", "float", "Increase of the loss on the report documents; NULL where a loss is infinite or no number", range=ANY, optional=True),
    Column("low", "float", "Lower end of its 95 % interval over documents; NULL as delta, and for one document", range=ANY, optional=True),
    Column("high", "float", "Upper end; NULL as low", range=ANY, optional=True),
)  # fmt: skip
_SHARE = Column("share", "float", "Of what the dense model costs there; above 1 where selecting costs more than it saves", range=(0, 1e6))
COSTS = Table(
    "plane_costs",
    "What every level of every intervention costs, at every operating point, beside its loss.",
    ("method", "seed", "level", "context", "phase", "batch"),
    (
        METHOD,
        SEED,
        LEVEL,
        *_PLACE,
        TARGET,
        RUNS_ON,
        Column("absolute", "float", "FLOPs of a pass, or bytes", range=(0, 1e30)),
        Column("unit", "str", "FLOP or bytes"),
        _SHARE,
        *_DELTA,
        Column("achieved", "float", "Share removed", unit=OF_ITS_OWN, range=(0, 1)),
    ),
)
CHOICE = Table(
    "choice_points",
    "The same levels on the choice documents: fronts and configurations are picked by these, and nothing is reported of them.",
    ("method", "seed", "level"),
    (
        METHOD,
        SEED,
        LEVEL,
        Column(
            "delta", "float", "Increase of the loss on the choice documents; NULL where infinite or no number", range=ANY, optional=True
        ),
        Column("stderr", "float", "Its standard error; NULL as delta, and for one document", range=(0, 1e308), optional=True),
        N_MEASURED,
        N_DOCUMENTS,
    ),
)
FRONTS = Table(
    "fronts",
    "Points that no other of their class beats in both cost and loss: picked on the choice documents, shown as on the report documents.",
    ("runs_on", "context", "phase", "batch", "method", "seed", "level"),
    (
        RUNS_ON,
        *_PLACE,
        METHOD,
        SEED,
        LEVEL,
        TARGET,
        _SHARE,
        *_DELTA,
        Column("choice_delta", "float", "Increase of the loss on the choice documents, by which it was picked", range=ANY),
    ),
    summary=True,
)
_ALONE = "measured alone in this run; NULL where it was not, and where a loss is infinite or no number"
COMBINATIONS = Table(
    "combinations",
    "Two interventions at once: whether what they cost the loss adds up. Empty where no combination was asked for.",
    ("method", "level", "other", "other_level", "seed"),
    (
        METHOD,
        LEVEL,
        Column("other", "str", "The intervention beside it, by its name"),
        Column("other_level", "float", "Share of its denominator that it removes", range=(0, 1)),
        SEED,
        *_DELTA,
        Column("delta_method", "float", f"The same of the first, {_ALONE}", range=ANY, optional=True),
        Column("delta_other", "float", f"The same of the other, {_ALONE}", range=ANY, optional=True),
        Column("excess", "float", f"delta minus both: above 0 they harm each other, below 0 they remove the same; {_ALONE}", range=ANY, optional=True, evidence="O"),
        Column("excess_low", "float", "Lower end of its 95 % interval over documents, paired; NULL as excess, and for one document", range=ANY, optional=True),
        Column("excess_high", "float", "Upper end; NULL as excess_low", range=ANY, optional=True),
    ),
)  # fmt: skip
LIST = Table(
    "interventions",
    "Every intervention that was asked for: measured, or not applicable and why.",
    ("method",),
    (
        METHOD,
        TARGET,
        RUNS_ON,
        Column("title", "str", "Its title"),
        Column("line", "str", "What it does, in a sentence"),
        Column("kind", "str", "curve, or point: one level beside the dense model"),
        Column("needs", "str", "What of the calibration documents it needs, with commas; empty where nothing"),
        Column("evidence", "str", "Tags of its sources: C official code, 3 a paper's text or another's code, K unverified, O ours"),
        Column("notes", "str", "How it differs from what its sources do, in sentences; NULL where nothing is to be said", optional=True),
        Column("is_measured", "bool", "Whether it suits this model"),
        Column("reason", "str", "Why it does not suit; NULL where it does", optional=True),
    ),
    summary=True,
)
NOT_APPLICABLE = Table(
    "not_applicable",
    "Interventions that were asked for and do not suit this model: left out, which says nothing about how robust it is.",
    ("method",),
    (METHOD, TARGET, Column("reason", "str", "Why, in a sentence")),
)
TABLES = (PLANE_POINTS, PLANE_LOSSES, PLANE_DROPS, COSTS, CHOICE, FRONTS, COMBINATIONS, LIST, NOT_APPLICABLE)
