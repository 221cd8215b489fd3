"""What the statistics of one FFN site cost: the fused kernel against a read pass and against the eager reference.

Everything is run in turns in one process, several rounds, and the fastest round counts; ratios therefore hold on a busy
machine too. "CPU" is the processor time of all threads together, which does not count waiting for a processor.

    python benchmarks/kernel.py [--tokens 1024] [--neurons 1536] [--sites 8] [--rounds 7] [--threads 2] [--forward]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.results import emit  # noqa: E402
from benchmarks.results import in_turns as compared  # noqa: E402

WINDOW = 256


def compile_seconds() -> tuple[float, float]:
    """Seconds to import and compile with an empty disk cache, and with a full one."""
    code = (
        "import time; t = time.perf_counter(); from benchmarks.kernel import Bench; b = Bench(256, 64, 1, 2); t = time.perf_counter();"
        "b.gated(0); print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", code]
        runs = [subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    return float(runs[0].stdout), float(runs[1].stdout)


class Bench:
    """Some sites with fresh values each, as a forward pass would leave them."""

    def __init__(self, tokens: int, neurons: int, sites: int, threads: int) -> None:
        from analysis.stats.activity import relative_contribution
        from analysis.stats.neurons import NeuronActivity

        rng = np.random.default_rng(0)
        self.shape, self.windows, self.round = (tokens, neurons), tokens // WINDOW, 0
        rule = relative_contribution(rng.uniform(0.5, 1.5, neurons), 0.01)
        self.values = [torch.from_numpy(rng.normal(0, 0.2, self.shape).astype(np.float32)) for _ in range(sites)]
        self.scale = rng.uniform(5, 10, tokens)

        def made(engine: str, has_gate: bool) -> list[NeuronActivity]:
            settings = {"rule": rule, "document_windows": np.full(4000, 4), "seed": 0, "threads": threads}
            return [NeuronActivity(neurons, has_gate=has_gate, engine=engine, **settings) for _ in range(sites)]  # type: ignore[arg-type]

        self.sites = {"fused": made("auto", False), "gated": made("auto", True), "eager": made("eager", False)}
        self.turn = dict.fromkeys(self.sites, 0)

    def _rows(self, name: str):
        from analysis.stats.rows import rows_of_windows

        first = self.turn[name] * self.windows
        self.turn[name] += 1
        ids = np.arange(first, first + self.windows)
        tokens = np.random.default_rng(first).integers(0, 50_000, (self.windows, WINDOW))
        return rows_of_windows(tokens, ids, ids // 4)

    def read(self, _: int) -> None:
        """One pass over the values."""
        for v in self.values:
            v.sum()

    def fused(self, _: int) -> None:
        rows = self._rows("fused")
        for site, v in zip(self.sites["fused"], self.values, strict=True):
            site.update(rows, v, scale=self.scale)

    def gated(self, _: int) -> None:
        rows, n = self._rows("gated"), len(self.values)
        for k, (site, v) in enumerate(zip(self.sites["gated"], self.values, strict=True)):
            site.update(rows, v, scale=self.scale, gate=self.values[(k + 1) % n], up=self.values[(k + 2) % n])

    def eager(self, _: int) -> None:
        """One site only."""
        self.sites["eager"][0].update(self._rows("eager"), self.values[0], scale=self.scale)


def in_turns(work: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each in each round, all run in turns after one round to warm up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, run in work.items():
            wall, busy = time.perf_counter(), time.process_time()
            run(number)
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            if number:
                taken[name].append((wall, busy))
    return taken


def forward_pass(tokens: int) -> Callable[[int], None]:
    """The matrix products of SmolLM2-135M's 30 blocks and its unembedding, which is most of a bare forward pass."""
    d, f, kv, vocabulary = 576, 1536, 192, 49_152
    shapes = [(d, d), (kv, d), (kv, d), (d, d), (f, d), (f, d)]
    weights, down, head = [torch.randn(s) for s in shapes], torch.randn(d, f), torch.randn(vocabulary, d)
    x, inner = torch.randn(tokens, d), torch.randn(tokens, f)

    def run(_: int) -> None:
        with torch.no_grad():
            for _layer in range(30):
                for w in weights:
                    torch.nn.functional.linear(x, w)
                torch.nn.functional.linear(inner, down)
            torch.nn.functional.linear(x, head)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 1024), ("neurons", 1536), ("sites", 8), ("rounds", 7), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--forward", action="store_true", help="also the matrix products of a SmolLM2-135M forward pass")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    bench = Bench(a.tokens, a.neurons, a.sites, a.threads)
    work = {"read pass (sum)": bench.read, "fused": bench.fused, "fused, gated": bench.gated, "eager": bench.eager}
    if a.forward:
        work["forward pass, matrix products"] = forward_pass(a.tokens)
    taken = in_turns(work, a.rounds)
    best = {name: (min(one[0] for one in rounds), min(one[1] for one in rounds)) for name, rounds in taken.items()}
    n = a.tokens * a.neurons
    sizes = {"eager": n} | dict.fromkeys(("read pass (sum)", "fused", "fused, gated"), n * a.sites)
    fused = best["fused"][0] / sizes["fused"]
    print(f"{a.tokens} tokens x {a.neurons} neurons x {a.sites} sites, {a.threads} threads, fastest of {a.rounds} rounds")
    for name, size in sizes.items():
        wall, busy = (t / size * 1e9 for t in best[name])
        print(f"  {name:<18}{wall:8.2f} ns/value wall{busy:8.2f} ns/value CPU   {wall / fused / 1e9:7.2f} x fused (wall)")
    if a.forward:
        wall, busy = best["forward pass, matrix products"]
        print(f"  forward pass, matrix products: {wall:.3f} s wall, {busy:.3f} s CPU")
        for name in ("fused", "fused, gated"):
            cost_wall, cost_busy = (t / a.sites * 30 * 1536 / a.neurons for t in best[name])
            print(f"    {name} at 30 sites: {100 * cost_wall / wall:.1f} % of its wall, {100 * cost_busy / busy:.1f} % of its CPU time")
    print("  first call with empty / full disk cache: {:.1f} s / {:.2f} s".format(*compile_seconds()))
    each = {name: [(wall / sizes[name], busy / sizes[name]) for wall, busy in taken[name]] for name in sizes}
    what = f"statistics of an FFN site: {a.tokens:,} x {a.neurons:,} values"
    for beside, named in (("read pass (sum)", "reading the values once"), ("eager", "the same in plain torch")):
        emit(compared(what, "compiled, in one pass", named, each["fused"], each[beside], note="seconds are per value"))


if __name__ == "__main__":
    main()
