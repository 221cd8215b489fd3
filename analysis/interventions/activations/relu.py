"""ReLU in place of the FFNs' activation functions: what ReLUfication would cost before any training, and the sparsity it starts from.

    act(g) -> max(g, 0)

A point: there is nothing between. A model that has ReLU is left as it is, bit for bit. Of gated units the zeros of the gate spare rows of
up and columns of down. Source: METHODS B1 and B3, whose models are made in this way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("ReLU Strikes Back: Exploiting Activation Sparsity in Large Language Models", "Mirzadeh et al., ICLR 2024, 2310.04564", "K")


def as_relu(x: Tensor, function: Callable[[Tensor], Any]) -> Tensor:
    """max(x, 0); the function itself is not asked."""
    del function
    return x.relu()


class Counting(Rule):
    """Something in front of the sites makes zeros: they are counted, nothing is changed here."""

    def __init__(self, around: Callable[[], AbstractContextManager[Any]]) -> None:
        self.passing = around

    def change(self, seen: Seen) -> Changed:
        """As it came."""
        return Changed(seen.values, seen.values != 0)


@dataclass(frozen=True)
class ReluSubstitution(ActivationMethod):
    """ReLU for whatever it was."""

    name = "relu"
    words = "ReLU in place of the activation functions"
    origin = (SOURCE,)  # METHODS B1
    skips = ("up", "down")
    calibrated = False
    point = True

    def overhead(self, model: nn.Module, site: Site) -> float:
        """None: what is zero shows by itself."""
        del model, site
        return 0.0

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Find the functions."""
        from analysis.interventions.activations.functions import ffn_functions, replacing

        functions = ffn_functions(setting.model, setting.example)
        return lambda level: Counting(lambda: replacing(setting.model, functions, as_relu))
