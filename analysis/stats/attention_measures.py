"""Which sums `attention_kernel` keeps of every row (query) of a head, and their order. One formula each, all on valid keys only.

``A`` is a row's attention weights over its n valid keys, ``r`` its position, ``c`` a key's. Rows with a single valid key are one-hot
by construction and are left out of every mean (METHODS C0). Natural logarithms. Sources: METHODS C0, C4, C11, C12, C17, C20.
"""

from __future__ import annotations

from typing import NamedTuple

TARGETS = (0.5, 0.9, 0.95, 0.99)
THRESHOLDS = (1e-4, 1e-3, 1e-2)
FAIR = 0.1
"""A key is below a fair share where its weight is under this over n: METHODS C0's length-normalised threshold."""
OF_MAXIMUM = 0.01
"""ALISA (C12): a weight counts as zero below this share of its row's largest."""
LOCAL = (4, 16, 64, 256)
"""Widths of local windows; powers of two, so that the distance bins add up to them."""
SPAN = 0.95
SINKS = 4
"""Keys at the start that StreamingLLM keeps (C11)."""
LATER = 16
"""Rows from this position on count for sinks (C11): earlier ones have few keys. A power of two, so it is an edge of the position bins."""
SINK_STRENGTH = 0.1
"""A key is a detected sink where later rows give it this share on average, and at least `LATER` of them may look at it. Ours."""
BLOCKS = (16, 32, 64, 128)
BLOCK_THRESHOLD = 5e-4
"""SeerAttention (C5): a block counts where its largest weight is at least this share of its block row's sum of largest weights."""
HEAVY = 0.2
"""H2O (C9): share of the keys that count as heavy."""
ZIPVL = 0.975
"""ZipVL (C1): share of the accumulated attention that the kept keys hold."""
STRIPES = 2
"""Parts that a head's rows are told into, by turns, so that threads are never idle for want of a head."""
N_POSITIONS = 24
"""Bins of query position: {0}, then [2^(j-1), 2^j)."""
N_DISTANCES = 24
"""Bins of distance |r - c|: {0}, then [2^(j-1), 2^j)."""
ROUNDING = 1e-6
"""A mass counts as reached within this relative error: weights are float32."""


class Row(NamedTuple):
    """Places of the sums; the field names are the measures' names."""

    keys_50: int
    keys_90: int
    keys_95: int
    keys_99: int
    share_50: int
    share_90: int
    share_95: int
    share_99: int
    below_1e4: int
    below_1e3: int
    below_1e2: int
    below_fair: int
    below_maximum: int
    entropy: int
    relative_entropy: int
    effective_keys: int
    gini: int
    max_weight: int
    confidence: int
    first: int
    sink: int
    current: int
    previous: int
    next: int
    special: int
    local_4: int
    local_16: int
    local_64: int
    local_256: int
    span_95: int
    distance: int
    rest_keys_90: int
    rest_entropy: int
    value_first: int
    value_sink: int
    value_current: int
    value_entropy: int
    head_norm: int
    output_norm: int
    valid_keys: int
    log_keys_90: int
    log_position: int
    learned_sink: int


ROW = Row(*range(len(Row._fields)))
ROWS, PAIRS, PLAIN_ROWS, TOLD_ROWS, REST_ROWS, VALUE_ROWS, HEAD_ROWS, OUTPUT_ROWS, SINK_ROWS = range(9)
"""Places of the counts: rows; valid pairs; rows whose query is no special token; rows of which it is known which keys are special; rows
with mass beside the first key; rows that move anything; rows with a known head output, and with a known projected one; rows beside a
learned sink."""
N_COUNTS = 9
EARLY_MASS, LATER_MASS, EARLY_MAY, LATER_MAY = range(4)
"""Places of the column sums: mass from later rows (from `LATER` on) other than the key's own, and from all others; how many such rows may
look at the key, as steps from one key to the next."""
N_COLUMNS = 4
DENOMINATOR: dict[int, int] = {
    ROW.special: PLAIN_ROWS,
    ROW.confidence: TOLD_ROWS,
    ROW.rest_keys_90: REST_ROWS,
    ROW.rest_entropy: REST_ROWS,
    ROW.value_first: VALUE_ROWS,
    ROW.value_sink: VALUE_ROWS,
    ROW.value_current: VALUE_ROWS,
    ROW.value_entropy: VALUE_ROWS,
    ROW.head_norm: HEAD_ROWS,
    ROW.output_norm: OUTPUT_ROWS,
    ROW.learned_sink: SINK_ROWS,
}
"""The count that a sum is divided by, where it is not all rows."""
OF_DISTANCE = (ROW.current, ROW.previous, ROW.next, ROW.local_4, ROW.local_16, ROW.local_64, ROW.local_256, ROW.span_95, ROW.distance)
"""Measures that mean something only where queries and keys are the same tokens."""
