"""What the statistics of every attention head cost, beside the bare forward pass and beside eager attention with the same statistics.

Arms take turns in one process, so a busy machine slows all of them alike; the ratio of each round is taken and the median
printed with its spread, of wall and of processor seconds. Peak memory of each arm is measured in a process of its own. Eager
attention holds every pattern of a pass; where that does not fit into memory the arm is left out and said so, and --layers measures
all arms on the model's first layers alone.

    python -m benchmarks.attention [--model smollm2] [--windows 256 1024] [--rounds 3] [--skip-peer]
    python -m benchmarks.attention --windows 4096 --rounds 1
    python -m benchmarks.attention --windows 4096 --rounds 1 --layers 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from analysis.attention.observing import HeadObserver, attention_places, key_of
from analysis.capture import Frame
from analysis.capture.attention_session import capture_attention
from analysis.models import open_subject
from analysis.stats.attention import Queries
from analysis.stats.attention_kernel import EXCLUDED
from benchmarks.results import emit, in_turns, own_peak_mb

ARMS = ("bare", "captured", "eager")
BLOCK = 2**19
LIMITS, LONG_MEMORY = {"bare": 2.0, "eager": 1.0}, 1.3
"""Targets: at most so many times the seconds of that arm, and from 4,096 tokens on the memory of the bare pass."""


class Bench:
    """One model, one batch, and the arms."""

    def __init__(self, model: str, window: int, batch: int, layers: int | None) -> None:
        self.subject = open_subject(model, "python-docs", n_tokens=batch * window, window=window)
        if layers is not None:
            shorten(self.subject.model, layers)
        self.inputs, self.part = next(iter(self.subject.data.batches(batch)))
        self.frame = Frame.of(self.inputs)
        self.places = attention_places(self.subject)

    def pattern_bytes(self) -> int:
        """What eager attention keeps: the patterns of all places; and as much again for one of them while it is counted."""
        batch, n = self.inputs["input_ids"].shape
        return batch * n * n * 4 * (sum(p.heads for p in self.places) + 2 * max(p.heads for p in self.places))

    def bare(self) -> None:
        with torch.no_grad():
            self.subject.model(**self.inputs)

    def captured(self) -> None:
        observer = HeadObserver(self.subject, self.places, BLOCK)
        with capture_attention(self.subject.model, [p.site for p in self.places], observer) as session:
            observer.begin(self.part, self.frame)
            session.run(self.inputs, self.frame)

    def eager(self) -> None:
        """Patterns of all layers from the model, then the same statistics of them."""
        model = self.subject.model
        model.set_attn_implementation("eager")
        with torch.no_grad():
            patterns = model(**self.inputs, output_attentions=True).attentions
        model.set_attn_implementation("sdpa")
        observer = HeadObserver(self.subject, self.places, BLOCK)
        for place, pattern in zip(self.places, patterns, strict=True):
            tally = observer.tallies[key_of(place)]
            tally.update(self._queries(pattern), [(0, pattern.log().clamp_(min=float(EXCLUDED)).flatten(0, 1))])

    def _queries(self, pattern: torch.Tensor) -> Queries:
        import numpy as np

        batch, n = pattern.shape[0], pattern.shape[2]
        zeros, special = np.zeros(batch, np.int64), self.subject.data.special[self.part]
        keep = np.ones((batch, n), bool)
        return Queries(keep, zeros, zeros, self.subject.data.document[self.part], n, True, special, special)


def shorten(model: torch.nn.Module, layers: int) -> None:
    """Leave the model its first layers alone: the first list of modules that is as long as its config says."""
    n = model.config.num_hidden_layers  # type: ignore[union-attr]
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == n:
                setattr(module, name, child[:layers])
                return


def free_bytes() -> int:
    """Memory that can still be had."""
    return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024


def _seconds(rounds: int, arms: dict[str, Callable[[], None]]) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of every arm in every round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()  # warm: compiled kernels, allocated pools
    for _ in range(rounds):
        for name, arm in arms.items():
            start, cpu = time.perf_counter(), time.process_time()
            arm()
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return seconds


def _peak(options: argparse.Namespace, window: int, arm: str) -> float:
    """Peak memory in MB of a process that runs one arm twice."""
    command = [sys.executable, "-m", "benchmarks.attention", "--peak", arm, "--model", options.model]
    command += ["--windows", str(window), "--batch", str(options.batch)]
    command += [] if options.layers is None else ["--layers", str(options.layers)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Print seconds, ratios to the bare pass, and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--windows", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--skip-memory", action="store_true", help="measure time alone")
    parser.add_argument("--layers", type=int, help="measure on the model's first layers alone")
    parser.add_argument("--peak", choices=ARMS)
    options = parser.parse_args()
    for window in options.windows:
        bench = Bench(options.model, window, options.batch, options.layers)
        arms = {"bare": bench.bare, "captured": bench.captured, "eager": bench.eager}
        if options.peak:
            for _ in range(2):
                arms[options.peak]()
            print(own_peak_mb())
            return
        fits = bench.pattern_bytes() < 0.8 * free_bytes()
        if options.skip_peer or not fits:
            del arms["eager"]
        seconds = _seconds(options.rounds, arms)
        heads = sum(p.heads for p in bench.places)
        print(
            f"{options.model}: {options.batch} x {window} tokens, {heads} heads, {torch.get_num_threads()} threads, "
            f"{options.rounds} rounds, load {os.getloadavg()[0]:.1f}"
        )
        if not fits:
            wanted, free = bench.pattern_bytes() / 1e9, free_bytes() / 1e9
            print(f"  eager     its patterns take {wanted:.1f} GB, and {free:.1f} GB are free: left out")
        peaks = {} if options.skip_memory else {name: _peak(options, window, name) for name in seconds}
        for name, times in seconds.items():
            wall, cpu = ([t[i] / b[i] for t, b in zip(times, seconds["bare"], strict=True)] for i in (0, 1))
            peak = f"   peak {peaks[name]:6.0f} MB" if name in peaks else ""
            print(
                f"  {name:9} {statistics.median(t[0] for t in times):6.2f} s   wall {statistics.median(wall):6.3f} x bare "
                f"({min(wall):.3f} to {max(wall):.3f})   cpu {statistics.median(cpu):6.3f} x ({min(cpu):.3f} to {max(cpu):.3f}){peak}"
            )
        _emit(options, window, seconds, peaks)


def _emit(options: argparse.Namespace, window: int, seconds: dict[str, list[tuple[float, float]]], peaks: dict[str, float]) -> None:
    """Ours beside the bare pass, and beside eager attention where that fits. The target at 4,096 tokens is one of memory."""
    layers = "" if options.layers is None else f", first {options.layers} layers"
    what = f"every measure of every head: {options.model}{layers}, {options.batch} x {window:,} tokens"
    long = window >= 4096
    for beside, named in (("bare", "bare forward pass"), ("eager", "eager attention, the same statistics")):
        if beside in seconds:
            mine, other = peaks.get("captured"), peaks.get(beside)
            more = {"peak_mb": mine, "beside_peak_mb": other, "peer": beside == "eager"}
            if beside == "bare" and long and mine is not None and other is not None:
                more |= {"target": f"at most {LONG_MEMORY:g} x the memory of the bare pass", "met": mine / other <= LONG_MEMORY}
            limit = None if long and beside == "bare" else LIMITS[beside]
            emit(in_turns(what, "fused, in blocks of queries", named, seconds["captured"], seconds[beside], limit, **more))


if __name__ == "__main__":
    main()
