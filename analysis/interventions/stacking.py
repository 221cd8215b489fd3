"""Several versions of a few weights in one forward pass: version after version along the batch, each chunk with weights of its own.

A pass over [version 0 of all examples, version 1 of all examples, ...] gives what one pass for each version would. Only the modules that
own a changed weight run once a version; all others run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from analysis.capture.operators import tensors_in
from analysis.capture.running import forward_replaced

if TYPE_CHECKING:
    from torch import Tensor, nn

Change = Mapping[str, "Tensor"]
"""New values of parameters, by name, of their shape and type."""


class CannotStack(Exception):
    """The model does not let versions lie along the batch; one pass for each is needed."""


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure with every tensor replaced; what is neither a tensor nor a plain container stays the very object it is."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        made = {key: mapped(item, change) for key, item in value.items()}
        return made if type(value) is dict else type(value)(**made)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, change) for item in value))
    if type(value) in (list, tuple):
        return type(value)(mapped(item, change) for item in value)
    return value


def repeated(tensor: Tensor, examples: int, versions: int) -> Tensor:
    """Version after version along the first axis, where that axis counts examples; else the tensor as it is."""
    if versions == 1 or not tensor.dim() or tensor.shape[0] != examples:
        return tensor
    return tensor.repeat(versions, *([1] * (tensor.dim() - 1)))


@contextmanager
def swapped(model: nn.Module, change: Change) -> Iterator[None]:
    """Inside, parameters hold other values; the same memory as before comes back afterwards, also on error."""
    held = [(model.get_parameter(name), values) for name, values in change.items()]
    before = [parameter.data for parameter, _ in held]
    try:
        for parameter, values in held:
            parameter.data = values
        yield
    finally:
        for (parameter, _), values in zip(held, before):
            parameter.data = values


@contextmanager
def stacked(model: nn.Module, changes: Sequence[Change]) -> Iterator[None]:
    """Inside, a pass over ``len(changes)`` versions along the batch gives each its own weights; of one, the whole pass has them.

    Raises `CannotStack` in the pass, or on exit, where an owner's rows cannot be divided or it never ran.
    """
    if len(changes) == 1:
        with swapped(model, changes[0]):
            yield
        return
    owners: dict[str, list[str]] = {}
    for name in changes[0]:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    ran: set[str] = set()
    with ExitStack() as undo:
        for path, names in owners.items():
            module = model.get_submodule(path)
            undo.enter_context(forward_replaced(module, _versions(model, module.forward, path, names, changes, ran)))
        yield
    if ran != set(owners):
        raise CannotStack("a module's weights are read without calling it")


def _versions(
    model: nn.Module, original: Callable[..., Any], path: str, names: Sequence[str], changes: Sequence[Change], ran: set[str]
) -> Callable[..., Any]:
    """The forward of an owner: one call a version, on its share of the rows."""
    n = len(changes)

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.dim()), 0)
        if not rows or rows % n:
            raise CannotStack(f"{path} reads {rows} rows, which are no {n} equal parts")
        ran.add(path)
        parts = []
        for version, change in enumerate(changes):
            at = slice(version * rows // n, (version + 1) * rows // n)

            def cut(tensor: Tensor, at: slice = at) -> Tensor:
                return tensor[at] if tensor.dim() and tensor.shape[0] == rows else tensor

            with swapped(model, {name: change[name] for name in names}):
                parts.append(original(*mapped(args, cut), **mapped(kwargs, cut)))
        return _joined(parts)

    return forward


def _joined(parts: Sequence[Any]) -> Any:
    """Outputs of all versions as one."""
    import torch

    first = parts[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(parts))
    if type(first) in (list, tuple):
        return type(first)(_joined(column) for column in zip(*parts, strict=True))
    if all(part is None for part in parts):
        return None
    raise CannotStack(f"a module gives a {type(first).__name__}, which has no rows")
