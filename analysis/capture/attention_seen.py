"""From torch functions to attention: the arguments of a fused call, and softmax followed to the product that reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

from analysis.capture.operators import ELEMENTWISE, MULTIPLICATIONS, RESHAPES, SOFTMAXES, SUMS, name_of, tensors_in
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor

SCORES = frozenset({"matmul", "bmm", "baddbmm", "mm"})
_KEEPING = RESHAPES | ELEMENTWISE | MULTIPLICATIONS | SUMS | {"where", "maximum", "to_copy", "expand", "tanh"}
"""Functions behind which logits are still those of the same queries and keys: scaled, masked, biased, capped."""
_FUSED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_DROPOUTS = frozenset({"dropout", "native_dropout", "feature_dropout", "alpha_dropout"})


@dataclass(frozen=True)
class Seen:
    """Attention as one function, or a few, showed it: tensors in whatever shape the model has them."""

    query: Tensor | None
    key: Tensor | None
    value: Tensor | None
    output: Tensor | None
    scale: float = 1.0
    mask: Tensor | None = None
    causal: bool = False
    logits: Tensor | None = None


def fused(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Seen:
    """A call of scaled_dot_product_attention. Raises `IncompatibleSubject` where it drops attention at random."""
    given = dict(zip(_FUSED, args)) | dict(kwargs)
    _no_dropout(given.get("dropout_p") or 0.0)
    query, scale = given["query"], given.get("scale")
    mask = given.get("attn_mask", given.get("attn_bias"))
    causal = bool(given.get("is_causal"))
    return Seen(query, given["key"], given["value"], output, 1 / math.sqrt(query.shape[-1]) if scale is None else scale, mask, causal)


def _no_dropout(p: float) -> None:
    if p > 0:
        raise IncompatibleSubject(
            f"attention must be the same at every run, got attention dropout of {p:g} that stays on in eval mode; turn it off in the model."
        )


class SoftmaxFollower:
    """Follows q k^T through scaling and masks into a softmax, and the softmax into the product with the values."""

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._products: Any = WeakIdKeyDictionary()
        self._weights: Any = WeakIdKeyDictionary()

    def follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Seen | None:
        """Take note of a function that ran; the attention where this was its last step."""
        operands = [t for t in tensors_in((args, kwargs)) if t.is_floating_point()]
        out = next(tensors_in(result), None)
        if out is None:
            return None
        if name in SOFTMAXES or name == "safe_softmax":
            self._weights[out] = (operands[0], self._products.get(operands[0], (None, None)))
        elif name in SCORES or name == "einsum":
            return self._product(name, operands[-2:], out)
        elif name in _KEEPING or name in _DROPOUTS:
            self._keep(name, args, kwargs, operands, out)
        return None

    def _product(self, name: str, operands: list[Tensor], out: Tensor) -> Seen | None:
        left, right = operands
        if left in self._weights:
            logits, (query, key) = self._weights[left]
            return Seen(query, key, right, out, logits=logits) if left.shape[-1] == logits.shape[-1] else None
        if name != "einsum" and left.ndim > 2 and right.ndim > 2:
            self._products[out] = (left, right.transpose(-1, -2))
        return None

    def _keep(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], operands: list[Tensor], out: Tensor) -> None:
        for operand in operands:
            if operand in self._weights and out.shape[-1] == operand.shape[-1]:
                if name in _DROPOUTS:
                    _no_dropout(_probability(args, kwargs))
                self._weights[out] = self._weights[operand]
            elif operand in self._products and out.shape == operand.shape:
                self._products[out] = self._products[operand]


def _probability(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """The probability that a dropout call really uses: 0 where it is not training."""
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    on = kwargs.get("training", args[2] if len(args) > 2 else True)
    return float(p) if on else 0.0


class InsideOneCall(TorchDispatchMode):
    """Watches the operators inside torch's own multi_head_attention_forward, which no function mode can see into."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen | None = None
        self._follower = SoftmaxFollower()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = name_of(func)
        if name.startswith("scaled_dot_product") and "backward" not in name:
            named = {a.name: value for a, value in zip(func._schema.arguments, args)} | kwargs
            self.seen = fused((), named, next(tensors_in(result)))
        elif (found := self._follower.follow(name, args, kwargs, result)) is not None:
            self.seen = found
        return result
