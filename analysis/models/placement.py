"""Where a model lies: on one device, or spread over all there are; in the number format of its files, or in another.

1. ``cpu``, ``cuda``, ``cuda:1``, ``mps``: all of it there. ``auto``: accelerate shares the layers out, first over the GPUs, then main
   memory, then the disk; without a GPU it means ``cpu``. Hooks move values between devices as they flow.
2. What lies in main memory or on the disk is offloaded: outside of its own forward pass a parameter is a stand-in on the meta device.
   `weight_values` reads it all the same; interventions that write weights refuse such a model (`refuse_offloaded`). Questions about weights
   alone read the files (`Subject.tensors`) and never see a stand-in.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")


def check_device(device: str) -> str:
    """The device as torch names it, or ``auto`` where there are GPUs to share out over. Raises `UserError` where there is none such."""
    if device == "cpu":
        return device
    import torch

    if device == AUTO:
        return AUTO if torch.cuda.device_count() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"the device must be one torch knows (cpu, cuda, cuda:1, mps) or auto, got {device!r}; use cpu.") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind.type, 0)
    if (kind.index or 0) >= count:
        raise UserError(f"the device must be one this machine has, got {device!r} and {count} devices of that kind; use --device cpu.")
    return device


def check_dtype(dtype: str) -> str:
    """The number format, or empty for that of the files. Raises `UserError` for any other."""
    if dtype and dtype not in DTYPES:
        raise UserError(f"the number format must be one of {', '.join(DTYPES)}, got {dtype!r}; leave --dtype out for that of the files.")
    return dtype


def inputs_device(device: str) -> str:
    """Where inputs go: of a model that is spread, the first GPU, from where hooks move values on."""
    return "cuda:0" if device == AUTO else device


def loading_arguments(device: str, dtype: str) -> dict[str, Any]:
    """What ``from_pretrained`` is told of format and place."""
    spread = {"device_map": AUTO, "offload_folder": tempfile.mkdtemp(prefix="sparsescope-offload-")} if device == AUTO else {}
    return {"dtype": dtype or AUTO, **spread}


@contextlib.contextmanager
def nothing_left(arguments: dict[str, Any]) -> Iterator[None]:
    """Where loading fails inside, the folder for what does not fit into memory goes at once."""
    try:
        yield
    except BaseException:
        shutil.rmtree(arguments.get("offload_folder", ""), ignore_errors=True)
        raise


def settled(model: nn.Module, device: str, arguments: dict[str, Any]) -> nn.Module:
    """The loaded model where it belongs, in eval mode; its folder for what did not fit into memory goes when the model goes."""
    if device != AUTO:
        return model.to(device).eval()
    weakref.finalize(model, shutil.rmtree, arguments["offload_folder"], True)
    return model.eval()


def offloaded(model: nn.Module) -> list[str]:
    """Names of the parameters that are stand-ins outside of their own forward pass."""
    return [name for name, parameter in model.named_parameters() if parameter.is_meta]


def refuse_offloaded(names: Iterable[str], what: str) -> None:
    """Raise the sentence where weights that are to be written are not in the memory of a device."""
    first = next(iter(names), None)
    if first is not None:
        raise UserError(
            f"{what} must have its weights in the memory of its devices, got {first} offloaded; use more or larger GPUs, --dtype bfloat16, "
            "or --device cpu."
        )


def weight_values(model: nn.Module, name: str) -> Tensor:
    """Values of a parameter, detached; of one that is offloaded a copy in main memory. A stand-in only where the model has no values."""
    parameter = model.get_parameter(name)
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if not parameter.is_meta or not hasattr(owner, "_hf_hook"):
        return parameter.detach()
    from accelerate.utils import align_module_device
    from torch import device

    with align_module_device(owner, device("cpu")):
        return getattr(owner, leaf).detach().clone()
