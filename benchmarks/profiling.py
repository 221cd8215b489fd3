"""Where the time of a benchmark goes: `make profile WHAT=name` runs its quick form under cProfile and prints the dearest functions.

What a benchmark does in processes of its own (peaks of memory, peers with their own environment) is not seen; compiled loops are one line.
A profiler makes small functions look dearer than they are: compare shares, not seconds.

    python -m benchmarks.profiling NAME [--lines 40] [--full] [--sort tottime]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import runpy
import sys

from benchmarks.listed import named


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--sort", choices=("tottime", "cumulative"), default="tottime")
    asked = parser.parse_args()
    benchmark = named(asked.name)
    arguments = benchmark.full if asked.full or benchmark.quick is None else benchmark.quick
    sys.argv = [f"benchmarks.{benchmark.module}", *arguments]
    profile = cProfile.Profile()
    try:
        profile.runcall(runpy.run_module, f"benchmarks.{benchmark.module}", run_name="__main__", alter_sys=True)
    finally:
        stats = pstats.Stats(profile).strip_dirs()
        print(f"\nBy {asked.sort}, with all that each function calls in the column cumtime:")
        stats.sort_stats(asked.sort).print_stats(asked.lines)
        print("Who calls the dearest ones:")
        stats.print_callers(5)


if __name__ == "__main__":
    main()
