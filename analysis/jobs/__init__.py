"""Jobs: analyses at work outside of whoever asked for them, one operating-system process each, one at a time.

1. `Jobs.submit` checks the request, starts `python -m analysis job ID` in a process group of its own and enters it in the
   catalogue. Nothing lives in the server: it may be restarted, the page may be closed (`desk`).
2. The process waits for its turn before it loads anything (`line`), then runs the analysis (`work`) and writes a sign of
   life with its progress every two seconds; however it ends, the ending is written down (`session`).
3. Whoever looks (`Jobs.list`, `Jobs.get`) marks jobs whose process is gone as interrupted (`processes`).

A run from the command line does the same in the foreground. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from analysis.jobs.desk import Jobs
from analysis.jobs.knowledge import BRIDGE, why_not
from analysis.jobs.request import JobSpec, reference
from store import Job

__all__ = ["BRIDGE", "Job", "JobSpec", "Jobs", "reference", "why_not"]
