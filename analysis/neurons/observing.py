"""From a model and its windows to one accumulator per site: what `neuron_activity` sees during the forward passes.

1. `neuron_sites` runs the model once on two windows and keeps the sites whose values are neurons.
2. `NeuronObserver` is handed the values at every site and passes them on with the token, window and document of each row.
3. `StripReader` goes over the windows that hold examples once more and keeps the activations around each peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.capture.site import TOKEN_STREAMS, Frame, Site
from analysis.models.placement import weight_values
from analysis.neurons.expert_load import expert_loads, is_packed, packed
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.activity import ActiveRule, above_magnitude, exact_nonzero, relative_contribution
from analysis.stats.neurons import NeuronActivity
from analysis.stats.rows import Rows, rows_of_windows

if TYPE_CHECKING:
    from torch import Tensor, nn

RELU_FAMILY = ("relu", "relu6", "relu2", "squared_relu", "threshold", "hardtanh", "hardswish", "hardsigmoid")
"""Functions that give exact zeros on a whole range of inputs."""
NEURON_KINDS = ("ffn", "conv", "recurrent")


def neuron_sites(subject: Any) -> list[Site]:
    """The sites whose values are neurons, found on its data. Raises `IncompatibleSubject` where there are none."""
    from analysis.capture import find_sites

    batch, _ = next(iter(subject.data.batches(2, subject.device)))
    found = find_sites(subject.model, batch, names=subject.hook_names())
    return neurons_among(subject, found, is_text=subject.data.token_ids is not None)


def neurons_among(subject: Any, found: Sequence[Site], *, is_text: bool) -> list[Site]:
    """Those of the found sites whose values are neurons. Raises `IncompatibleSubject` where there are none."""
    # A pooled vector read by a classifier is no token's neuron; a recurrent call's final state is one of its sequence.
    sites = [s for s in found if s.kind in NEURON_KINDS and s.width and not (is_text and s.stream == "rows" and s.kind != "recurrent")]
    if not sites:
        raise IncompatibleSubject(
            f"{subject.label} has no FFN site: no matrix product reads the output of an activation function, so there are no neurons "
            f"to measure; weight_sparsity can still be run."
        )
    return sites


def has_exact_zeros(site: Site) -> bool:
    """Whether the site's activation function gives exact zeros (the ReLU family)."""
    return site.activation in RELU_FAMILY


def matrix(model: nn.Module, name: str | None, *, rows: int, expert: int | None = None, transposed: bool | None = None) -> Tensor | None:
    """A weight as [rows, columns]: ``rows`` outputs; a convolution flattened; None where no such matrix can be read.

    ``transposed`` says that it is stored [in, out]; where it is not known, the owner's type tells (GPT-2's Conv1D).
    """
    if name is None:
        return None
    weight = weight_values(model, name)
    if weight.ndim == 3 and expert is not None:
        weight = weight[expert]
    if transposed is None:
        owner = model.get_submodule(name.rpartition(".")[0])
        transposed = type(owner).__name__ == "Conv1D"
    if weight.ndim == 2 and transposed:
        weight = weight.T
    if weight.ndim < 2 or weight.shape[0] != rows or weight.is_meta:
        return None
    return weight.reshape(rows, -1)


def output_weights(model: nn.Module, site: Site) -> Tensor | None:
    """w_out of each neuron [width, d_out], a convolution's [width, channels, ...]; a view of the reading matrix.

    None where there is none, or it has no column per neuron (grouped convolutions).
    """
    if site.weight is None or site.role != "input" or site.width is None:
        return None
    weight = weight_values(model, site.weight)
    if weight.ndim == 3 and site.expert is not None:
        weight = weight[site.expert]
    neurons = 0 if site.transposed else 1
    if weight.is_meta or weight.ndim < 2 or weight.shape[neurons] != site.width:
        return None
    return weight.movedim(neurons, 0)


def output_norms(model: nn.Module, site: Site) -> np.ndarray | None:
    """||w_out_i||_2 of each neuron [width]; None where the reading matrix has no column per neuron (grouped convolutions)."""
    weight = output_weights(model, site)
    return None if weight is None else weight.double().flatten(1).norm(dim=1).cpu().numpy()


def active_rule(model: nn.Module, site: Site, active: float, magnitude: float) -> ActiveRule:
    """Relative contribution wherever the FFN's output is at hand; else non-zero (ReLU family) or above a magnitude."""
    norms = output_norms(model, site)
    assert site.width is not None
    if site.product and norms is not None:
        return relative_contribution(norms, active)
    return exact_nonzero(site.width) if has_exact_zeros(site) else above_magnitude(site.width, magnitude)


class Lengths:
    """Positions per window in each token stream. They number the tokens, so they must be the same in every batch."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    def see(self, frame: Frame, n_windows: int | None = None) -> None:
        """Take note of a batch. Raises `UserError` where its windows are longer or shorter than those before, or not in rows."""
        for stream in TOKEN_STREAMS:
            shape = frame.shape(stream)
            if shape is not None and n_windows is not None and shape[0] != n_windows:
                raise UserError(f"the first axis of every input must count examples, got {n_windows} and {shape[0]}; put the batch first.")
            if shape is not None and self._found.setdefault(stream, shape[1]) != shape[1]:
                raise UserError(
                    f"all examples must have the same length, got {self._found[stream]} and {shape[1]} positions; pad them to one length."
                )

    def of(self, site: Site) -> int:
        """Positions per window at a site of a token stream."""
        return self._found[site.stream]


class NeuronObserver:
    """Passes what flows past the sites on to one accumulator each; reduces at once, keeps nothing of the stream's size."""

    gates = True

    def __init__(self, subject: Any, sites: Sequence[Site], config: Any) -> None:
        self.sites = list(sites)
        self._data, self._config = subject.data, config
        per_document = np.bincount(self._data.document, minlength=len(self._data.documents))
        self.accumulators = {
            site.name: NeuronActivity(
                int(site.width or 0),
                rule=active_rule(subject.model, site, config.active, config.magnitude),
                document_windows=per_document,
                seed=config.seed,
                has_gate=_shows_gates(site),
                top=config.examples,
            )
            for site in self.sites
        }
        self.loads = expert_loads(self.sites, len(self._data.documents))
        self._part, self._lengths = slice(0, 0), Lengths()
        self._frame = Frame(None)
        self._rows: dict[int, Rows] = {}
        self._seen: dict[str, np.ndarray] = {}

    def begin(self, part: slice, frame: Frame) -> None:
        """The next batch holds these windows."""
        self._part, self._rows, self._seen, self._frame = part, {}, {}, frame
        self._lengths.see(frame, part.stop - part.start)

    def end(self) -> None:
        """Count the windows of the batch that a site saw no row of (experts that were not chosen)."""
        windows = np.arange(self._part.start, self._part.stop)
        for site in self.sites:
            seen = self._seen.get(site.name)
            missed = windows if seen is None else np.setdiff1d(windows, seen)
            self.accumulators[site.name].skip_windows(self._data.document[missed])
        for load in self.loads.values():
            load.end(self._frame.n_real(load.sites[0].stream))

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """Sites without an aligned product: recurrent outputs, convolutions."""
        if not site.product:
            self._take(site, values, rows, None, None, None)

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:
        """Sites with one output row per row read."""
        self._take(site, values, rows, output, gate, up)

    def _take(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor | None, gate: Tensor | None, up: Tensor | None) -> None:
        if site.name in self._seen:
            raise UserError(
                f"{site.hook_name} runs more than once in a forward pass (shared layers), which neuron_activity cannot tell apart; "
                f"weight_sparsity can still be run."
            )
        here = self._rows_for(len(values), rows, site)
        self._seen[site.name] = np.unique(here.window_id)
        load = self.loads.get(site.group or "")
        if load is not None and site in load.sites:
            load.see(int(site.member or 0), np.arange(len(values)) if rows is None else rows.cpu().numpy(), here.document_id)
        accumulator = self.accumulators[site.name]
        # In float32: a norm in bfloat16 would be off by up to 0.4 %.
        scale = output.float().norm(dim=1) if output is not None and accumulator.rule.kind == "relative" else None
        accumulator.update(here, values, scale=scale, gate=gate, up=up)

    def _rows_for(self, n: int, rows: Tensor | None, site: Site) -> Rows:
        """Token, window and document of each of n rows; all positions of the batch in order where ``rows`` is None."""
        if rows is None:
            if n not in self._rows:
                self._rows[n] = batch_rows(self._data, self._part, n, self._config)
            return self._rows[n]
        everything = self._rows_for((self._part.stop - self._part.start) * self._lengths.of(site), None, site)
        return everything.take(rows.cpu().numpy(), whole=True)

    def state(self) -> dict[str, np.ndarray]:
        """The accumulators' arrays, for a checkpoint."""
        kept = {f"{i}|{name}": array for i, site in enumerate(self.sites) for name, array in self.accumulators[site.name].state().items()}
        return kept | packed(self.loads)


def merged(sites: Sequence[Site], states: Iterator[tuple[str, Mapping[str, np.ndarray]]]) -> dict[str, NeuronActivity]:
    """One accumulator per site from the states of all units; any order gives the same."""
    found: dict[str, NeuronActivity] = {}
    for _, state in states:
        per_site: dict[int, dict[str, np.ndarray]] = {}
        for name, array in state.items():
            if is_packed(name):
                continue
            i, _, entry = name.partition("|")
            per_site.setdefault(int(i), {})[entry] = array
        for i, arrays in per_site.items():
            part = NeuronActivity.from_state(arrays)
            if sites[i].name in found:
                found[sites[i].name].merge(part)
            else:
                found[sites[i].name] = part
    return found


def batch_rows(data: Any, part: slice, n: int, config: Any) -> Rows:
    """Rows of the windows ``part`` where each gives n / windows rows, in order: tokens of a text, positions of an image."""
    windows = np.arange(part.start, part.stop)
    per_window = n // len(windows)
    if n != per_window * len(windows):
        raise UserError(f"a site must give the same number of rows for every example, got {n} rows for {len(windows)} examples.")
    tokens = data.token_ids
    if tokens is not None and tokens.shape[1] == per_window:
        rankable = np.ones((len(windows), per_window), bool)
        if not config.rank_special:
            rankable &= ~data.special[part]
        if not config.rank_first:
            rankable[:, 0] = False
        return rows_of_windows(tokens[part], windows, data.document[part], rankable=rankable)
    places = windows[:, None] * per_window + np.arange(per_window)
    return rows_of_windows(places, windows, data.document[part], rankable=np.ones(places.shape, bool))


def _shows_gates(site: Site) -> bool:
    """Whether the capture hands over act(gate) and up of this site: gated units with an aligned product."""
    return site.gated and site.product


class StripReader:
    """Keeps the activations around given peaks, in thousandths of the largest magnitude among them."""

    def __init__(self, wanted: Mapping[str, StripPlan]) -> None:
        self._wanted = wanted
        self._windows, self._lengths = np.zeros(0, np.int64), Lengths()

    def begin(self, windows: np.ndarray, frame: Frame) -> None:
        """The next batch holds these windows, ascending."""
        self._windows = windows
        self._lengths.see(frame, len(windows))

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """Keep what the plan of the site asks for."""
        plan = self._wanted.get(site.name)
        if plan is None:
            return
        block = values.float()
        if rows is not None:
            full = block.new_zeros(len(self._windows) * self._lengths.of(site), block.shape[1])
            full[rows] = block
            block = full
        plan.read(block.reshape(len(self._windows), -1, block.shape[1]).cpu().numpy(), self._windows)


class StripPlan:
    """The strips of one site: for each example its neuron, window and stretch of tokens. Memory: 2 bytes per token kept."""

    def __init__(self, neuron: np.ndarray, window: np.ndarray, position: np.ndarray, length: int, before: int, after: int) -> None:
        order = np.argsort(window, kind="stable")
        self._order, self._sorted = order, window[order]
        self.windows = np.unique(window)
        self._neuron = neuron
        self.first = np.maximum(position - before, 0)
        self.stop = np.minimum(position + after + 1, length)
        self.strips = np.zeros((len(neuron), before + after + 1), np.int16)

    def read(self, values: np.ndarray, windows: np.ndarray) -> None:
        """values [windows, tokens, neurons] of ascending windows."""
        begin, end = np.searchsorted(self._sorted, windows[0]), np.searchsorted(self._sorted, windows[-1], side="right")
        chosen = self._order[begin:end]
        place = np.searchsorted(windows, self._sorted[begin:end])
        steps = self.first[chosen][:, None] + np.arange(self.strips.shape[1])
        inside = steps < self.stop[chosen][:, None]
        found = values[place[:, None], np.minimum(steps, values.shape[1] - 1), self._neuron[chosen][:, None]]
        found = np.where(inside & np.isfinite(found), found, 0.0)
        peak = np.abs(found).max(1, keepdims=True)
        self.strips[chosen] = np.rint(found / np.where(peak > 0, peak, 1.0) * 1000).astype(np.int16)
