"""Per-query statistics of attention, compiled by numba: one head of one window, a block of its rows at a time.

The block comes as logits less their row's maximum and as the exponentials of these, so nothing here takes a logarithm or an
exponential per key: -log2 a is linear in the logit. Keys needed for a share of the mass are found by a histogram of -log2 a
(16 bins per octave) and, inside the bin where the share is reached, exactly by selection; no row is sorted. Rows are taken in
order, so neither the size of a block nor the number of threads changes anything.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.stats.attention_measures import (
    EARLY_MASS,
    EARLY_MAY,
    FAIR,
    LATER,
    LATER_MASS,
    LATER_MAY,
    N_DISTANCES,
    OF_MAXIMUM,
    ROUNDING,
    ROW,
    SPAN,
    THRESHOLDS,
)
from analysis.stats.compiling import inlined

EXCLUDED = np.float32(-1e10)
"""Logit of a key that the mask excludes."""
VALID = np.float32(-1e9)
"""Logits above this are of valid keys."""
N_BINS = 512
PER_OCTAVE = 16
PER_NAT = np.float32(PER_OCTAVE / math.log(2))


@inlined
def octave(n):
    """0 for 0, else 1 + floor(log2 n): the bin of a position or distance."""
    found = 0
    while n > 0:
        n >>= 1
        found += 1
    return found


@inlined
def select(values, n, need):
    """Smallest number of the largest of ``values[:n]`` whose sum reaches ``need`` > 0; n where all do not. Reorders. O(n) expected."""
    low, high, taken = 0, n, 0
    while high > low:
        a, b, c = values[low], values[(low + high) // 2], values[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        larger, i, smaller, mass = low, low, high, 0.0
        while i < smaller:
            v = values[i]
            if v > pivot:
                values[i], values[larger] = values[larger], v
                mass += v
                larger += 1
                i += 1
            elif v < pivot:
                smaller -= 1
                values[i], values[smaller] = values[smaller], v
            else:
                i += 1
        equal = smaller - larger
        if mass >= need:
            high = larger
        elif mass + equal * pivot >= need:
            return taken + (larger - low) + int(math.ceil((need - mass) / pivot))
        else:
            need -= mass + equal * pivot
            taken += larger - low + equal
            low = smaller
    return taken


@inlined
def bounds(s):
    """The first valid key and one past the last; equal where there is none."""
    low, high = 0, len(s)
    while low < high and s[low] <= VALID:
        low += 1
    while high > low and s[high - 1] <= VALID:
        high -= 1
    return low, high


@inlined
def totals(s, e, numbers, low, high):
    """Sum of e, sum of e times logit, of e times the key's number, valid keys; e of excluded keys is next to nothing
    (`attention.SMALLEST`)."""
    z, es, ec, n, one, none = 0.0, 0.0, 0.0, np.float32(0), np.float32(1), np.float32(0)
    for c in range(low, high):
        z += e[c]
        es += e[c] * s[c]
        ec += np.float64(e[c]) * numbers[c]
        n += one if s[c] > VALID else none
    return z, es, ec, int(n)


@inlined
def columns(e, s, low, high, n, z, position, row, is_self, columns):
    """Mass each key receives, and, as steps to be summed up, how many rows may look at it; of later rows without the key's own row."""
    scale = np.float32(1.0 / z)
    later = position >= LATER
    mass, may = columns[LATER_MASS if later else EARLY_MASS], columns[LATER_MAY if later else EARLY_MAY]
    for c in range(low, high):
        mass[c] += e[c] * scale
    if n == high - low:
        may[low] += 1.0
        may[high] -= 1.0
    else:
        for c in range(low, high):
            if s[c] > VALID:
                may[c] += 1.0
                may[c + 1] -= 1.0
    if later and is_self and low <= row < high and s[row] > VALID:
        columns[LATER_MASS, row] -= e[row] * scale
        columns[EARLY_MASS, row] += e[row] * scale
        for side, sign in ((LATER_MAY, -1.0), (EARLY_MAY, 1.0)):
            columns[side, row] += sign
            columns[side, row + 1] -= sign


@inlined
def block_maxima(e, s, low, high, n, z, block, maxima):
    """The largest weight in each block of keys; -1 where no valid pair was met."""
    scale = np.float32(1.0 / z)
    holes = n != high - low
    for k in range(low // block, (high - 1) // block + 1):
        largest = np.float32(-1.0)
        if holes:
            for c in range(max(low, k * block), min(high, (k + 1) * block)):
                if s[c] > VALID and e[c] > largest:
                    largest = e[c]
        else:
            for c in range(max(low, k * block), min(high, (k + 1) * block)):
                largest = max(largest, e[c])
        if largest >= 0:
            maxima[k] = max(maxima[k], largest * scale)


@inlined
def histogram(s, e, low, high, log_z, bins, table):
    """Bin of -log2 a of every key (N_BINS where excluded); per bin the keys and their e are added to ``table``, all zero before.

    The last bin that has a valid key is returned.
    """
    start, last, top = np.float32(log_z) * PER_NAT, np.float32(N_BINS - 1), np.int32(0)
    for c in range(low, high):
        place = np.int32(min(max(start - s[c] * PER_NAT, np.float32(0.0)), last))
        top = max(top, place if s[c] > VALID else np.int32(0))
        bins[c] = place if s[c] > VALID else np.int32(N_BINS)
    for c in range(low, high):
        b = bins[c]
        table[b, 0] += 1.0
        table[b, 1] += e[c]
    return top


@inlined
def walk(table, top, needs, skipped, skipped_e, place, before):
    """Go through the bins from the largest weights on; the shares' weighted rank sum, for the Gini.

    ``place[t]`` becomes the bin in which ``needs[t]`` is reached (-1: never, which is rounding), ``before[t]`` the keys and the mass before
    it. The needs but for the last ascend; the last is of the keys beside one of ``skipped_e`` in bin ``skipped``, not asked where 0.
    """
    place[:] = -1
    taken, held, shared, t, last = 0.0, 0.0, 0.0, 0, len(needs) - 1
    rest = needs[last] > 0
    for b in range(top + 1):
        number, mass = table[b, 0], table[b, 1]
        if number == 0:
            continue
        while t < last and held + mass >= needs[t]:
            place[t], before[t, 0], before[t, 1] = b, taken, held
            t += 1
        if rest and held + mass - (skipped_e if skipped <= b else 0.0) >= needs[last]:
            gone = skipped < b
            place[last], before[last, 0], before[last, 1] = b, taken - gone, held - (skipped_e if gone else 0.0)
            rest = False
        shared += mass * (taken + number / 2)
        taken += number
        held += mass
    return shared


@inlined
def collect(e, bins, low, high, first, place, wanted, buffers, sizes):
    """The e of the keys in each place's bin, side by side in its buffer; the last place's without key ``first``."""
    sizes[:] = 0
    for t in range(len(place)):
        if place[t] >= 0:
            wanted[place[t]] |= np.uint8(1 << t)
    last = len(place) - 1
    for c in range(low, high):
        w = wanted[bins[c]]
        if w:
            for t in range(len(place)):
                if (w >> t) & 1 and not (t == last and c == first):
                    buffers[t, sizes[t]] = e[c]
                    sizes[t] += 1
    for t in range(len(place)):
        if place[t] >= 0:
            wanted[place[t]] = 0


@inlined
def distances(e, low, high, row, z, found):
    """Mass by distance bin into ``found``; the smallest w with a share SPAN of the mass at |r - c| < w."""
    need = SPAN * z * (1 - ROUNDING)
    held, span, start, stop = 0.0, 0, 0, 1
    for b in range(N_DISTANCES):
        mass = 0.0
        for c in range(max(low, row - stop + 1), min(high, row - start + 1)):
            mass += e[c]
        if b:
            for c in range(max(low, row + start), min(high, row + stop)):
                mass += e[c]
        found[b] = mass / z
        if span == 0 and held + mass >= need:
            for d in range(start, stop):
                if low <= row - d < high:
                    held += e[row - d]
                if d and low <= row + d < high:
                    held += e[row + d]
                span = d + 1
                if held >= need:
                    break
        else:
            held += mass
        start, stop = stop, 2 * stop
        if row - start < low and row + start >= high:
            found[b + 1 :] = 0.0
            break
    return span if span else max(row - low, high - 1 - row) + 1


@inlined
def below(e, low, high, n, z, add):
    """Shares of the valid keys below each threshold."""
    t0, t1, t2 = np.float32(THRESHOLDS[0] * z), np.float32(THRESHOLDS[1] * z), np.float32(THRESHOLDS[2] * z)
    fair, small = np.float32(FAIR * z / n), np.float32(OF_MAXIMUM)
    one, none = np.float32(1), np.float32(0)  # counted in float32, which is exact below 2^24 and vectorises
    n0, n1, n2, n3, n4 = none, none, none, none, none
    for c in range(low, high):
        v = e[c]
        n0 += one if v < t0 else none
        n1 += one if v < t1 else none
        n2 += one if v < t2 else none
        n3 += one if v < fair else none
        n4 += one if v < small else none
    excluded = high - low - n
    add[ROW.below_1e4] += (n0 - excluded) / n
    add[ROW.below_1e3] += (n1 - excluded) / n
    add[ROW.below_1e2] += (n2 - excluded) / n
    add[ROW.below_fair] += (n3 - excluded) / n
    add[ROW.below_maximum] += (n4 - excluded) / n
