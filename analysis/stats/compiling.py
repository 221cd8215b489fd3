"""How loops are compiled and kept: the cache of a function must notice when one that it calls, in another file, changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba

FAST = frozenset({"nnan", "nsz", "reassoc", "contract"})
"""Relaxed float rules, safe where every value is finite."""

compiled = numba.njit(cache=True, nogil=True, fastmath=set(FAST), error_model="numpy")
"""Of functions that take nothing from other files."""
inlined = numba.njit(nogil=True, fastmath=set(FAST), error_model="numpy", forceinline=True)
"""Of the parts of those: put into each that calls them, and kept on disk with it alone.

Were a part a function of its own, a process that compiles its caller would run the part as compiled by itself, and one that reads the
caller from disk the part as optimised once more with it: under relaxed rules the two may differ in the last bits.
"""


def compiled_over(*modules: ModuleType, exact: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """`compiled`, cached under a name that holds a digest of the sources of ``modules``; ``exact``: without the relaxed float rules.

    Numba's cache looks at the date of the function's own file alone, and keeps the code of what it calls (and the constants it takes)
    with it: an upgrade that replaces only the file of the called function would go on with the old one. Numba names a cached function
    by its qualified name, so a digest in that name makes it another function.
    """
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    digest = hashlib.sha256(sources).hexdigest()[:12]
    compile_it = numba.njit(cache=True, nogil=True, error_model="numpy") if exact else compiled

    def decorate(function: Callable[..., Any]) -> Any:
        function.__qualname__ = f"{function.__qualname__}_{digest}"
        return compile_it(function)

    return decorate
