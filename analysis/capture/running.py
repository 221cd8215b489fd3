"""Running a model so that every operator shows: eval mode, no gradients, no fast paths, everything restored afterwards."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

OBSERVABLE_EXPERTS = ("eager", "grouped_mm")
"""Ways of running stacked experts whose rows can be told apart; `grouped_mm` is the usual default, any other is run as `eager`."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model under ``torch.compile``; a scripted one is refused, since its operators cannot be seen."""
    import torch

    inner = getattr(model, "_orig_mod", model)
    for path, module in inner.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise IncompatibleSubject(
                f"the model must be made of Python modules, got a TorchScript module at {path or 'its root'!r}; "
                "load the original class instead."
            )
    return inner


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path, as if nothing were compiled; of a compiled module the one inside."""
    found: dict[str, nn.Module] = {}
    for raw, module in model.named_modules():
        found[raw.replace("_orig_mod.", "").removesuffix("_orig_mod").removesuffix(".")] = module
    return found


def run(model: nn.Module, batch: Any) -> Any:
    """The model's output on a batch: a mapping of named arguments, a tuple or list of positional ones, or the only one."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def by_name(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, as a batch has them."""
    return {**dict(zip(inspect.signature(forward).parameters, args, strict=False)), **kwargs}


@contextlib.contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Inside, these hooks are in place; afterwards they are gone, also on error."""
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, the module computes something else; its hooks still run."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@contextlib.contextmanager
def observable(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, attention fast path off, compiled parts run eagerly, experts run visibly; all restored."""
    import torch

    with contextlib.ExitStack() as undo:
        for module in model.modules():
            if module.training:
                undo.callback(setattr, module, "training", True)
                module.training = False
        if torch.backends.mha.get_fastpath_enabled():
            undo.callback(torch.backends.mha.set_fastpath_enabled, True)
            torch.backends.mha.set_fastpath_enabled(False)
        _experts_visible(model, undo.callback)
        if any(_is_compiled(module) for module in model.modules()):
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        undo.enter_context(torch.no_grad())
        yield


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _experts_visible(model: nn.Module, later: Callable[..., Any]) -> None:
    seen: set[int] = set()
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is None or id(config) in seen:
            continue
        seen.add(id(config))
        chosen = getattr(config, "_experts_implementation", None)
        if chosen is not None and chosen not in OBSERVABLE_EXPERTS:
            # Set last, restored first: the setter also sets sub-configurations, each of which is restored in its turn.
            later(setattr, config, "_experts_implementation", chosen)
            config._experts_implementation = "eager"


class ModuleStack:
    """Which modules are running, told by forward hooks on every module, and what each was called with.

    ``on_entry(call)`` and ``on_exit(call, output)`` are called as each module starts and returns. Use as a context manager.
    """

    def __init__(
        self,
        model: nn.Module,
        on_exit: Callable[[Call, Any], None] | None = None,
        on_entry: Callable[[Call], None] | None = None,
    ) -> None:
        self._model = model
        self._on_exit, self._on_entry = on_exit, on_entry
        self.calls: list[Call] = []
        self._handles: list[Any] = []

    @property
    def path(self) -> str:
        """Path of the innermost running module; empty at the root."""
        return self.calls[-1].path if self.calls else ""

    def __enter__(self) -> ModuleStack:
        for path, module in modules_by_path(self._model).items():
            self._handles.append(module.register_forward_pre_hook(self._entering(path)))
            self._handles.append(module.register_forward_hook(self._leaving))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.calls.clear()

    def _entering(self, path: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def enter(_: Any, args: tuple[Any, ...]) -> None:
            call = Call(path, args)
            self.calls.append(call)
            if self._on_entry is not None:
                self._on_entry(call)

        return enter

    def _leaving(self, _: Any, _args: tuple[Any, ...], output: Any) -> None:
        call = self.calls.pop()
        if self._on_exit is not None:
            self._on_exit(call, output)


class Call:
    """One running module: its path, what it was called with, and room for what discovery learns about it."""

    def __init__(self, path: str, args: tuple[Any, ...]) -> None:
        self.path = path
        self.args = args
        self.argument: int | None = None
        """Values (`Node.same`) of the first positional argument."""
        self.reads = 0
        """Operators inside this module itself that read the first argument."""
        self.drafts: list[Any] = []
        """Sites found in this call that a plain hook might serve."""
