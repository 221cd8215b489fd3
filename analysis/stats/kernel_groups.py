"""Groups of 2, 4 and 8 weights, many at once: a part of `kernel_matrix`, compiled by numba.

The k-th members of neighbouring groups of 8 lie side by side, so that a sorting network sorts a register full of groups at once.
"""

from __future__ import annotations

import numpy as np

from analysis.stats.compiling import inlined

BAD, EMPTY, N_GROUP_COUNTS = 0, 5, 8
"""Places in `grouped`: groups against each pattern of `patterns.PATTERNS`; groups of 2, 4 and 8 that are all zero."""
F0, F1, F2, F4 = np.float32(0), np.float32(1), np.float32(2), np.float32(4)


@inlined
def apart(x, t, start, n):
    """Groups of 8 of a row taken apart: t[k, start + g] = |x[8 g + k]|."""
    for g in range(n):
        for k in range(8):
            t[k, start + g] = abs(x[8 * g + k])


@inlined
def _sq(v):
    wide = np.float64(v)
    return wide * wide


@inlined
def _halves(a, b):
    """Larger and smaller of two."""
    return max(a, b), min(a, b)


@inlined
def _four(x0, x1, x2, x3):
    """Four sizes in falling order, and the smaller ones of the two pairs."""
    h0, l0 = _halves(x0, x1)
    h1, l1 = _halves(x2, x3)
    a1, m1 = _halves(h0, h1)
    m2, a4 = _halves(l0, l1)
    a2, a3 = _halves(m1, m2)
    return a1, a2, a3, a4, l0, l1


@inlined
def _lost(x0, x1, x2, x3, x4, x5, x6, x7, lost):
    """Squares lost when 1 of 2, 1 of 4, 2 of 4, 2 of 8 and 4 of 8 are kept, over groups whose k-th members are x_k."""
    s12 = s14 = s24 = s28 = s48 = 0.0
    for g in range(len(x0)):
        a1, a2, a3, a4, p, q = _four(abs(x0[g]), abs(x1[g]), abs(x2[g]), abs(x3[g]))
        b1, b2, b3, b4, r, s = _four(abs(x4[g]), abs(x5[g]), abs(x6[g]), abs(x7[g]))
        s12 += (_sq(p) + _sq(q)) + (_sq(r) + _sq(s))
        two = (_sq(a3) + _sq(a4)) + (_sq(b3) + _sq(b4))
        s24 += two
        s14 += two + (_sq(a2) + _sq(b2))
        t1, u1 = _halves(a1, b4)
        t2, u2 = _halves(a2, b3)
        t3, u3 = _halves(a3, b2)
        t4, u4 = _halves(a4, b1)
        four = (_sq(u1) + _sq(u2)) + (_sq(u3) + _sq(u4))
        s48 += four
        s28 += four + (_sq(min(t1, t3)) + _sq(min(t2, t4)))
    lost[0] += s12
    lost[1] += s14
    lost[2] += s24
    lost[3] += s28
    lost[4] += s48


@inlined
def _on(v):
    return F1 if v != F0 else F0


@inlined
def _conforming(x0, x1, x2, x3, x4, x5, x6, x7, grouped):
    """Groups with more non-zeros than each pattern keeps, and groups that are all zero."""
    b12 = b14 = b24 = b28 = b48 = e2 = e4 = e8 = F0
    for g in range(len(x0)):
        p, q = _on(x0[g]) + _on(x1[g]), _on(x2[g]) + _on(x3[g])
        r, s = _on(x4[g]) + _on(x5[g]), _on(x6[g]) + _on(x7[g])
        left, right = p + q, r + s
        whole = left + right
        b12 += ((F1 if p > F1 else F0) + (F1 if q > F1 else F0)) + ((F1 if r > F1 else F0) + (F1 if s > F1 else F0))
        b14 += (F1 if left > F1 else F0) + (F1 if right > F1 else F0)
        b24 += (F1 if left > F2 else F0) + (F1 if right > F2 else F0)
        b28 += F1 if whole > F2 else F0
        b48 += F1 if whole > F4 else F0
        e2 += ((F0 if p > F0 else F1) + (F0 if q > F0 else F1)) + ((F0 if r > F0 else F1) + (F0 if s > F0 else F1))
        e4 += (F0 if left > F0 else F1) + (F0 if right > F0 else F1)
        e8 += F0 if whole > F0 else F1
    grouped[BAD] += np.int64(b12)
    grouped[BAD + 1] += np.int64(b14)
    grouped[BAD + 2] += np.int64(b24)
    grouped[BAD + 3] += np.int64(b28)
    grouped[BAD + 4] += np.int64(b48)
    grouped[EMPTY] += np.int64(e2)
    grouped[EMPTY + 1] += np.int64(e4)
    grouped[EMPTY + 2] += np.int64(e8)


@inlined
def _offenders(members, n, line, place, per, was, grouped, first):
    """The first group against each pattern: [line, group, non-zeros], the lowest line first, then the lowest group.

    ``members``: the k-th members of n groups of 8. Each line has ``per`` of them: group g is on line ``line`` + g // per, and there it is
    group of 8 number ``place`` + g % per.
    """
    for p in range(5):
        keep, of = (1, 1, 2, 2, 4)[p], (2, 4, 4, 8, 8)[p]
        if grouped[BAD + p] == was[p]:
            continue
        for g in range(n):
            here, eight = line + g // per, place + g % per
            if here > first[p, 0] or (here == first[p, 0] and eight * (8 // of) > first[p, 1]):
                break
            found = False
            for k in range(0, 8, of):
                on = 0
                for i in range(k, k + of):
                    on += 1 if members[i][g] != F0 else 0
                if on > keep and not found:
                    group = eight * (8 // of) + k // of
                    if here < first[p, 0] or group < first[p, 1]:
                        first[p, 0], first[p, 1], first[p, 2] = here, group, on
                    found = True
            if found:
                break


@inlined
def groups(members, n, zeros, line, place, per, lost, grouped, first):
    """Everything about n groups of 8, given by their k-th members (see `_offenders`); the last three arguments are added to."""
    was = (grouped[0], grouped[1], grouped[2], grouped[3], grouped[4])
    x0, x1, x2, x3, x4, x5, x6, x7 = members
    _lost(x0, x1, x2, x3, x4, x5, x6, x7, lost)
    if zeros:
        _conforming(x0, x1, x2, x3, x4, x5, x6, x7, grouped)
    else:
        for p in range(5):
            grouped[BAD + p] += n * (4, 2, 2, 1, 1)[p]
    _offenders(members, n, line, place, per, was, grouped, first)


@inlined
def eight_rows(x, a, j0, j1):
    """Columns j0..j1 of eight rows from a on, one by one: only so does the compiler know that they are contiguous."""
    return (
        x[a, j0:j1], x[a + 1, j0:j1], x[a + 2, j0:j1], x[a + 3, j0:j1],
        x[a + 4, j0:j1], x[a + 5, j0:j1], x[a + 6, j0:j1], x[a + 7, j0:j1],
    )  # fmt: skip
