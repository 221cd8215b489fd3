"""From torch functions to attention: the arguments of a fused call, and softmax followed to the product that reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

from analysis.capture.operators import ELEMENTWISE, MULTIPLICATIONS, RESHAPES, SLICES, SOFTMAXES, SUMS, name_of, tensors_in
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor

SCORES = frozenset({"matmul", "bmm", "baddbmm", "mm"})
_KEEPING = RESHAPES | ELEMENTWISE | MULTIPLICATIONS | SUMS | {"where", "maximum", "to_copy", "expand", "tanh"}
"""Functions behind which logits are still those of the same queries and keys: scaled, masked, biased, capped."""
_JOINING = frozenset({"cat", "concat"})
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
    sink: Tensor | None = None
    """[..., queries, n]: logits that stand beside those of the keys in the same softmax, of no key: learned sinks."""


@dataclass(frozen=True)
class _Weights:
    """What is known of a softmax's output: its logits, and the queries and keys of these; beside which columns of no key it stands."""

    logits: Tensor
    query: Tensor | None
    key: Tensor | None
    sink: Tensor | None = None


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
        self._beside: Any = WeakIdKeyDictionary()
        """First column and number of the keys' among logits that learned sinks were put beside."""

    def follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Seen | None:
        """Take note of a function that ran; the attention where this was its last step."""
        operands = [t for t in tensors_in((args, kwargs)) if t.is_floating_point()]
        out = next(tensors_in(result), None)
        if out is None:
            return None
        if name in SOFTMAXES or name == "safe_softmax":
            self._weights[out] = _Weights(operands[0], *self._products.get(operands[0], (None, None)))
            if operands[0] in self._beside:
                self._beside[out] = self._beside[operands[0]]
        elif name in SCORES or name == "einsum":
            return self._product(name, operands[-2:], out)
        elif name in _JOINING:
            self._join(operands, out)
        elif name in SLICES:
            self._cut(operands[0] if operands else None, out)
        elif name in _KEEPING or name in _DROPOUTS:
            self._keep(name, args, kwargs, operands, out)
        return None

    def _join(self, parts: list[Tensor], out: Tensor) -> None:
        """Logits of keys beside others of no key, along the last axis."""
        scored = [i for i, part in enumerate(parts) if part in self._products]
        if len(scored) == 1 and out.shape[-1] == sum(part.shape[-1] for part in parts) and out.shape[:-1] == parts[scored[0]].shape[:-1]:
            self._products[out] = self._products[parts[scored[0]]]
            self._beside[out] = sum(part.shape[-1] for part in parts[: scored[0]]), parts[scored[0]].shape[-1]

    def _cut(self, whole: Tensor | None, out: Tensor) -> None:
        """The weights of the keys, cut out from beside those of learned sinks."""
        known = self._weights.get(whole) if whole is not None else None
        if whole is None or known is None or whole not in self._beside:
            return
        first, n = self._beside[whole]
        same = out.shape == (*whole.shape[:-1], n) and out.stride() == whole.stride() and out._is_view()
        if same and out.storage_offset() == whole.storage_offset() + first * whole.stride(-1):
            import torch

            logits = known.logits
            beside = torch.cat([logits[..., :first], logits[..., first + n :]], dim=-1)
            self._weights[out] = _Weights(logits[..., first : first + n], known.query, known.key, beside)

    def _product(self, name: str, operands: list[Tensor], out: Tensor) -> Seen | None:
        left, right = operands
        if left in self._weights:
            known = self._weights[left]
            good = left.shape[-1] == known.logits.shape[-1]
            return Seen(known.query, known.key, right, out, logits=known.logits, sink=known.sink) if good else None
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
                if operand in self._beside:
                    self._beside[out] = self._beside[operand]


def _probability(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """The probability that a dropout call really uses: 0 where it is not training."""
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    on = kwargs.get("training", args[2] if len(args) > 2 else True)
    return float(p) if on else 0.0


class InsideOneCall(TorchDispatchMode):
    """Watches the operators inside torch's own multi_head_attention_forward, which no function mode can see into.

    ``saw``: told of the attention; what it gives, in the output's own shape, takes the output's place.
    """

    def __init__(self, saw: Callable[[Seen], Tensor | None]) -> None:
        super().__init__()
        self._saw, self._follower = saw, SoftmaxFollower()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = name_of(func)
        if name.startswith("scaled_dot_product") and "backward" not in name:
            named = {a.name: value for a, value in zip(func._schema.arguments, args)} | kwargs
            return with_output(result, self._saw(fused((), named, next(tensors_in(result)))))
        if (found := self._follower.follow(name, args, kwargs, result)) is not None:
            return with_output(result, self._saw(found))
        return result


def with_output(result: Any, output: Tensor | None) -> Any:
    """What an operator gave, with another first tensor; as it is where there is none."""
    if output is None:
        return result
    return (output, *result[1:]) if isinstance(result, tuple) else output
