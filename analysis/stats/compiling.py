"""Compiled functions that call compiled functions of other modules: their cache must notice when those change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from analysis.stats.kernel import compiled


def compiled_over(*modules: ModuleType) -> Callable[[Callable[..., Any]], Any]:
    """`kernel.compiled`, cached under a name that holds a digest of the modules' sources.

    Numba's cache looks at the date of the function's own file alone, and keeps the code of what it calls with it: an upgrade that replaces
    only the file of the called function would go on with the old one. Numba names a cached function by its qualified name, so a digest in
    that name makes it another function.
    """
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    digest = hashlib.sha256(sources).hexdigest()[:12]

    def decorate(function: Callable[..., Any]) -> Any:
        function.__qualname__ = f"{function.__qualname__}_{digest}"
        return compiled(function)

    return decorate
