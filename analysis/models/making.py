"""What can run code, and is therefore opened from the command line only, with ``--trust``: exported programs and factories.

- ``.pt2``: a program exported by torch.export is a full model without its Python source.
- ``factory:package.module:function``: a function without arguments that returns a model; or (model, batches); or
  (model, batches, loss), where ``loss(output, batch)`` gives one number per example.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models import trust
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Made:
    """A model in memory, with what came along."""

    model: torch.nn.Module
    batches: list[Any] | None = None
    loss: Callable[[Any, Any], Any] | None = None


def exported(path: Path) -> Made:
    """The model of an exported program, with the example inputs it was traced with as its only batch."""
    if not trust.is_trusted():
        raise trust.refuse_exported(path)
    import torch

    try:
        program = torch.export.load(path)
        model = program.module()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{path} must be a program that this torch can load, got: {first}; export it again with torch {torch.__version__}."
        ) from error
    examples = program.example_inputs
    arguments, keywords = examples if examples else ((), {})
    batch: Any = dict(keywords) if keywords and not arguments else tuple(arguments)
    return Made(model, [batch] if batch and not (arguments and keywords) else None)


def by_factory(name: str) -> Made:
    """What the function ``package.module:function`` returns; modules in the working folder are found."""
    if not trust.is_trusted():
        raise trust.refuse_factory(name)
    from torch import nn

    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"a factory must be a function that can be imported, got {name!r} ({error}); check the spelling and the folder."
        ) from error
    found = make()
    parts = found if isinstance(found, tuple) else (found,)
    model, batches, loss = (*parts, None, None)[:3]
    if not isinstance(model, nn.Module) or len(parts) > 3 or (loss is not None and not callable(loss)):
        raise UserError(
            f"a factory must return a model, (model, batches) or (model, batches, loss), got {type(found).__name__} from "
            f"{name!r}; change its return."
        )
    return Made(model, list(batches) if batches is not None else None, loss)
