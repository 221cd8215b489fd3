"""How long torch's threads wait awake for their next piece of work. Imported before torch is: it is read once, at the start.

After each operation they spin for some milliseconds by default, on the cores that our own statistics want at that very
moment (docs/benchmarks-capture.md has what that costs). A spin of some tens of microseconds still bridges the gaps
between operations. Whoever sets these variables keeps his value.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("KMP_BLOCKTIME", "1")
