"""Every benchmark, one after the other, ours beside its peers: `make bench`, or `make bench QUICK=1` within 40 minutes on two cores.

Peers that need an environment of their own are installed into `.bench/`, where what is done is kept, too: interrupted, the same command
goes on with the next benchmark. At the end docs/benchmarks.md and its plots are written; of a part (``--only``), `.bench/benchmarks.md`.

    python -m benchmarks [--quick] [--only NAME ...] [--fresh] [--report]
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.listed import BENCHMARKS, QUICK_MINUTES, Benchmark, named
from benchmarks.peers import PEERS, Found, found
from benchmarks.report import write
from benchmarks.running import ROOT, Outcome, keep, kept, run

FOLDER = ROOT / ".bench"
LEAST_MINUTES, PATIENCE = 5.0, 4.0
"""A quick benchmark is stopped after so many times what it is expected to take, and not before so many minutes."""


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help=f"smaller sizes and fewer rounds, within {QUICK_MINUTES:.0f} minutes on two cores"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these benchmarks alone")
    parser.add_argument("--fresh", action="store_true", help="forget what an interrupted run has done")
    parser.add_argument("--report", action="store_true", help="run nothing: write the page of the last run again")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    mode = "quick" if asked.quick else "full"
    chosen = [named(name) for name in asked.only] or list(BENCHMARKS)
    going, last = (FOLDER / f"results{'-part' if asked.only else ''}{end}.jsonl" for end in (f"-{mode}", f"-{mode}-last"))
    page = FOLDER / "benchmarks.md" if asked.only else ROOT / "docs" / "benchmarks.md"
    if asked.report:
        write(page, kept(last), _peers(chosen), mode)
        return
    if asked.fresh:
        going.unlink(missing_ok=True)
    peers = _peers(chosen)
    for one in (signal.SIGINT, signal.SIGTERM):  # both end it in order; the former is ignored by what a script starts in the background
        signal.signal(one, signal.default_int_handler)
    try:
        outcomes = _all(chosen, mode, peers, going)
    except KeyboardInterrupt:
        write(FOLDER / "benchmarks.md", kept(going), peers, mode)
        raise SystemExit(
            f"\nStopped. {len(kept(going))} benchmarks are done and kept; the same command goes on. See .bench/benchmarks.md."
        ) from None
    going.replace(last)
    write(page, outcomes, peers, mode)
    print(f"\nWritten: {page.relative_to(ROOT)}")


def _peers(chosen: Sequence[Benchmark]) -> Mapping[str, Found]:
    """Those that the chosen benchmarks compare with."""
    wanted = {name for benchmark in chosen for name in benchmark.peers}
    made = {}
    for peer in PEERS:
        if peer.name in wanted:
            made[peer.name] = found(peer, FOLDER)
            print(f"{peer.name}: {made[peer.name].version or made[peer.name].reason}", flush=True)
    return made


def _all(chosen: Sequence[Benchmark], mode: str, peers: Mapping[str, Found], going: Path) -> list[Outcome]:
    """The outcome of each, those of an interrupted run taken over."""
    before = {one.name: one for one in kept(going)}
    outcomes = [before[one.name] for one in chosen if one.name in before]
    left = [one for one in chosen if one.name not in before]
    if before:
        print(f"{len(outcomes)} benchmarks were done before; going on (--fresh to begin anew).")
    for i, benchmark in enumerate(left):
        _tell(i, left, outcomes, mode)
        outcome = _one(benchmark, mode, peers, sum(one.seconds for one in outcomes))
        print(f"  {outcome.status} after {outcome.seconds:.0f} s, {len(outcome.results)} results. {outcome.reason}", flush=True)
        keep(going, outcome)
        outcomes.append(outcome)
    order = {one.name: i for i, one in enumerate(chosen)}
    return sorted(outcomes, key=lambda one: order[one.name])


def _tell(i: int, left: Sequence[Benchmark], outcomes: Sequence[Outcome], mode: str) -> None:
    """Which one is next, and for how long all will take, by how those before kept to what was expected of them."""
    known = {one.name: one.minutes for one in BENCHMARKS}
    expected = 60 * sum(known.get(one.name, 0.0) for one in outcomes if one.status == "done")
    pace = sum(one.seconds for one in outcomes if one.status == "done") / expected if expected else 1.0
    minutes = pace * sum(one.minutes for one in left[i:] if one.quick is not None)
    about = f"about {minutes:.0f} minutes left" if mode == "quick" else "full size: it takes what it takes"
    print(f"\n{time.strftime('%H:%M')} [{i + 1} of {len(left)}, {about}] {left[i].name}", flush=True)


def _one(benchmark: Benchmark, mode: str, peers: Mapping[str, Found], used: float) -> Outcome:
    """Run one, or say why not. ``used``: seconds that were spent so far, of which quick has so many."""
    if benchmark.needs:
        return Outcome(benchmark.name, "left out", benchmark.needs)
    arguments = benchmark.quick if mode == "quick" else benchmark.full
    if arguments is None:
        return Outcome(benchmark.name, "left out", "it takes long and is part of the full run only")
    limit = None
    if mode == "quick":
        rest = QUICK_MINUTES - used / 60
        if rest < benchmark.minutes / 2:
            return Outcome(benchmark.name, "left out", f"the {QUICK_MINUTES:.0f} minutes of a quick run were used up")
        limit = 60 * min(rest, max(LEAST_MINUTES, PATIENCE * benchmark.minutes))
    return _scrubbed(run(benchmark, arguments, peers, FOLDER, limit))


def _scrubbed(outcome: Outcome) -> Outcome:
    """Without the paths of this machine."""
    return dataclasses.replace(outcome, reason=outcome.reason.replace(f"{ROOT}/", "").replace(str(Path.home()), "~"))


if __name__ == "__main__":
    main()
