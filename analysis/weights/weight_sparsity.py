"""Which weight tensors are sparse, in which structure, and how concentrated are their magnitudes?

1. One tensor at a time, one slice of a huge one, read from the checkpoint where its files can be read; tied tensors once.
2. One pass over each (`stats.matrix_pass`): zeros, sums, groups of 2, 4 and 8 along both axes, tiles, counts of magnitudes.
3. Near zeros are relative to the tensor's own root mean square, so that layers compare.
4. What a matrix is pruned to is said in a word, and what the model is said to be is confirmed or refuted.
5. Totals over stated scopes, since a sparsity without its denominator says nothing; and per block and kind of matrix.

Sources: METHODS A0, A5, A12, A13, A19, B13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.spec import Analysis, Source, setting
from analysis.weights.glance import STRIPES, headlines
from analysis.weights.sparsity_figures import FIGURES
from analysis.weights.tables import LAYER_WEIGHTS, TABLES, TOTALS
from analysis.weights.values import notes_of, refusal

UNIT = 1 << 27
"""Weights per unit of work: small tensors share one, so that writing does not cost more than measuring."""
LARGE = 1 << 22
"""Weights of a tensor from which on its rows are shared out among threads; smaller ones take a thread each."""
MEMORY = 5 * 10**8
"""Bytes beside Python and its libraries: slices, sums per line and a unit's rows, whatever the model's size. Measured: 0.02 GB."""
CLAIMED = ("found", "none", "1 of 2 kept", "1 of 4 kept", "2 of 4 kept", "2 of 8 kept", "4 of 8 kept")


@dataclass(frozen=True, kw_only=True)
class WeightSparsityConfig:
    """Settings of `weight_sparsity`."""

    near: float = setting(
        1e-3, help="A weight is near zero up to this share of its tensor's root mean square", unit="x rms", ge=0.0, le=1.0
    )
    claim: str = setting(
        "found", help="The N of M the model is said to have; found: told by its name, or by most of its own matrices", choices=CLAIMED
    )
    slimming: float = setting(0.5, help="Share of all batch-norm channels that network slimming would remove", unit="share", ge=0.0, le=1.0)
    listed: int = setting(100, help="Zero rows and zero columns listed per matrix, each", ge=0, le=100_000)


def needs(subject: Any) -> str | None:
    """There must be weights that can be read."""
    if (why := refusal(subject)) is not None or next(iter(subject.tensors()), None) is not None:
        return why
    return f"{subject.label} has no weight tensors, so there is nothing to measure; give a checkpoint with parameters."


def run(config: WeightSparsityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables; a unit per group of tensors."""
    import torch

    from analysis.weights.claims import claim_rows, claims_of
    from analysis.weights.norms import is_scale, norm_rows

    subject = inputs["model"]
    tensors = [t for t in subject.tensors() if t.numel]
    units = {group[0].name: group for group in groups_of(tensors)}
    for name in work.units(list(units), what="tensors"):
        rows, state = measure(units[name], config, torch.get_num_threads(), work.report)
        yield from rows.items()
        work.save_state(state)
    done = _States(units, dict(work.states("tensors")))
    work.facts |= _facts(config, tensors, subject)
    yield "totals", _totals(tensors, done)
    yield "layer_weights", _layer_weights(tensors, done)
    inside = {t.name: done.groups[t.name] for t in tensors if t.name in done.groups and t.layer is not None} or done.groups
    claims = claims_of(config.claim, (subject.name, subject.label), inside)
    for table, rows in (
        ("claims", claim_rows(subject.label, claims, inside)),
        ("norm_scales", norm_rows([t for t in tensors if is_scale(t)], config.slimming)),
    ):
        if rows:
            yield table, rows


def measure(
    tensors: Sequence[Any], config: WeightSparsityConfig, threads: int, report: Callable[[float], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of a group of tensors by table, and what the totals need of them.

    Large tensors one after the other, the rows of each shared out among threads; of the small ones a whole one per thread, whose rows are
    made while other threads count. Which thread is free first changes no number.
    """
    import numpy as np

    from analysis.stats.threads import one_thread, run
    from analysis.weights import rows as made
    from analysis.weights.reading import read_numbers

    found: dict[str, Any] = {}

    def job(tensor: Any, threads: int) -> Callable[[int], None]:
        def work(worker: int) -> None:
            found[tensor.name] = _measured(tensor, read_numbers(tensor, threads), config)
            if not worker:  # only the caller's own thread may write to what the run keeps
                report(len(found) / len(tensors))

        return work

    with one_thread():
        run([job(t, threads) for t in tensors if t.numel >= LARGE], 1)
        run([job(t, 1) for t in sorted(tensors, key=lambda t: -t.numel) if t.numel < LARGE], threads)
    rows = made.RowsOf()
    for tensor in tensors:
        for table, more in found[tensor.name][0]:
            rows.add(table, more)
    counts, pq, groups = ([found[tensor.name][1][place] for tensor in tensors] for place in range(3))
    return rows.tables, {"counts": np.array(counts), "pq": np.array(pq, np.float64), "groups": np.array(groups)}


def _measured(tensor: Any, found: Any, config: WeightSparsityConfig) -> tuple[list[tuple[str, Any]], tuple[Any, Any, Any]]:
    """Rows of one tensor by table, and what the totals need: counts, PQ Index, groups."""
    from analysis.weights import rows as made
    from analysis.weights.claims import groups_array

    row = made.tensor_row(tensor, found, config.near)
    tables = [("tensors", row), ("tensor_histograms", made.histogram_rows(tensor.name, found))]
    if found.is_matrix:
        tables += made.matrix_rows(tensor, found, config.listed)
    counts = [row["n_weights"], row["n_zero"], row["n_near_zero"], int(found.is_matrix)]
    return tables, (counts, [row["pq_index"] is not None, row["pq_index"] or 0.0], groups_array(found.along_input))


def role_of(tensor: Any) -> str:
    """The name without the block's index: ``model.layers.3.mlp.up_proj.weight`` is ``mlp.up_proj.weight``."""
    if tensor.layer is None:
        return tensor.name
    before, found, after = tensor.name.partition(f".{tensor.layer}.")
    return after if found else before


def groups_of(tensors: Sequence[Any]) -> list[list[Any]]:
    """Consecutive tensors in groups of about `UNIT` weights."""
    groups: list[list[Any]] = []
    size = UNIT
    for tensor in tensors:
        if size + tensor.numel > UNIT:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.numel
    return groups


class _States:
    """What is kept of each tensor between its unit and the end: counts, PQ Index, groups."""

    def __init__(self, units: Mapping[str, Sequence[Any]], states: Mapping[str, Mapping[str, Any]]) -> None:
        self.counts: dict[str, Any] = {}
        """n_weights, n_zero, n_near_zero."""
        self.pq: dict[str, float] = {}
        """Only where it is defined."""
        self.groups: dict[str, Any] = {}
        """Only of matrices."""
        for unit, tensors in units.items():
            for place, tensor in enumerate(tensors):
                *counts, is_matrix = states[unit]["counts"][place].tolist()
                defined, pq = states[unit]["pq"][place]
                self.counts[tensor.name] = counts
                if defined:
                    self.pq[tensor.name] = float(pq)
                if is_matrix:
                    self.groups[tensor.name] = states[unit]["groups"][place]

    def sums(self, names: Sequence[str]) -> tuple[int, int, int]:
        """Weights, zeros and near zeros of some tensors together."""
        n, zero, near = (sum(self.counts[name][i] for name in names) for i in range(3))
        return n, zero, near


def _facts(config: WeightSparsityConfig, tensors: Sequence[Any], subject: Any) -> dict[str, Any]:
    """What must be known to read the numbers, and what the files say about how their values came about."""
    facts: dict[str, Any] = {"scope": "every parameter, tied ones once; buffers left out", "near": config.near}
    unknown = [t.name for t in tensors if t.matrix_shape is not None and t.input_axis is None and t.kind != "embedding"]
    facts["input_axis_unknown"] = len(unknown)
    values = notes_of(subject, tensors)
    if any(t.dtype == "float64" for t in tensors):
        values.append("float64 weights are measured as float32")
    return facts | {"values": values}


def _is_block_matrix(tensor: Any) -> bool:
    return tensor.layer is not None and len(tensor.shape) >= 2


def _layer_weights(tensors: Sequence[Any], done: _States) -> dict[str, list[Any]]:
    groups: dict[tuple[int, str], list[str]] = {}
    for tensor in tensors:
        if _is_block_matrix(tensor):
            groups.setdefault((tensor.layer, tensor.kind), []).append(tensor.name)
    rows: dict[str, list[Any]] = {c.name: [] for c in LAYER_WEIGHTS.columns}
    for (layer, kind), names in sorted(groups.items()):
        n, zero, near = done.sums(names)
        defined = [done.pq[name] for name in names if name in done.pq]
        mean = sum(defined) / len(defined) if defined else None
        for column, value in zip(rows, (layer, kind, len(names), n, zero / n, near / n, mean)):
            rows[column].append(value)
    return rows


def _totals(tensors: Sequence[Any], done: _States) -> dict[str, list[Any]]:
    block = [t.name for t in tensors if _is_block_matrix(t)]
    rest = [t.name for t in tensors if not _is_block_matrix(t)]
    rows: dict[str, list[Any]] = {c.name: [] for c in TOTALS.columns}
    for scope, names in (("all weights", block + rest), ("block matrices", block), ("everything else", rest)):
        n, zero, near = done.sums(names)
        if n:
            for column, value in zip(rows, (scope, len(names), n, zero / n, near / n)):
                rows[column].append(value)
    return rows


WEIGHT_SPARSITY = Analysis(
    slug="weight_sparsity",
    title="Weight sparsity",
    question="Which weight matrices are sparse, in which structure, and how concentrated are their magnitudes?",
    version=3,
    kind="static",
    sources=(
        Source("Base statistics of weights", "zeros, near zeros and norms per tensor", "C"),
        Source("Pruning Deep Neural Networks from a Sparsity Perspective", "Diao et al., ICLR 2023, arXiv 2302.05601", "C"),
        Source("Accelerating Sparse Deep Neural Networks", "Mishra et al. 2021, arXiv 2104.08378: 2 of 4", "C"),
        Source("Quick and Robust Feature Selection", "Atashgahi et al., Machine Learning 2022, arXiv 2012.00560: strength of lines", "C"),
        Source("Learning Efficient Convolutional Networks through Network Slimming", "Liu et al., ICCV 2017, arXiv 1708.06519", "C"),
        Source("Pruning-aware Sparse Regularization for Network Pruning", "Jiang et al. 2022, arXiv 2201.06776", "C"),
        Source("Comparing Measures of Sparsity", "Hurley and Rickard, IEEE Trans. Inf. Theory 2009, arXiv 0811.4706", "K"),
    ),
    config=WeightSparsityConfig,
    tables=TABLES,
    run=run,
    figures=FIGURES,
    needs=needs,
    memory=lambda config, facts: MEMORY,
    headlines=headlines,
    stripes=STRIPES,
)
