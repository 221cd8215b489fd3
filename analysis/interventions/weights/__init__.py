"""Methods for pruning weights, one file each; `METHODS` is the table of contents."""

from __future__ import annotations

from analysis.interventions.weights.dsnot import DSnoT, DSnoTOnMagnitude, DSnoTOnSparseGPT
from analysis.interventions.weights.lamp import Lamp
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Method
from analysis.interventions.weights.obert import OBert, OBertUpdate
from analysis.interventions.weights.random_scores import Random
from analysis.interventions.weights.sparsegpt import SparseGPT
from analysis.interventions.weights.taylor import Taylor, TaylorSquared
from analysis.interventions.weights.wanda import Wanda, WandaCumulative

METHODS: tuple[type[Method], ...] = (
    Magnitude, Random, Lamp, Wanda, WandaCumulative, SparseGPT, DSnoT, DSnoTOnMagnitude, DSnoTOnSparseGPT, Taylor, TaylorSquared,
    OBert, OBertUpdate,
)  # fmt: skip
"""In the order they are offered."""
