"""The activation functions of FFNs, found by running the model once, and held while it runs: what goes into them can be changed.

A function is told by the module it runs in and by its name, so that one elsewhere (a pooler's, a router's) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from analysis.capture.discovery import Watch
from analysis.capture.operators import activation_of, name_of
from analysis.capture.running import ModuleStack, forward_replaced, observable, run, unwrapped
from analysis.capture.streams import with_distinct_lengths
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

Function = tuple[str, str]
"""Path of the innermost module it runs in, and its canonical name."""
ZERO_AT_ZERO = frozenset({"relu", "gelu", "gelu_tanh", "silu"})
"""Those that give 0 for 0, so that what is set to 0 in front of them is 0 behind them, and of which ReLU is the limit."""


WHOLE = "module:"
"""Before the name where the whole module is the function."""
Change = Callable[["Tensor", Callable[["Tensor"], Any]], Any]
"""From what a function is given, and the function, to what it is to give."""


class _Finder(Watch):
    """The watch of `find_sites`, which also takes down where activation functions ran."""

    def __init__(self, model: nn.Module, batch: Any) -> None:
        super().__init__(model, batch)
        self.events: dict[int, Function] = {}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        name = activation_of(name_of(func), args, kwargs or {})
        node = None if name is None else self._lineage.of(result)
        if name is not None and node is not None and node.activation is not None:
            self.events.setdefault(node.activation.event, (self._stack.path, name))
        return result


def ffn_functions(model: nn.Module, batch: Any) -> frozenset[Function]:
    """Where the FFNs' activation functions run. Raises `IncompatibleSubject` where one of them is not known to be 0 at 0."""
    model, batch = unwrapped(model), with_distinct_lengths(batch)
    with observable(model), _Finder(model, batch) as finder:
        run(model, batch)
    shown = {draft.claims: draft.site.activation for draft in finder.drafts.values() if draft.site.kind == "ffn"}
    found = frozenset(_as_module(model, function, shown[event]) for event, function in finder.events.items() if event in shown)
    others = sorted({name.removeprefix(WHOLE) for _, name in found} - ZERO_AT_ZERO)
    if others or not found:
        raise IncompatibleSubject(
            f"the FFNs' activation functions must be of {', '.join(sorted(ZERO_AT_ZERO))}, got {', '.join(others) or 'none that shows'}; "
            "choose an intervention that looks at their results."
        )
    return found


def _as_module(model: nn.Module, function: Function, shown: str | None) -> Function:
    """A function written out (GELU by a tanh) is held by its module, where one does nothing else."""
    path, name = function
    module = model.get_submodule(path)
    alone = not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    return (path, WHOLE + (shown or "")) if name != shown and alone else function


class _Replacing(TorchFunctionMode):
    def __init__(self, stack: ModuleStack, functions: Collection[Function], change: Change) -> None:
        super().__init__()
        self._stack, self._functions, self._change = stack, functions, change

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = activation_of(name_of(func), args, kwargs)
        if name is None or (self._stack.path, name) not in self._functions:
            return func(*args, **kwargs)
        given, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        named: Mapping[str, Any] = {key: value for key, value in kwargs.items() if key != "input"}
        return self._change(given, lambda x: func(x, *rest, **named))


@contextmanager
def replacing(model: nn.Module, functions: Collection[Function], change: Change) -> Iterator[None]:
    """Inside, ``change(x, function)`` stands for ``function(x)`` wherever one of these functions is called."""
    model = unwrapped(model)
    with ExitStack() as undo:
        for path, name in functions:
            if name.startswith(WHOLE):
                module = model.get_submodule(path)
                undo.enter_context(forward_replaced(module, partial(_changed, change, module.forward)))
        stack = undo.enter_context(ModuleStack(model))
        undo.enter_context(_Replacing(stack, functions, change))
        yield


def _changed(change: Change, function: Callable[[Tensor], Any], x: Tensor) -> Any:
    return change(x, function)
