"""Every benchmark that `make bench` runs: its module, what it is asked, quick and in full, the peers it wants, and its target in words.

The order is that of the table in docs/benchmarks.md. Minutes are what the quick form takes on two shared cores; they only say how much
time is left, and what still fits into the time that quick allows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """One child process."""

    name: str
    module: str
    target: str
    quick: tuple[str, ...] | None
    """Its arguments; None where it is only part of the full run."""
    full: tuple[str, ...]
    minutes: float
    peers: tuple[str, ...] = ()
    """Peers it compares with, by name."""
    interpreter: tuple[str, str] | None = None
    """A peer with an environment of its own, and the argument that its interpreter is given by."""
    explained: str = ""
    """Which docs/benchmarks-*.md says where its time goes and what bounds it."""
    needs: str = ""
    """Why it is left out of every run that finds nothing else; empty for all that run anywhere."""


def split(words: str) -> tuple[str, ...]:
    """Arguments, as on a command line."""
    return tuple(words.split())


TORCH, LENS, SAES = "torch (torch.nn.utils.prune, eager attention)", "TransformerLens", "sae-lens"
WATCHER, DASHBOARD = "WeightWatcher", "SAEDashboard"

BENCHMARKS = (
    Benchmark(
        "capture", "capture", "at most 1.10 x the bare forward pass, less than TransformerLens with NumPy",
        split("--rounds 5"), split("--rounds 15"), 3, (LENS,), explained="capture",
    ),
    Benchmark(
        "capture-minilm", "capture", "at most 1.10 x the bare forward pass",
        split("--model minilm --rounds 9 --skip-peer"), split("--model minilm --rounds 15 --skip-peer"), 1, explained="capture",
    ),
    Benchmark("kernel", "kernel", "less than the same in plain torch", split("--rounds 5"), split("--rounds 15 --forward"), 1),
    Benchmark(
        "attention", "attention", "at most 2 x the bare pass, less than eager attention",
        split("--windows 256 1024 --rounds 3"), split("--windows 256 1024 --rounds 9"), 2, (TORCH,), explained="attention",
    ),
    Benchmark(
        "attention-minilm", "attention", "at most 2 x the bare pass, less than eager attention",
        split("--model minilm --batch 4 --windows 256 --rounds 5"), split("--model minilm --batch 4 --windows 256 --rounds 15"), 0.8,
        (TORCH,), explained="attention",
    ),
    Benchmark(
        "attention-long-layers", "attention", "at 4,096 tokens at most 1.3 x the memory of the bare pass, less time than eager attention",
        split("--windows 4096 --rounds 1 --layers 3"), split("--windows 4096 --rounds 3 --layers 3"), 1.5, (TORCH,), explained="attention",
    ),
    Benchmark("attention-long", "attention", "at 4,096 tokens at most 1.3 x the memory of the bare pass",
        None, split("--windows 4096 --rounds 1"), 8, (TORCH,), explained="attention",
    ),
    Benchmark(
        "weights", "weights", "at most 4 x one plain pass over the file; less than WeightWatcher",
        split("--rounds 3 --models smollm2 minilm --spectra gpt2 --spectra-rounds 1"), split("--rounds 9 --big 8 --models smollm2 minilm"),
        2,
        (WATCHER,), (WATCHER, "--weightwatcher"), explained="weights",
    ),
    Benchmark(
        "pruning", "pruning", "less than torch.nn.utils.prune", split("--rounds 2"), split("--rounds 7 --comparisons"), 1.3, (TORCH,),
        explained="sensitivity",
    ),
    Benchmark(
        "sweep", "sweep", "at most 1.05 x as many bare evaluations, less than torch.nn.utils.prune",
        split("--tokens 8192 --measure 4"), split("--tokens 8192"), 3.5, (TORCH,), explained="sensitivity",
    ),
    Benchmark(
        "sweep-minilm", "sweep", "at most 1.05 x as many bare evaluations, less than torch.nn.utils.prune",
        split("--model minilm --tokens 8192 --measure 10"), split("--model minilm --tokens 8192"), 0.8, (TORCH,), explained="sensitivity",
    ),
    Benchmark(
        "matrix-grid", "matrix_grid", "1.6 times less than naive full passes at the same points, 3 times with coarse levels",
        split("--tokens 1024 --blocks 2"), split("--tokens 2048 --blocks 4"), 5, explained="sensitivity",
    ),
    Benchmark(
        "matrix-grid-minilm", "matrix_grid", "1.6 times less than naive full passes at the same points, 3 times with coarse levels",
        split("--model minilm --tokens 2048 --blocks 2"), split("--model minilm --tokens 4096 --every 1"), 1.5, explained="sensitivity",
    ),
    Benchmark(
        "executors", "executors", "two workers of one thread at least 1.6 times as fast as one",
        split("--rounds 1 --tokens 1024"), split("--rounds 5"), 4,
    ),
    Benchmark(
        "sae-training", "sae_training", "less time than sae-lens' own runner",
        split("--tokens 8192 --rounds 2"), split("--tokens 65536 --rounds 5"), 0.8, (SAES, LENS),
    ),
    Benchmark(
        "latent-dashboards", "latent_dashboards", "less time than SAEDashboard",
        split("--tokens 2048 --rounds 1"), split("--tokens 16384 --rounds 3"), 2, (DASHBOARD, LENS), (DASHBOARD, "--dashboard"),
        explained="latents",
    ),
    Benchmark(
        "pages", "pages", "200 ms for a table of a million neurons, 300 ms for a neuron's page",
        split("--layers 100 --rounds 15"), split("--layers 100 --rounds 101"), 1,
    ),
    Benchmark(
        "store-scale", "store_scale", "every page's questions 300 ms at the median and 1 s at the 99th percentile; home 1 s",
        split("--runs 100 --neurons 1e6 --rows 1e7 --rounds 7"), split("--runs 1000 --neurons 1e7 --rows 1e8 --rounds 101"), 4.5,
    ),
    Benchmark("serve", "serve", "3 s to a home page that can be used", split("--rounds 3"), split("--rounds 11"), 0.6),
    Benchmark(
        "opt-wikitext", "opt_wikitext", "published perplexities of OPT-125M", None, (), 0,
        needs="it needs a model and a text from a network: docs/benchmarks-sensitivity.md says how to get them and the command",
    ),
)  # fmt: skip

QUICK_MINUTES = 40.0


def named(name: str) -> Benchmark:
    """The benchmark of a name. Raises `SystemExit` with the names there are."""
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark
    raise SystemExit(f"a benchmark must be one of {', '.join(one.name for one in BENCHMARKS)}, got {name!r}; name one of these.")
