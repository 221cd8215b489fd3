"""What a folder holds: a model's weight files, or the checkpoints of one model as a series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from analysis.models.files.disk import cannot_read, read_json
from analysis.models.files.header import Refused, Step, quoted
from analysis.spec import UserError

_ADAPTS = (
    "peft_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER = "adapter_config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state\w*)\.(bin|pt|pth)")
_TORCH = (".bin", ".pt", ".pth", ".ckpt")
_CHECKPOINT = (*_TORCH, ".safetensors", ".gguf")
_STEP = re.compile(r"(?:^|.*[^0-9])?(\d+)(?:[a-z]*)(?:\.[a-z]+)?$", re.IGNORECASE)
MAX_LAYERS, MAX_EXPERTS = 1_000, 10_000
_LAYERS = {
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers", "depth", "depths",
    "num_encoder_blocks", "n_block",
}  # fmt: skip
_EXPERTS = re.compile(r"(num|n)_\w*experts")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The weight files of a model folder: those its index names, the usual one, all safetensors files, or a single other one."""
    for name in INDEXES:
        if (folder / name).is_file():
            return _indexed(folder / name)
    for name in WHOLE:
        if (folder / name).is_file():
            return (folder / name,)
    try:
        files = sorted(one for one in folder.iterdir() if one.is_file())
    except OSError as error:
        raise cannot_read(folder, error) from error
    found = tuple(one for one in files if one.suffix == ".safetensors")
    torch_files = tuple(one for one in files if one.suffix in _TORCH and not _NOT_WEIGHTS.fullmatch(one.name))
    if not found and len(torch_files) == 1:
        return torch_files
    if not found:
        several = (
            f"{len(torch_files)} of another kind; name one of them" if torch_files else "none; save the model again with save_pretrained"
        )
        raise UserError(f"a model folder must hold .safetensors files or one .bin file, got {folder} with {several}.")
    return found


def _indexed(index: Path) -> tuple[Path, ...]:
    found = read_json(index)
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index} must be a JSON file with a weight_map, got one without; get the model again.")
    names = sorted(set(shards.values()))
    # Names in an index come from whoever made the file: they may not lead out of the folder.
    outside = [name for name in names if Path(name).name != name or not name.isprintable()]
    if outside:
        raise UserError(f"{index} must name files in its own folder, got {quoted(outside[0])}; get the model again.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"{index} must name files in its own folder, got {quoted(missing[0])}, which is not there; get the model again.")
    return tuple(index.parent / name for name in names)


def config_of(folder: Path) -> dict[str, Any] | None:
    """A folder's config.json, checked; None where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise Refused(f"{path} must be a JSON object, got {quoted(found)}; get the model again.")
    check_config(found, path)
    return found


def check_config(config: dict[str, Any], path: Path, depth: int = 0) -> None:
    """Refuse a config that names code to fetch, or a model so deep that building its skeleton would not end."""
    for key, value in config.items():
        if isinstance(value, dict) and depth < 16:
            check_config(value, path, depth + 1)
        if key.endswith("_implementation") and "/" in str(value):
            raise Refused(f"{path} must not name code on a hub, got {quoted(value)} for {quoted(key)}; remove the key.")
        limit = MAX_LAYERS if key in _LAYERS else MAX_EXPERTS if _EXPERTS.fullmatch(key) else None
        for number in value if isinstance(value, list) else [value]:
            if limit is not None and isinstance(number, int | float) and number > limit:
                raise Refused(f"{path} must ask for at most {limit:,} as {quoted(key)}, got {number:,}; get the model again.")


def steps(folder: Path) -> tuple[Step, ...]:
    """The checkpoints in a folder by their number (``step_100``, ``checkpoint-200``, ``model_3.pt``); empty where it is no series.

    A series is two or more checkpoints, all files or all folders, each with a number of its own and otherwise named alike.
    """
    if not folder.is_dir() or any((folder / name).is_file() for name in ("config.json", *INDEXES)):
        return ()  # one model, whatever its shards are called
    found: dict[int, Path] = {}
    stems = set()
    for one in sorted(folder.iterdir()):
        numbered = _STEP.match(one.name)
        is_checkpoint = one.suffix in _CHECKPOINT if one.is_file() else one.is_dir() and _holds_weights(one)
        if not is_checkpoint or numbered is None or "-of-" in one.name or int(numbered[1]) in found:
            continue
        found[int(numbered[1])] = one
        stems.add(one.name[: numbered.start(1)] + one.name[numbered.end(1) :])
    if len(found) < 2 or len(stems) > 1:
        return ()
    return tuple(Step(number, _opened_by(found[number])) for number in sorted(found))


def _opened_by(one: Path) -> Path:
    """What opens a checkpoint of a series: itself, or the weights in a folder that has no config."""
    if one.is_file() or (one / "config.json").is_file() or any(one.glob("*.gguf")):
        return one
    files = weight_files(one)
    return files[0] if len(files) == 1 else one


def adapter_of(folder: Path) -> dict[str, Any] | None:
    """The settings of an adapter that say what it does to its base; None where there are none."""
    path = folder / ADAPTER
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise Refused(f"{path} must be a JSON object, got {quoted(found)}; get the adapter again.")
    return {key: found[key] for key in _ADAPTS if key in found}


def adapter_file(folder: Path) -> Path | None:
    """The weights of an adapter's folder; None where the folder is none, or is a model's own."""
    return weight_files(folder)[0] if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file() else None


def _holds_weights(folder: Path) -> bool:
    return (folder / "config.json").is_file() or any(one.suffix in _CHECKPOINT for one in folder.iterdir())
