"""Which torch functions are what: activation functions, matrix products, reshapes; and how to read a product's operands.

Functions are told by their names, so that ``F.relu``, ``Tensor.relu_``, ``torch.ops.aten.relu.default`` (exported
programs) and ``torch.relu`` are one and the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


ACTIVATIONS: Mapping[str, str] = {
    **{n: n for n in ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus")},
    **{n: n for n in ("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "logsigmoid", "softsign", "threshold", "erf")},
    **{n: n for n in ("tanhshrink", "softshrink", "hardshrink", "glu")},
    "log_sigmoid": "logsigmoid",
}
"""Function name to canonical name."""

SELF_PRODUCTS: Mapping[str, str] = {"tanh": "gelu_tanh", "erf": "gelu", "relu": "relu2"}
"""What an activation is called once it has been multiplied by its own input: x * (1 + erf(x)) is GELU written out."""

RESHAPES = _names(
    "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze contiguous clone detach alias data to type type_as float half "
    "bfloat16 double cpu cuda dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
    "unsafe_view ravel atleast_2d identity"
)
"""Same values in the same row order, perhaps in another shape or dtype."""
MOVES = _names("permute transpose t T mT H mH swapaxes swapdims movedim moveaxis adjoint expand expand_as repeat tile cat concat")
"""Same values in another order: still neurons, but rows and columns may have changed places."""
SLICES = _names("getitem chunk split unbind narrow select tensor_split split_with_sizes slice index_select index take_along_dim")
ELEMENTWISE = _names("neg clamp clamp_min clamp_max clip pow square sqrt exp abs masked_fill log log1p expm1")
SUMS = _names("add iadd radd sub isub rsub")
MULTIPLICATIONS = _names("mul imul rmul multiply div idiv truediv itruediv true_divide divide")
SOFTMAXES = _names("softmax softmax_int")
FUSED_ATTENTION: Mapping[str, str] = {"scaled_dot_product_attention": "sdpa", "multi_head_attention_forward": "mha"}
RECURRENT = _names("lstm gru rnn_tanh rnn_relu")
PRODUCTS = _names(
    "linear matmul rmatmul mm bmm addmm baddbmm addbmm einsum conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "convolution grouped_mm grouped_mm_fallback"
)


def name_of(func: Callable[..., Any]) -> str:
    """Plain name of a torch function: no underscores, no overload. Property getters (``x.T``) give the property's name."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "")
    name = name.split(".")[0]
    return name.strip("_") or name


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, depth first, through lists, tuples and mappings."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def activation_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Canonical name of the activation function this call is, or None. ``clamp(min=0)`` is a ReLU written out."""
    if name in ("clamp", "clamp_min", "clip"):
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        return "relu" if isinstance(low, (int, float)) and low == 0 and high is None else None
    if name == "gelu" and "tanh" in (kwargs.get("approximate"), *args[1:2]):
        return "gelu_tanh"
    return ACTIVATIONS.get(name)


@dataclass(frozen=True)
class Reading:
    """One matrix product: which operand holds the values, along which dimension they are summed, and with what weight."""

    operator: str
    values: Tensor
    weight: Tensor
    axis: int
    """Dimension of the values that the product sums over, counted from the end; 1 for convolutions."""
    out_axis: int | None
    """Dimension of the output that counts its coordinates where every row read gives one row; else None."""
    position: int
    """Place of the values among the positional arguments (for einsum: among the operands)."""
    in_dim: int
    """Dimension of the weight that is summed over, counted from the end."""
    offsets: Tensor | None = None
    """Ends of the experts' row groups, for grouped products."""


def read_product(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], is_weight: Callable[[Any], bool]) -> Reading | None:
    """The operands of a matrix product of values with a stored weight; None for products of two computed tensors.

    ``is_weight`` says of an operand whether it is a stored matrix.
    """
    if name == "linear":
        return _read("linear", args, kwargs, 0, 1, -1) if is_weight(_operand(args, kwargs, 1, "weight")) else None
    if name.startswith("conv"):
        return _read_convolution(name, args, kwargs) if is_weight(_operand(args, kwargs, 1, "weight")) else None
    if name in ("grouped_mm", "grouped_mm_fallback"):
        offsets = kwargs.get("offs", args[2] if len(args) > 2 else None)
        # Named `linear` as in the loop over experts: the same sites, however the product is batched.
        return Reading("linear", args[0], args[1], -1, -1, 0, -2, offsets) if is_weight(args[1]) and offsets is not None else None
    if name == "einsum":
        return _read_einsum(args, is_weight)
    first = 1 if name in ("addmm", "baddbmm", "addbmm") else 0
    if len(args) < first + 2:
        return None  # operands given by name: queries and keys, in the models that do so (BLOOM)
    left, right = args[first : first + 2]
    if name == "rmatmul":
        left, right = right, left
    if is_weight(right):
        return Reading(name, left, right, -1, -1, first + (name == "rmatmul"), -2)
    if is_weight(left) and right.ndim >= 2:
        return Reading(name, right, left, -2, -2, first + (name != "rmatmul"), -1)
    return None


def _operand(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _read(operator: str, args: Sequence[Any], kwargs: Mapping[str, Any], place: int, weight: int, in_dim: int) -> Reading | None:
    if len(args) <= place:
        return None
    return Reading(operator, args[place], _operand(args, kwargs, weight, "weight"), -1, -1, place, in_dim)


def _read_convolution(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Reading | None:
    weight = _operand(args, kwargs, 1, "weight")
    if not args or args[0].ndim != weight.ndim:
        return None
    in_dim = -weight.ndim if "transpose" in name else 1 - weight.ndim
    operator = f"conv{weight.ndim - 2}d" if name == "convolution" else name
    return Reading(operator, args[0], weight, 1, None, 0, in_dim)


def _read_einsum(args: Sequence[Any], is_weight: Callable[[Any], bool]) -> Reading | None:
    """Two operands, one of them stored, one letter summed over; anything richer is not a plain matrix product."""
    equation = args[0].replace(" ", "") if args and isinstance(args[0], str) else ""
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
    sides = equation.split("->")
    if len(sides) != 2 or len(operands) != 2 or "." in equation:
        return None
    letters, out = sides[0].split(","), sides[1]
    at = 0 if is_weight(operands[1]) else 1
    if not is_weight(operands[1 - at]) or is_weight(operands[at]):
        return None
    read, stored = letters[at], letters[1 - at]
    summed = [c for c in read if c in stored and c not in out]
    if len(summed) != 1:
        return None
    new = [c for c in stored if c not in read]
    rows = [c for c in read if c != summed[0]]
    aligned = len(new) == 1 and [c for c in out if c != new[0]] == rows
    out_axis = out.index(new[0]) - len(out) if aligned else None
    axis, in_dim = read.index(summed[0]) - len(read), stored.index(summed[0]) - len(stored)
    return Reading("einsum", operands[at], operands[1 - at], axis, out_axis, at, in_dim)


def with_values(name: str, args: tuple[Any, ...], reading: Reading, values: Tensor) -> tuple[Any, ...]:
    """The call's arguments with the values that the product reads exchanged."""
    if name != "einsum":
        return (*args[: reading.position], values, *args[reading.position + 1 :])
    operands = list(args[1]) if isinstance(args[1], (list, tuple)) else list(args[1:])
    operands[reading.position] = values
    return (args[0], *operands)
