"""What capturing every FFN neuron costs, beside the bare forward pass and beside TransformerLens' run_with_cache + numpy.

Arms take turns in one process, so a busy machine slows all of them alike; the ratio of each round is taken and the median
printed with its spread. Peak memory of each arm is measured in a process of its own.

    python -m benchmarks.capture [--model smollm2] [--batch 4] [--window 256] [--rounds 7] [--skip-peer]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from analysis.capture import Frame, capture
from analysis.models import open_subject
from analysis.neurons.neuron_activity import NeuronActivityConfig
from analysis.neurons.observing import NeuronObserver, neuron_sites
from analysis.stats.histogram import bin_edges
from benchmarks.results import emit, in_turns, own_peak_mb

ARMS = ("bare", "hooks alone", "captured", "captured, later", "peer")

TARGET = 1.10
"""At most so many times the bare forward pass."""

LATER = 20
"""Batches the accumulators of "captured, later" can take in."""

COMPARED = (
    ("hooks alone", "bare", None),
    ("captured", "bare", None),
    ("captured, later", "bare", TARGET),
    ("captured, later", "peer", 1.0),
)
NAMED = {"bare": "bare forward pass", "peer": "TransformerLens run_with_cache, then NumPy"}


class Bench:
    """One model, one batch, and the arms."""

    def __init__(self, model: str, batch: int, window: int) -> None:
        # As many windows as all rounds may ask for: a window may be taken in once only.
        self.subject = open_subject(model, "python-docs", n_tokens=batch * window * LATER, window=window)
        self.inputs, self.part = next(iter(self.subject.data.batches(batch)))
        self.frame = Frame.of(self.inputs)
        self.sites = neuron_sites(self.subject)
        self.config = NeuronActivityConfig(window=window)
        self.tokens = batch * window
        self.old, self.seen = NeuronObserver(self.subject, self.sites, self.config), 0
        self.norms = {s.module: self.subject.model.get_parameter(s.weight).detach().norm(dim=0).numpy() for s in self.sites}

    def bare(self) -> None:
        with torch.no_grad():
            self.subject.model(**self.inputs)

    def hooks_alone(self) -> None:
        class Nothing:
            gates = True

            def product(self, *values: object) -> None: ...

        with capture(self.subject.model, self.sites, Nothing()) as session:
            session.run(self.inputs, self.frame)

    def captured(self) -> None:
        with capture(self.subject.model, self.sites, self.observer) as session:
            self.observer.begin(self.part, self.frame)
            session.run(self.inputs, self.frame)
            self.observer.end()

    def later(self) -> None:
        """The same with accumulators that have seen batches before, as all but a run's first: lists filled, memory in place."""
        self.seen += 1
        size = self.part.stop - self.part.start
        part = slice(self.seen * size, (self.seen + 1) * size)
        with capture(self.subject.model, self.sites, self.old) as session:
            self.old.begin(part, self.frame)
            session.run(self.inputs, self.frame)
            self.old.end()

    def fresh(self) -> None:
        """Accumulators that have seen nothing, made outside of the timed part: they serve a whole run."""
        self.observer = NeuronObserver(self.subject, self.sites, self.config)

    def peer_setup(self) -> None:
        """TransformerLens' bridge around its own copy of the model (a bridge replaces submodules)."""
        from transformer_lens.model_bridge.sources.transformers import boot

        subject = open_subject(self.subject.name)
        self.bridge = boot(
            subject.source if subject.source.count("/") == 1 else "HuggingFaceTB/SmolLM2-135M-Instruct",
            hf_model=subject.model,
            tokenizer=subject.tokenizer,
        )

    def peer(self) -> None:
        """The same statistics the way a notebook does them: cache the activations, then numpy."""
        wanted = [f"blocks.{i}.mlp.{what}" for i in range(len(self.sites)) for what in ("hook_post", "hook_pre", "hook_pre_linear")]
        wanted += [f"blocks.{i}.hook_mlp_out" for i in range(len(self.sites))]
        with torch.no_grad():
            _, cache = self.bridge.run_with_cache(self.inputs["input_ids"], names_filter=lambda name: name in set(wanted))
        edges = bin_edges()
        for i, site in enumerate(self.sites):
            a = cache[f"blocks.{i}.mlp.hook_post"].reshape(self.tokens, -1).numpy()
            out = cache[f"blocks.{i}.hook_mlp_out"].reshape(self.tokens, -1).numpy()
            numpy_statistics(a, np.linalg.norm(out, axis=1), self.norms[site.module], edges)


def numpy_statistics(a: np.ndarray, scale: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> None:
    """Moments, extremes, counts, histogram, top examples and per-token measures of [tokens, neurons]."""
    exact = a.astype(np.float64)
    centred = exact - exact.mean(0)
    [(centred**p).mean(0) for p in (2, 3, 4)]
    a.min(0), a.max(0), (a == 0).sum(0)
    (np.abs(a) * weight > 0.01 * scale[:, None]).sum(0)
    np.stack([np.histogram(column, edges)[0] for column in a.T])
    np.argpartition(-a, 20, axis=0)[:20]
    np.abs(a).sum(1), (exact**2).sum(1)


def _seconds(rounds: int, fresh: Callable[[], None], arms: dict[str, Callable[[], None]]) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of every arm in every round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for arm in arms.values():
        fresh()
        arm()  # warm: compiled kernels, allocated pools
    for _ in range(rounds):
        for name, arm in arms.items():
            fresh()
            start, cpu = time.perf_counter(), time.process_time()
            arm()
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return seconds


def _peak(options: argparse.Namespace, arm: str) -> float:
    """Peak memory in MB of a process that runs one arm twice."""
    command = [sys.executable, "-m", "benchmarks.capture", "--peak", arm, "--model", options.model]
    command += ["--batch", str(options.batch), "--window", str(options.window)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Print seconds, ratios to the bare pass, and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7, choices=range(1, LATER - 1))
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--peak", choices=ARMS)
    options = parser.parse_args()
    bench = Bench(options.model, options.batch, options.window)
    arms = {"bare": bench.bare, "hooks alone": bench.hooks_alone, "captured": bench.captured, "captured, later": bench.later}
    if options.peak == "peer" or not (options.skip_peer or options.peak):
        bench.peer_setup()
        arms["peer"] = bench.peer
    if options.peak:
        for _ in range(2):
            bench.fresh()
            arms[options.peak]()
        print(own_peak_mb())
        return
    seconds = _seconds(options.rounds, bench.fresh, arms)
    n = sum(site.width or 0 for site in bench.sites)
    print(f"{options.model}: {bench.tokens} tokens, {n:,} neurons, {torch.get_num_threads()} threads, {options.rounds} rounds")
    peaks = {name: _peak(options, name) for name in seconds}
    for name, times in seconds.items():
        wall, cpu = ([t[i] / b[i] for t, b in zip(times, seconds["bare"])] for i in (0, 1))
        print(
            f"  {name:15} {statistics.median(t[0] for t in times):6.2f} s   wall {statistics.median(wall):6.3f} x bare "
            f"({min(wall):.3f} to {max(wall):.3f})   cpu {statistics.median(cpu):6.3f} x ({min(cpu):.3f} to {max(cpu):.3f})   "
            f"peak {peaks[name]:6.0f} MB"
        )
    what = f"every FFN neuron counted: {options.model}, {bench.tokens:,} tokens, {n:,} neurons"
    for name, beside, limit in COMPARED:
        if beside in seconds:
            more = {"peak_mb": peaks[name], "beside_peak_mb": peaks[beside], "peer": beside == "peer"}
            emit(in_turns(what, name, NAMED[beside], seconds[name], seconds[beside], limit, **more))


if __name__ == "__main__":
    main()
