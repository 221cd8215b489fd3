"""Units that no input can wake, seen from the weights alone (METHODS B2, static dead neuron rate)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

STATIC_CLASSES = ("dead_in", "dead_out", "constant", "alive")


def static_class(
    down: torch.Tensor,
    producer: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    up: torch.Tensor | None = None,
    up_bias: torch.Tensor | None = None,
    activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> NDArray[np.str_]:
    """The class of each of f units: down [d_out, f], producer (gate or only path) and up [f, d], biases [f] -> [f].

    - dead_in: the activation is 0 for every input: all incoming weights zero and activation(bias) = 0 (for ReLU: bias <= 0),
      or, for gated units, the up path constantly zero;
    - dead_out: not that, but the unit's down column is zero, so that it cannot influence anything;
    - constant: neither, but all incoming weights (of both paths) are zero: foldable into the next bias, not dead;
    - alive: the rest.

    `activation` is ReLU unless given; it acts on the producer's path. Conv1D layouts [d, f] must be transposed first.
    Source: Liu et al., TMLR 2023 (arXiv 2212.06145); the constant class and gated units as METHODS B2 has them.
    """
    import torch

    _check(down, producer, bias, up, up_bias)
    function = torch.relu if activation is None else activation
    fixed, value = _constant_path(producer, bias)
    value = function(value)
    if up is not None:
        up_fixed, up_value = _constant_path(up, up_bias)
        always_zero = (fixed & (value == 0)) | (up_fixed & (up_value == 0))
        fixed = fixed & up_fixed
    else:
        always_zero = fixed & (value == 0)
    no_way_out = (down == 0).all(0)
    conditions = [c.cpu().numpy() for c in (always_zero, no_way_out, fixed)]
    return np.select(conditions, ["dead_in", "dead_out", "constant"], "alive")


def static_dead_rate(classes: NDArray[np.str_]) -> float:
    """sDNR: share of units that are dead_in or dead_out, 0 to 1."""
    if not len(classes):
        raise ValueError("a share must be taken of at least one unit, got none; leave the layer out.")
    return float(np.isin(classes, ("dead_in", "dead_out")).mean())


def dynamic_dead_rate(n_zero: NDArray[np.int64], n_rows: int, classes: NDArray[np.str_]) -> tuple[float, float | None]:
    """dDNR of a ReLU layer: zeros of units that are not statically dead, per token, over all units and over the live ones.

    n_zero [f] exact zeros over n_rows tokens. The second is None where no unit lives. Range 0 to 1. Not for functions
    without exact zeros.
    """
    if n_rows < 1:
        raise ValueError(f"n_rows must be at least 1, got {n_rows}; the rate is a mean over tokens.")
    live = ~np.isin(classes, ("dead_in", "dead_out"))
    zeros = float(np.asarray(n_zero)[live].sum()) / n_rows
    return zeros / len(classes), zeros / int(live.sum()) if live.any() else None


def _constant_path(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether a path ignores its input [f], and the value it has where it does."""
    value = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return (weight == 0).all(1), value


def _check(
    down: torch.Tensor, producer: torch.Tensor, bias: torch.Tensor | None, up: torch.Tensor | None, up_bias: torch.Tensor | None
) -> None:
    f = producer.shape[0]
    if down.ndim != 2 or producer.ndim != 2 or down.shape[1] != f:
        raise ValueError(
            f"down must be [d_out, f] and producer [f, d], got {list(down.shape)} and {list(producer.shape)}; transpose Conv1D weights."
        )
    for name, vector in (("bias", bias), ("up_bias", up_bias)):
        if vector is not None and vector.shape != (f,):
            raise ValueError(f"{name} must be [{f}], one entry per unit, got {list(vector.shape)}.")
    if up is not None and up.shape[0] != f:
        raise ValueError(f"up must have {f} rows, one per unit, got {list(up.shape)}.")
    if up is None and up_bias is not None:
        raise ValueError("up_bias must come with up, got it alone; pass both or neither.")
