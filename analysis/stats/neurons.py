"""Everything that is kept of one FFN site's activations while they stream past. Memory does not grow with the stream.

Any split of the rows into updates and any order of merging give the same result: counts, extremes, examples, samples and
histograms exactly, moments and sums to 1e-10 relative. Size: about 515 x 4 bytes for the histogram, (top + bottom) x 20
for examples and sample_windows x 12 for the sample, per neuron; plus 72 bytes per document.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.activity import ActiveRule
from analysis.stats.block import BlockStatistics, ChannelStatistics, RowContext, eager_block, eager_channel
from analysis.stats.examples import Best, WindowSample, offer_windows
from analysis.stats.firing import Documents, OpenWindow, open_window_arrays, open_windows_of
from analysis.stats.histogram import N_BINS
from analysis.stats.moments import Moments, Spread
from analysis.stats.rows import Rows
from analysis.stats.tally import COUNTS, SUMS, Channel, State, Tally
from analysis.stats.tokens import GiniSample, TokenMeasures

if TYPE_CHECKING:
    import torch

Engine = Literal["auto", "fused", "eager"]


class NeuronActivity:
    """The accumulator of one site of n neurons; see the module's docstring for the contract."""

    def __init__(
        self,
        n_neurons: int,
        *,
        rule: ActiveRule,
        document_windows: ArrayLike,
        seed: int,
        has_gate: bool,
        top: int = 20,
        bottom: int = 5,
        sample_windows: int = 32,
        gini_tokens: int = 256,
        engine: Engine = "auto",
        threads: int | None = None,
    ) -> None:
        """`rule` says what active means; `document_windows` [documents] how many windows each document has in all."""
        if rule.weight.shape != (n_neurons,):
            raise ValueError(f"the rule must have one weight per neuron ({n_neurons}), got {rule.weight.shape}; make it anew.")
        self.n_neurons, self.rule, self.has_gate, self.seed = n_neurons, rule, has_gate, seed
        self.engine: Engine = engine
        self.threads = threads
        self.n_rows = self.n_windows = 0
        self.moments = Moments.zeros(n_neurons)
        self.tally = Tally.empty(n_neurons, COUNTS + SUMS)
        self.histogram = np.zeros((n_neurons, N_BINS), np.int32)
        self.top, self.bottom = Best.empty(n_neurons, top), Best.empty(n_neurons, bottom)
        self.sample = WindowSample.empty(n_neurons, sample_windows, seed)
        self.documents = Documents.empty(n_neurons, np.array(document_windows, np.int64))
        self.open: dict[int, OpenWindow] = {}
        self.tokens = TokenMeasures.empty(len(self.documents.totals))
        self.gini = GiniSample.empty(gini_tokens, seed)
        self.channels = {name: Channel.empty(n_neurons) for name in (("gate", "up") if has_gate else ())}

    # ---- taking in ----------------------------------------------------------------------------------------------------

    def update(
        self,
        rows: Rows,
        values: torch.Tensor | NDArray[Any],
        *,
        scale: torch.Tensor | NDArray[Any] | None = None,
        gate: torch.Tensor | NDArray[Any] | None = None,
        up: torch.Tensor | NDArray[Any] | None = None,
    ) -> None:
        """Take in a block: values, gate, up [T, n] of any float type, scale [T] = ||FFN(x_t)||_2, in the order of rows."""
        given = {"gate": gate, "up": up}
        if self.has_gate != (gate is not None) or self.has_gate != (up is not None):
            raise ValueError(f"gate and up must {'both' if self.has_gate else 'not'} be given here; see has_gate.")
        if not len(rows):
            return
        block = self._float_block(values, rows, "values")
        paths = {name: self._float_block(given[name], rows, name) for name in self.channels}
        if self.n_rows + len(rows) >= 2**31:
            raise ValueError(f"a site must see fewer than 2**31 rows, got {self.n_rows + len(rows)}; use several accumulators.")
        context = self._context(rows, scale)
        found, channels = self._statistics(block, context, paths)
        self.n_rows += len(rows)
        self._add_moments(self.moments, found.moments)
        for name, channel in channels.items():
            self._add_moments(self.channels[name].moments, channel.moments)
            self.channels[name].tally.add({"low": channel.low, "high": channel.high, "n_positive": channel.n_positive})
        names = ("low", "high", "n_active", "n_zero", "n_nonfinite", "n_relative", *SUMS)
        self.tally.add({name: getattr(found, name) for name in names})
        self.tokens.update(rows, found.row_sums, found.row_finite, self.n_neurons)
        self.gini.update(rows, block, found.row_finite, self._n_threads)
        self._take_windows(rows, found)

    def skip_windows(self, document_ids: ArrayLike) -> None:
        """Windows of which this site sees no row (an expert that was not chosen): one entry of their document each."""
        different, windows = np.unique(np.asarray(document_ids, dtype=np.int64), return_counts=True)
        self.n_windows += int(windows.sum())
        for document, count in zip(different, windows, strict=True):
            self.documents.add(int(document), int(count), None)

    def _float_block(self, values: Any, rows: Rows, what: str) -> torch.Tensor:
        import torch

        block = torch.as_tensor(values).detach()
        if block.shape != (len(rows), self.n_neurons):
            raise ValueError(f"{what} must be [{len(rows)}, {self.n_neurons}] (rows, neurons), got {list(block.shape)}.")
        block = block.float()
        return (block if rows.order is None else block[torch.from_numpy(rows.order).to(block.device)]).contiguous()

    def _context(self, rows: Rows, scale: Any) -> RowContext:
        norms = None
        if scale is not None:
            norms = np.asarray(scale.detach().cpu().double() if hasattr(scale, "detach") else scale, dtype=np.float64)
            if norms.shape != (len(rows),):
                raise ValueError(f"scale must be [{len(rows)}], one norm per row, got {list(norms.shape)}.")
            norms = norms if rows.order is None else norms[rows.order]
        threshold = self.rule.thresholds(len(rows), norms)
        inverse = np.zeros(len(rows))
        if self.rule.kind == "relative" and norms is not None:
            usable = np.isfinite(norms) & (norms > 0)
            inverse[usable] = 1 / norms[usable]
        return RowContext(rows.starts, rows.rankable, self.rule.weight, threshold, inverse)

    def _statistics(
        self, block: torch.Tensor, context: RowContext, paths: dict[str, torch.Tensor]
    ) -> tuple[BlockStatistics, dict[str, ChannelStatistics]]:
        if self._fused(block):
            from analysis.stats.fused import fused_site

            numbers = {name: path.numpy() for name, path in paths.items()}
            return fused_site(block.numpy(), context, self.histogram, numbers, self._n_threads)
        return eager_block(block, context, self.histogram), {name: eager_channel(path) for name, path in paths.items()}

    @property
    def _n_threads(self) -> int:
        import torch

        return 1 if self.engine == "eager" else self.threads or torch.get_num_threads()

    def _add_moments(self, moments: Spread, found: Spread) -> None:
        if self.engine == "eager":
            moments.merge(found)
            return
        from analysis.stats.fused import merge_moments_into

        merge_moments_into(moments, found)

    def _fused(self, block: torch.Tensor) -> bool:
        if self.engine == "fused" and block.device.type != "cpu":
            raise ValueError(f"values must be in main memory for the fused engine, got {block.device}; use engine='auto'.")
        return self.engine != "eager" and block.device.type == "cpu"

    # ---- windows ------------------------------------------------------------------------------------------------------

    def _take_windows(self, rows: Rows, found: BlockStatistics) -> None:
        """Rank the windows that are whole in this block at once; set the others aside until they are."""
        index, documents, whole = rows.token_index, rows.document_id[rows.starts[:-1]], np.flatnonzero(rows.whole)
        high = (self.top, 1, found.window_high, found.window_high_row)
        low = (self.bottom, -1, found.window_low, found.window_low_row)
        offer_windows((high, low), whole, index, rows.key, threads=None if self.engine == "eager" else self._n_threads)
        self.n_windows += len(whole)
        fired = found.fired[whole]
        self.tally.add({"windows_active": (fired & 1).sum(0, np.int64), "windows_nonzero": (fired >> 1).sum(0, np.int64)})
        for w in whole:
            row, window = found.window_high_row[w], int(rows.windows[w])
            place = self.sample.place_for(window)
            if place is not None:
                self.sample.put(place, window, found.window_high[w], np.where(row >= 0, index[row], -1))
            self.documents.add(int(documents[w]), 1, found.fired[w])
        for w in np.flatnonzero(~rows.whole):
            high, low = found.window_high_row[w], found.window_low_row[w]
            first = rows.starts[w]
            part = OpenWindow(
                int(documents[w]), int(rows.starts[w + 1] - first), int(rows.window_rows[first]),
                found.window_high[w], np.where(high >= 0, index[high], -1), rows.key[high],
                found.window_low[w], np.where(low >= 0, index[low], -1), rows.key[low], found.fired[w].copy(),
            )  # fmt: skip
            self._take_part(int(rows.windows[w]), part)

    def _take_part(self, window: int, part: OpenWindow) -> None:
        if window in self.open:
            self.open[window].merge(part)
        else:
            self.open[window] = part
        if not self.open[window].complete:
            return
        done = self.open.pop(window)
        n = np.arange(self.n_neurons)
        high_row, low_row = np.where(done.high_index >= 0, n, -1), np.where(done.low_index >= 0, n, -1)
        self.top.offer(done.high[None], high_row[None], done.high_index, done.high_key)
        self.bottom.offer(-done.low[None], low_row[None], done.low_index, done.low_key)
        place = self.sample.place_for(window)
        if place is not None:
            self.sample.put(place, window, done.high, done.high_index)
        self.n_windows += 1
        self.tally.add({"windows_active": done.fired & 1, "windows_nonzero": done.fired >> 1})
        self.documents.add(done.document, 1, done.fired)

    # ---- putting together ---------------------------------------------------------------------------------------------

    def components(self) -> dict[str, Any]:
        """The parts that are dataclasses of arrays, by the name they have in `state`."""
        found: dict[str, Any] = {"top": self.top, "bottom": self.bottom, "sample": self.sample, "gini": self.gini}
        moments = {"moments": self.moments, "token_moments": self.tokens.moments}
        return found | moments | {f"{name}_moments": channel.moments for name, channel in self.channels.items()}

    def merge(self, other: NeuronActivity) -> None:
        """Take in what another accumulator of the same site saw; no row may have been seen by both."""
        self._check_same(other)
        if self.n_rows + other.n_rows >= 2**31:
            raise ValueError(f"a site must see fewer than 2**31 rows, got {self.n_rows + other.n_rows}; keep them apart.")
        self.n_rows += other.n_rows
        self.n_windows += other.n_windows
        self.histogram += other.histogram
        self.tally.add(other.tally.entries)
        for name in ("moments", "top", "bottom", "sample", "tokens", "gini", "documents"):
            getattr(self, name).merge(getattr(other, name))
        for name, channel in self.channels.items():
            channel.moments.merge(other.channels[name].moments)
            channel.tally.add(other.channels[name].tally.entries)
        arrays = open_window_arrays(other.open, self.n_neurons)
        for window, part in open_windows_of(arrays).items():
            self._take_part(window, part)

    def _check_same(self, other: NeuronActivity) -> None:
        def settings(one: NeuronActivity) -> tuple[Any, ...]:
            shapes = (one.top.value.shape, one.bottom.value.shape, one.sample.value.shape, int(one.gini.size[0]))
            return (one.n_neurons, one.has_gate, one.seed, shapes)

        same = settings(self) == settings(other) and self.rule.same_as(other.rule)
        if not same or not np.array_equal(self.documents.totals, other.documents.totals):
            raise ValueError(f"accumulators must be made alike to be merged, got {settings(self)} and {settings(other)}.")

    @property
    def nbytes(self) -> int:
        """Bytes held: fixed, but for open windows and documents."""
        arrays = [self.histogram, *self.tally.entries.values(), self.rule.weight]
        for component in self.components().values():
            arrays += [getattr(component, f.name) for f in fields(component)]
        for channel in self.channels.values():
            arrays += channel.tally.entries.values()
        arrays += [self.tokens.document_n, self.tokens.document_sum, self.tokens.document_square]
        arrays += self.documents.arrays().values()
        arrays += open_window_arrays(self.open, self.n_neurons).values()
        return sum(a.nbytes for a in arrays)

    # ---- giving out ---------------------------------------------------------------------------------------------------

    def result(self) -> State:
        """All that was found, by name.

        Per neuron [n]: what `Moments.result` and `Tally.extremes` name; the counts and sums of `tally`; `mean_relative`;
        `histogram` [n, 515]. Examples: `top_value`, `top_token_index` [n, top] and `top_filled` [n], `bottom_` alike;
        `sample_window` [S] and `sample_value`, `sample_token_index`, `sample_defined` [n, S]. Per token and document: what
        `Documents`, `TokenMeasures` and `GiniSample` name. Gated units: `gate_` and `up_` moments, extremes, n_positive.
        """
        if self.n_rows == 0:
            raise ValueError("a site must have seen at least one row, got none; update before asking for the result.")
        counted = self.tally.entries
        found: State = {"n_rows": np.array(self.n_rows), "n_windows": np.array(self.n_windows)}
        found |= self.moments.result() | self.tally.extremes()
        found |= {name: counted[name].copy() for name in COUNTS + SUMS}
        relative = np.maximum(counted["n_relative"], 1)
        found |= {"mean_relative": counted["sum_relative"] / relative, "histogram": self.histogram.astype(np.int64)}
        found |= self.documents.result() | self.tokens.result() | self.gini.result()
        parts = {"top": self.top.result(), "bottom": self.bottom.result(-1), "sample": self.sample.result()}
        for name, channel in self.channels.items():
            parts[name] = channel.moments.result() | channel.tally.extremes()
            parts[name]["n_positive"] = channel.tally.entries["n_positive"].copy()
        return found | {f"{part}_{name}": value for part, entries in parts.items() for name, value in entries.items()}

    def state(self) -> State:
        """Everything, as arrays for a checkpoint file; `from_state` continues where this stood."""
        from analysis.stats.neurons_state import state_of

        return state_of(self)

    @classmethod
    def from_state(cls, state: State, *, engine: Engine = "auto", threads: int | None = None) -> NeuronActivity:
        """Back from `state`; engine and threads change no number and may differ."""
        from analysis.stats.neurons_state import accumulator_of

        return accumulator_of(state, engine, threads)
