"""One head of one window: what `attention_kernel` measures of each of its rows, added up by query position."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numba
import numpy as np

from analysis.stats import attention_kernel as kernel
from analysis.stats.attention_kernel import octave
from analysis.stats.attention_measures import (
    HEAD_ROWS,
    LOCAL,
    N_DISTANCES,
    OUTPUT_ROWS,
    PAIRS,
    PLAIN_ROWS,
    REST_ROWS,
    ROUNDING,
    ROW,
    ROWS,
    SINK_ROWS,
    SINKS,
    STRIPES,
    TARGETS,
    TOLD_ROWS,
    VALUE_ROWS,
)
from analysis.stats.compiling import inlined

_TARGETS = np.array(TARGETS)
_LOCAL = np.array([w.bit_length() for w in LOCAL])
"""Distance bins that lie within each window."""
_REST = 0.9

bounds, totals, columns_of, block_maxima = kernel.bounds, kernel.totals, kernel.columns, kernel.block_maxima
histogram, walk, collect, select = kernel.histogram, kernel.walk, kernel.collect, kernel.select
distances, below, VALID = kernel.distances, kernel.below, kernel.VALID


@inlined
def _keys(s, e, low, high, first, n, z, es, scratch, add):
    """Keys needed for each target, absolute and of n, and the Gini; the same for 90 % of what is beside the first key, and the entropy
    of that. Whether anything is beside it."""
    bins, table, wanted, buffers, needs, place, before, sizes, _ = scratch
    top = histogram(s, e, low, high, math.log(z), bins, table)
    seen = low <= first < high and s[first] > VALID
    rest = z - e[first] if seen else 0.0
    left = rest > 1e-9 * z  # less than that is lost in rounding
    for t in range(len(_TARGETS)):
        needs[t] = _TARGETS[t] * z * (1 - ROUNDING)
    needs[-1] = _REST * rest * (1 - ROUNDING) if left else 0.0
    shared = walk(table, top, needs, bins[first] if seen else 0, e[first] if seen else 0.0, place, before)
    collect(e, bins, low, high, first, place, wanted, buffers, sizes)
    for t in range(len(_TARGETS)):
        k = n if place[t] < 0 else int(before[t, 0]) + max(1, select(buffers[t], sizes[t], needs[t] - before[t, 1]))
        add[ROW.keys_50 + t] += k
        add[ROW.share_50 + t] += k / n
        if t == 1:
            add[ROW.log_keys_90] += math.log(k)
    add[ROW.gini] += max(0.0, 1 - 2 * shared / (n * z))
    if left:
        t = len(_TARGETS)
        k = n - 1 if place[t] < 0 else int(before[t, 0]) + max(1, select(buffers[t], sizes[t], needs[t] - before[t, 1]))
        add[ROW.rest_keys_90] += k
        add[ROW.rest_entropy] += max(0.0, math.log(rest) - (es - e[first] * s[first]) / rest)
    table[: top + 1] = 0.0
    return left


@inlined
def _places(e, low, high, row, first, z, is_self, add):
    """Mass on the first keys, on the query's own, its neighbours."""
    for c in range(max(low, first), min(high, first + SINKS)):
        add[ROW.sink] += e[c] / z
    if low <= first < high:
        add[ROW.first] += e[first] / z
    if is_self:
        if low <= row < high:
            add[ROW.current] += e[row] / z
        if low <= row - 1 < high:
            add[ROW.previous] += e[row - 1] / z
        if low <= row + 1 < high:
            add[ROW.next] += e[row + 1] / z


@inlined
def _special(e, low, high, z, special, any_special, add):
    """Mass on special keys and the largest weight on any other; the mass."""
    if not any_special:
        add[ROW.confidence] += 1 / z
        return 0.0
    held, largest = 0.0, np.float32(0.0)
    for c in range(low, high):
        held += e[c] * special[c]
        largest = max(largest, e[c] * (np.float32(1) - special[c]))
    add[ROW.confidence] += largest / z
    return held / z


@inlined
def _valued(s, e, low, high, row, first, is_self, sizes, logs, add):
    """Shares of what is moved, A |v W_O|: on the first keys, on the own; its entropy. Whether anything is moved."""
    z, es = 0.0, 0.0
    for c in range(low, high):
        moved = e[c] * sizes[c]
        z += moved
        es += moved * (s[c] + logs[c])
    if z <= 0:
        return False
    for c in range(max(low, first), min(high, first + SINKS)):
        add[ROW.value_sink] += e[c] * sizes[c] / z
    if low <= first < high:
        add[ROW.value_first] += e[first] * sizes[first] / z
    if is_self and low <= row < high:
        add[ROW.value_current] += e[row] * sizes[row] / z
    add[ROW.value_entropy] += max(0.0, math.log(z) - es / z)
    return True


@inlined
def _row(
    s, e, row, position, first, is_self, plain, special, any_special, sizes, logs, low, high, z, es, ec, n, scratch, found, add, count, dist
):
    """Everything that is measured of one row with two or more valid keys."""
    most = math.log(n)
    count[ROWS] += 1
    count[PAIRS] += n
    entropy = min(most, max(0.0, math.log(z) - es / z))  # exponentials of 32 bits let uniform rows end above
    add[ROW.valid_keys] += n
    add[ROW.entropy] += entropy
    add[ROW.relative_entropy] += entropy / most
    add[ROW.effective_keys] += math.exp(entropy)
    add[ROW.log_position] += math.log(position + 1)
    if _keys(s, e, low, high, first, n, z, es, scratch, add):
        count[REST_ROWS] += 1
    below(e, low, high, n, z, add)
    add[ROW.max_weight] += 1 / z
    _places(e, low, high, row, first, z, is_self, add)
    if len(special):
        held = _special(e, low, high, z, special, any_special, add)
        count[TOLD_ROWS] += 1
        if plain:
            count[PLAIN_ROWS] += 1
            add[ROW.special] += held
    if len(sizes) and _valued(s, e, low, high, row, first, is_self, sizes, logs, add):
        count[VALUE_ROWS] += 1
    if is_self:
        span = distances(e, low, high, row, z, found)
        add[ROW.span_95] += span
        for b in range(N_DISTANCES):
            dist[b] += found[b]
        for w in range(len(_LOCAL)):
            for b in range(_LOCAL[w]):
                add[ROW.local_4 + w] += found[b]
        away = max(0.0, row * z - ec)
        if high > row + 1:  # keys on both sides
            away, here, numbers = 0.0, np.float32(row), scratch[-1]
            for c in range(low, high):
                away += e[c] * abs(numbers[c] - here)
        add[ROW.distance] += away / z


@inlined
def _tally(
    logits, exponentials, start, stripe, keep, origin, first, is_self, plain, special, sizes, logs, head_norm, output_norm, sink, block,
    sums, counts, dist, odd, columns, maxima, scratch, found,
):  # fmt: skip
    """Add those of the rows ``start ..`` of one head of one window that lie in a stripe: every `STRIPES`-th block of ``block`` rows.

    ``logits`` and ``exponentials`` [rows, keys]: logits less their row's maximum (`EXCLUDED` where masked) and their exponentials.
    Row ``origin`` is at position 0, key ``first`` is the first. ``keep`` and ``plain`` [queries]: real tokens, and those that are not
    special. ``special`` (1 or 0), ``sizes`` and ``logs`` [keys] (|v W_O| and its logarithm), ``head_norm``, ``output_norm`` and
    ``sink`` [queries]: empty where not known. Written: ``sums`` [positions, measures], ``counts`` [positions, 9], ``dist`` [distances],
    ``odd`` [2] (rows without a valid key, with one), ``columns`` [4, keys], ``maxima`` [blocks, blocks]. The rest is scratch.
    """
    any_special = False
    for c in range(len(special)):
        any_special = any_special or special[c] > 0
    for i in range(len(logits)):
        row = start + i
        if not keep[row] or (row // block) % STRIPES != stripe:
            continue
        s, e = logits[i], exponentials[i]
        low, high = bounds(s)
        if low == high:
            odd[0] += 1
            continue
        z, es, ec, n = totals(s, e, scratch[-1], low, high)
        columns_of(e, s, low, high, n, z, row - origin, row, is_self, columns)
        block_maxima(e, s, low, high, n, z, block, maxima[row // block])
        if n == 1:
            odd[1] += 1
            continue
        where = octave(row - origin)
        add = sums[where]
        if len(head_norm):
            add[ROW.head_norm] += head_norm[row]
            counts[where, HEAD_ROWS] += 1
        if len(output_norm):
            add[ROW.output_norm] += output_norm[row]
            counts[where, OUTPUT_ROWS] += 1
        if len(sink):
            add[ROW.learned_sink] += sink[row]
            counts[where, SINK_ROWS] += 1
        _row(
            s, e, row, row - origin, first, is_self, plain[row], special, any_special, sizes, logs, low, high, z, es, ec, n, scratch,
            found, add, counts[where], dist,
        )  # fmt: skip


def _kept_on_disk():
    """`_tally` kept on disk, known by the sources of everything in it: numba itself asks for the date of one file only."""
    folder = Path(__file__).parent
    sources = b"".join((folder / f"attention_{name}.py").read_bytes() for name in ("kernel", "measures", "rows"))
    stamp = int.from_bytes(hashlib.sha256(sources).digest()[:4]) | 1

    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def tally_head(*arguments):
        if stamp:  # in the closure, and so in the key
            _tally(*arguments)

    return tally_head


tally_head = _kept_on_disk()
"""`_tally`, compiled once per version of its sources."""
