"""Interventions on structure (heads, neurons, sublayers, blocks, ranks), one file each; `METHODS` is the table of contents."""

from __future__ import annotations

from analysis.interventions.entry import Entry
from analysis.interventions.structure.heads import HeadMeans, Heads
from analysis.interventions.structure.layers import AttentionSublayers, Blocks, BlocksByGate, BlocksByLoss, EarlyExit, FfnSublayers
from analysis.interventions.structure.named import NamedMethod
from analysis.interventions.structure.neurons import Neurons, Prefixes
from analysis.interventions.structure.rank import MatrixRank
from analysis.interventions.structure.scaling import BranchScaling
from analysis.interventions.structure.slicing import SlicedDimensions

LINES: tuple[tuple[type[NamedMethod], str, bool], ...] = (
    (Heads, "Remove the attention heads whose gates the loss feels least.", True),
    (HeadMeans, "Put the mean in place of the attention heads whose gates the loss feels least.", False),
    (Neurons, "Remove the FFN neurons that add least to the stream.", True),
    (Prefixes, "Keep the first neurons of every FFN and remove the others.", False),
    (AttentionSublayers, "Remove whole attention sublayers, the one first that costs least alone.", True),
    (FfnSublayers, "Remove whole FFN sublayers, the one first that costs least alone.", True),
    (Blocks, "Remove whole blocks, the one first that turns the stream least.", True),
    (BlocksByGate, "Remove whole blocks, the one first whose gate the loss feels least.", False),
    (BlocksByLoss, "Remove whole blocks, the one first that costs least alone.", False),
    (EarlyExit, "Remove blocks from the end, and read the answer through the final norm and head.", False),
    (MatrixRank, "Keep the largest singular directions of every matrix.", True),
    (SlicedDimensions, "Keep the leading principal directions of the residual stream, block by block.", True),
    (BranchScaling, "Scale what whole blocks add to a quarter, the one first that a learned score says matters least.", False),
)
"""Each method, one sentence on it, and whether it is measured where none is named."""

METHODS: tuple[Entry, ...] = tuple(
    Entry(made.name, line, "structure", made.runs_on, made, made.origin, default=default) for made, line, default in LINES
)
"""In the order they are offered."""
