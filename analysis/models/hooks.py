"""Canonical names: what TransformerLens' bridge calls the values that enter a module as FFN inner activation.

A `TransformerBridge` replaces submodules of the model it wraps, so none is built around the model that we run, and on a model
without values it cannot split fused projections. The names need neither:

1. The bridge's adapter for the architecture declares a tree of components, each with its path in the raw model.
2. A component whose ``hook_post`` is the input of one of its parts names that part's input: ``model.layers.3.mlp.down_proj``
   receives ``blocks.3.mlp.hook_post``. Tests compare this with the hooks of real bridges, value by value.
3. Paths that the raw model does not have (optional parts, a missing head) are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

HOOK = "hook_post"
STUMBLES = (ValueError, NotImplementedError, AttributeError, LookupError, TypeError, RuntimeError, AssertionError)
"""The bridge says "unknown" with a ValueError, and stumbles over models it half knows with the others."""


def canonical_names(model: torch.nn.Module) -> tuple[dict[str, str], str | None]:
    """Module path to canonical hook name of what enters it; or no names and the sentence why. The model is not touched."""
    config = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return {}, f"TransformerLens' bridge knows models by their Hugging Face config, and {type(model).__name__} has none."
    try:
        adapter = _adapter(model, copy.deepcopy(config))
    except STUMBLES as error:
        return {}, f"TransformerLens' bridge does not know the architecture {type(model).__name__} ({in_a_line(error)})."
    prefix = getattr(model, "base_model_prefix", "")
    paths = {path for path, _ in model.named_modules()}
    names = {}
    for path, name in _declared(adapter.component_mapping, model, prefix):
        if path in paths:
            names[path] = name
    reason = None if names else f"TransformerLens' bridge declares no FFN inner activation for {type(model).__name__}."
    return names, reason


def in_a_line(error: Exception) -> str:
    """The beginning of what an error of the bridge says, to be put into a sentence."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". Available")[0]
    return first[:200].rstrip(".")


def _adapter(model: torch.nn.Module, config: Any) -> Any:
    """The bridge's adapter for this architecture, adjusted to a twin on the meta device."""
    import torch

    from analysis.models.loading import quiet

    with quiet():  # importing the bridge sets transformers' log level
        from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
        from transformer_lens.model_bridge.sources.transformers import determine_architecture_from_hf_config

        if not getattr(config, "architectures", None):
            config.architectures = [type(model).__name__]
        architecture = determine_architecture_from_hf_config(config)
        settings = build_bridge_config_from_hf(config, architecture, "subject", torch.float32)
        adapter = ArchitectureAdapterFactory.select_architecture_adapter(settings)
        with torch.device("meta"):
            twin = type(model)(copy.deepcopy(config))
        adapter.prepare_model(twin)
    return adapter


def _declared(components: dict[str, Any], model: torch.nn.Module, prefix: str) -> Iterator[tuple[str, str]]:
    """Pairs of raw module path and canonical name for every component of the declaration, lists of blocks spelt out."""
    for name, component in components.items():
        if not component.is_list_item:
            yield from _inside(component, _raw(component.name, model, prefix), name)
            continue
        blocks = _raw(component.name, model, prefix)
        for index in range(_length(model, blocks)):
            yield from _inside(component, f"{blocks}.{index}", f"{name}.{index}")


def _inside(component: Any, path: str, name: str) -> Iterator[tuple[str, str]]:
    """The pairs of one component and of those inside it. A component without a name of its own lives on its parent's path."""
    for part in _posts(component):
        inner = component.submodules.get(part)
        if inner is not None and inner.name:
            yield _join(path, inner.name), f"{name}.{HOOK}"
    for key, inner in component.submodules.items():
        if not inner.is_list_item:
            yield from _inside(inner, _join(path, inner.name), f"{name}.{key}")


def _posts(component: Any) -> list[str]:
    """Parts whose input is the component's ``hook_post``: ``out.hook_in`` gives ``out``.

    The expert component declares it twice: for sparse layers as its own output, which is no FFN inner activation, and for
    the dense layers of the same model as the input of a part.
    """
    declared = [component.hook_aliases.get(HOOK), getattr(component, "_DENSE_HOOK_ALIASES", {}).get(HOOK)]
    targets = [target for entry in declared if entry for target in (entry if isinstance(entry, list) else [entry])]
    return [target.removesuffix(".hook_in") for target in targets if target.count(".") == 1 and target.endswith(".hook_in")]


def _raw(path: str | None, model: torch.nn.Module, prefix: str) -> str:
    """A declared path in the raw model: a model without its head lacks the prefix that the declaration has."""
    path = path or ""
    has_prefix = any(name == prefix for name, _ in model.named_children())
    return path.removeprefix(f"{prefix}.") if prefix and not has_prefix else path


def _join(path: str, name: str | None) -> str:
    return f"{path}.{name}" if path and name else path or name or ""


def _length(model: torch.nn.Module, path: str) -> int:
    """Number of blocks at that path; 0 where the raw model has none."""
    import torch

    try:
        blocks = model.get_submodule(path)
    except AttributeError:
        return 0
    return len(blocks) if isinstance(blocks, torch.nn.ModuleList | torch.nn.Sequential) else 0
