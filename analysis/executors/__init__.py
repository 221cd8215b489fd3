"""Where the units of a run are computed: by this process alone, by several of this machine, or by the nodes of a Ray cluster.

1. An analysis whose units do not need one another declares `Analysis.cells`: from config and opened inputs to the function of one cell.
2. The runner's process drives the analysis as ever. Where it would compute a cell it asks for it (`Work.compute`); what will be asked
   for next it says beforehand (`Work.expect`), and workers compute that meanwhile.
3. It alone commits units and seals, in the order in which one process would: so who computes changes no number, and a worker that
   is killed costs time.

Workers hold the model; a cell goes to one as a name and comes back as a value (`pool`). Local ones are processes (`local`), those of
a cluster are actors (`cluster`). Importing this package loads neither torch nor Ray.
"""

from __future__ import annotations

from analysis.executors.assignment import Assignment, Compute, Executor, Opening, Status
from analysis.executors.local import LocalExecutor

__all__ = ["Assignment", "Compute", "Executor", "LocalExecutor", "Opening", "Status"]
