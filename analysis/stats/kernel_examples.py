"""The compiled twin of `examples.Best.offer`: a candidate is touched only where it beats the worst one kept."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _insert(value, index, key, n_kept, v, i, code):
    """Put one candidate into one neuron's list (best first); returns how many it then has."""
    k = len(value)
    last = n_kept
    for p in range(n_kept):
        if key[p] == code:
            if v < value[p] or (v == value[p] and i >= index[p]):
                return n_kept
            last = p
            break
    if last == k:
        last = k - 1
    p = last
    while p > 0 and (v > value[p - 1] or (v == value[p - 1] and i < index[p - 1])):
        value[p], index[p], key[p] = value[p - 1], index[p - 1], key[p - 1]
        p -= 1
    value[p], index[p], key[p] = v, i, code
    return max(n_kept, last + 1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def offer_fused(start, end, sign, windows, values, rows, row_index, row_key, value, index, key, filled):
    """As `examples.Best.offer` for neurons start..end: sign * values of some of the windows."""
    k = value.shape[1]
    for w in windows:
        for j in range(start, end):
            row = rows[w, j]
            if row < 0:
                continue
            v, full = sign * values[w, j], filled[j] == k
            if full and (v < value[j, k - 1] or (v == value[j, k - 1] and row_index[row] >= index[j, k - 1])):
                continue
            filled[j] = _insert(value[j], index[j], key[j], filled[j], v, row_index[row], row_key[row])
