"""How the level is shared out among the matrices, one file each; `RATIOS` is the table of contents.

Uniform is none of them: without a ratio, each matrix (or row) loses the level itself.
"""

from __future__ import annotations

from analysis.interventions.ratios.floor import GlobalFloor
from analysis.interventions.ratios.grasp import Grasp
from analysis.interventions.ratios.owl import Owl
from analysis.interventions.ratios.pq import PQ
from analysis.interventions.ratios.shapes import ER, ERK, UniformPlus
from analysis.interventions.ratios.snip import Snip
from analysis.interventions.weights.method import Ratio

RATIOS: tuple[type[Ratio], ...] = (ER, ERK, UniformPlus, GlobalFloor, PQ, Snip, Grasp, Owl)
"""In the order they are offered."""
