"""How fast the database answers the neuron pages: a store with a million neurons, and what each page asks of it.

    python benchmarks/pages.py [--layers 100] [--neurons 10000] [--examples 2] [--rounds 15] [--store FOLDER]

Times are server-side and without the pages' own cache, so they are what a reader waits for who sees a view for the first time.
Targets: 200 ms for the table and for a threshold change, 300 ms for all questions of a neuron's page together.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analysis.neurons.thresholds import THRESHOLDS, at_threshold  # noqa: E402
from benchmarks.results import Result, emit  # noqa: E402
from store import Filter, Order, RunInfo, Store  # noqa: E402
from tests.neuron_run import make_neurons  # noqa: E402

TABLE = (
    "layer",
    "hook_name",
    "neuron",
    "class",
    "density",
    "documents_active",
    "max",
    "min",
    "mean",
    "mean_active",
    "contribution",
    "kurtosis",
    "in_norm",
)
SORTS = ("density", "max", "mean", "contribution", "in_norm", "out_norm", "documents_active")


def unit_of(run: RunInfo) -> tuple[Filter, ...]:
    site = random.choice(run.summaries["layers"])
    return (
        Filter("layer", "=", site["layer"]),
        Filter("hook_name", "=", site["hook_name"]),
        Filter("neuron", "=", random.randrange(site["n_neurons"])),
    )


def table(store: Store, run: RunInfo) -> None:
    """A page of the table, sorted and filtered, with the number of rows that meet the filter."""
    where = [Filter("out_norm", ">=", random.uniform(0.5, 1.5))]
    order = [Order(random.choice(SORTS), descending=random.random() < 0.5)]
    store.count(run, "neurons", where)
    store.read(run, "neurons", columns=TABLE, where=where, order_by=order, limit=25, offset=25 * random.randrange(4))


def table_at_threshold(store: Store, run: RunInfo) -> None:
    """The same page, sorted by the density at a threshold."""
    derive = at_threshold(run, random.choice(THRESHOLDS))
    store.read(run, "neurons", columns=TABLE, order_by=[Order("density", descending=True)], limit=25, derive=derive)


def threshold_strip(store: Store, run: RunInfo) -> None:
    """The classes of all layers at a threshold."""
    store.groups(run, "neurons", ["layer", "hook_name", "class"], derive=at_threshold(run, random.choice(THRESHOLDS)))


def threshold_scatter(store: Store, run: RunInfo) -> None:
    """The scatter of all neurons at a threshold, thinned by the database."""
    derive = at_threshold(run, random.choice(THRESHOLDS))
    store.cells(run, "neurons", "density", "max", columns=("layer", "hook_name", "neuron", "class"), log_x=True, derive=derive)


def scatter(store: Store, run: RunInfo) -> None:
    """The scatter of all neurons as the run counted them."""
    store.cells(run, "neurons", "density", "max", columns=("layer", "hook_name", "neuron", "class"), log_x=True)


def neuron(store: Store, run: RunInfo) -> None:
    """Everything the page of one neuron asks."""
    where = unit_of(run)
    row = store.read(run, "neurons", where=where, limit=1).iloc[0]
    for column in ("max", "min", "mean", "contribution", "kurtosis", "in_norm", "out_norm"):
        store.count(run, "neurons", [*where[:2], Filter(column, "<", float(row[column]))])
    store.read(run, "neuron_histograms", columns=("bins", "counts"), where=where)
    store.read(run, "neuron_densities", columns=("threshold", "n_active"), where=where, order_by=["threshold"])
    found = store.read(run, "neuron_examples", where=where, order_by=["kind", "rank"])
    store.read(run, "windows", where=[Filter("window", "in", tuple(set(found["window"].tolist())))])


QUESTIONS: dict[str, tuple[Callable[[Store, RunInfo], None], float]] = {
    "table, sorted and filtered": (table, 200),
    "table at a threshold": (table_at_threshold, 200),
    "layer strip at a threshold": (threshold_strip, 200),
    "scatter": (scatter, 200),
    "scatter at a threshold": (threshold_scatter, 200),
    "page of one neuron": (neuron, 300),
}


def measure(store: Store, run: RunInfo, rounds: int) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile of each question in milliseconds; the first round, which reads the file, counts too."""
    found = {}
    for name, (question, _) in QUESTIONS.items():
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            question(store, run)
            times.append(1000 * (time.perf_counter() - began))
        found[name] = (statistics.median(times), sorted(times)[min(len(times) - 1, int(0.99 * len(times)))])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 100), ("neurons", 10_000), ("examples", 2), ("rounds", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", type=Path)
    asked = parser.parse_args()
    store = Store(asked.store or Path(tempfile.mkdtemp(prefix="pages-")))
    runs = store.runs(slug="neuron_activity")
    began = time.perf_counter()
    run = runs[0] if runs else make_neurons(store, n_layers=asked.layers, n_neurons=asked.neurons, n_examples=asked.examples)
    print(f"{run.rows['neurons']:,} neurons, {run.rows['neuron_densities']:,} densities, {run.rows['neuron_examples']:,} examples, "
          f"{run.size / 1e9:.2f} GB, made or found in {time.perf_counter() - began:.0f} s")  # fmt: skip
    random.seed(0)
    for name, (median, worst) in measure(store, run, asked.rounds).items():
        target = QUESTIONS[name][1]
        print(
            f"{name:28s} median {median:6.0f} ms   p99 {worst:6.0f} ms   target {target:.0f} ms   {'met' if median <= target else 'MISSED'}"
        )
        emit(
            Result(
                f"{name}, of {run.rows['neurons']:,} neurons", "the page's questions", rounds=asked.rounds,
                seconds=median / 1000, worst_seconds=worst / 1000, target=f"at most {target:g} ms at the median", met=median <= target,
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
