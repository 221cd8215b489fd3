"""LoRA adapters (PEFT): what they add to their base, B A times a scale, without merging anything.

PEFT names them ``base_model.model.<module>.lora_A.weight`` [r, in] and ``lora_B.weight`` [out, r]; of embeddings
``lora_embedding_A`` [r, vocabulary] and ``lora_embedding_B`` [d, r]; of convolutions with the kernel in A. The scale is
lora_alpha / r (Hu et al. 2021), lora_alpha / sqrt r with ``use_rslora``; without adapter_config.json it is 1, and said so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError
from analysis.weights.checkpoint_diff_matching import BY_ADAPTER, Matching, Pair, Unmatched

if TYPE_CHECKING:
    import torch

_PART = re.compile(r"^(?P<module>.*?)\.?lora_(?P<embedding>embedding_)?(?P<which>[AB])(\.(?!weight$)[^.]+)?(\.weight)?$")
_WRAPPED = "base_model.model."


@dataclass(frozen=True)
class Adapted:
    """What an adapter adds to one tensor: the tensor's face, and the two small matrices in place of values."""

    name: str
    """Of the module."""
    shape: tuple[int, ...]
    dtype: str
    kind: str
    layer: int | None
    a: Any
    b: Any
    scale: float
    transposed: bool
    """Whether the base is stored [in, out]."""
    tied: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """r."""
        return self.a.shape[0]

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Left [rows, r], scaled, and right [r, columns], float64: their product is the change, as the base is stored."""
        right, left = self.a.read().double().flatten(1), self.b.read().double().flatten(1) * self.scale
        return (right.T, left.T) if self.transposed else (left, right)


def is_adapter(tensors: Iterable[Any]) -> bool:
    """Whether these tensors are an adapter's, and no model's."""
    names = [tensor.name for tensor in tensors]
    return bool(names) and all("lora_" in name or "modules_to_save" in name for name in names) and any(_PART.match(n) for n in names)


def match_adapter(after: Sequence[Any], base: Sequence[Any], settings: Mapping[str, Any] | None) -> Matching:
    """The adapter's pairs of matrices with the base's tensors they belong to. What the base has beside is left as it is, unlisted."""
    parts: dict[str, dict[str, Any]] = {}
    found = Matching()
    for tensor in after:
        part = _PART.match(tensor.name)
        if part is None:
            found.unmatched.append(Unmatched("model", tensor, "it is no factor of a low-rank change, so that B A does not hold it"))
            continue
        module = part["module"].removeprefix(_WRAPPED)
        parts.setdefault(f"{module} (embedding)" if part["embedding"] else module, {})[part["which"]] = tensor
    for key, matrices in parts.items():
        module, embedding = key.removesuffix(" (embedding)"), key.endswith(" (embedding)")
        target = _target(module, base)
        if len(matrices) < 2 or target is None:
            reason = "its base has no such module" if len(matrices) == 2 else "its other factor is missing"
            found.unmatched += [Unmatched("model", tensor, reason) for tensor in matrices.values()]
            continue
        a, b = matrices["A"], matrices["B"]
        scale, words = scale_of(settings, module, a.shape[0])
        transposed = embedding or _is_transposed(a, b, target, settings)
        sizes = (prod(a.shape[1:]), b.shape[0]) if transposed else (b.shape[0], prod(a.shape[1:]))
        if b.shape[1] != a.shape[0] or (target.shape[0], prod(target.shape[1:])) != sizes:
            reason = f"B A is {list(sizes)} and its base's tensor {list(target.shape)}"
            found.unmatched += [Unmatched("model", tensor, reason) for tensor in matrices.values()]
            continue
        adapted = Adapted(module, target.shape, a.dtype, target.kind, target.layer, a, b, scale, transposed)
        found.pairs.append(Pair(adapted, target, BY_ADAPTER, words))
    return found


def _target(module: str, base: Sequence[Any]) -> Any | None:
    """The base's tensor of that module: the whole name, or the only one that ends in it or that it ends in."""
    wanted = f"{module}.weight"
    names = {name: tensor for tensor in base for name in (tensor.name, *tensor.tied)}
    if wanted in names:
        return names[wanted]
    near = {tensor.name: tensor for name, tensor in names.items() if name.endswith(f".{wanted}") or wanted.endswith(f".{name}")}
    return next(iter(near.values())) if len(near) == 1 else None


def _is_transposed(a: Any, b: Any, target: Any, settings: Mapping[str, Any] | None) -> bool:
    """Whether the base stores [in, out]: by its shape; where that is square, by its module, then by what the adapter says."""
    rows, columns = target.shape[0], prod(target.shape[1:])
    if rows != columns:
        return (rows, columns) != (b.shape[0], prod(a.shape[1:]))
    known = getattr(target, "input_axis", None)
    return known == 0 if known is not None else bool((settings or {}).get("fan_in_fan_out"))


def scale_of(settings: Mapping[str, Any] | None, module: str, rank: int) -> tuple[float, str]:
    """What B A is multiplied by, and how that is known. Patterns for single modules match the end of a module's name, as in PEFT."""
    if settings is None or "lora_alpha" not in settings:
        return 1.0, "B A with scale 1: there is no adapter_config.json that says another"
    alpha = _of_module(settings.get("alpha_pattern"), module, settings["lora_alpha"])
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise UserError(f"lora_alpha of an adapter must be a number, got {str(alpha)[:80]!r}; get the adapter again.")
    root = bool(settings.get("use_rslora"))
    return float(alpha) / (sqrt(rank) if root else rank), f"B A times {alpha:g} / {'the root of ' if root else ''}{rank}"


def _of_module(patterns: Any, module: str, default: Any) -> Any:
    if not isinstance(patterns, Mapping):
        return default
    return next((value for end, value in patterns.items() if module == end or module.endswith(f".{end}")), default)
