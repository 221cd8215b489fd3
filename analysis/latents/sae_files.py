"""A folder that holds an SAE, looked at before anything of it is loaded: only JSON and safetensors are ever read.

1. ``cfg.json`` must be an object of plain values, the weights one safetensors file whose header agrees with itself and the file.
2. sae-lens' own rules bring an older cfg to today's form (`sae_lens.loading`); what is odd in it becomes one sentence.
3. Shapes in the header must be those that the cfg promises, before memory for them is asked for.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models.files.disk import cannot_read
from analysis.models.files.header import Refused, quoted, size_words

if TYPE_CHECKING:
    from collections.abc import Sequence

CFG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
_BESIDE = ("sparsity.safetensors", "activation_whitening.safetensors", "activations_store_state.safetensors")
"""Files that sae-lens writes beside the weights."""
MAX_JSON = 4 * 10**6
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
ARCHITECTURES = ("standard", "gated", "topk", "jumprelu", *TRANSCODERS)
"""What is opened, as sae-lens calls it. Batch-top-k and Matryoshka SAEs are saved as jumprelu, with the threshold they learned."""
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")


@dataclass(frozen=True)
class Looked:
    """What a folder says of its SAE."""

    weights: Path
    cfg: Mapping[str, Any]
    """In sae-lens' present form."""
    raw: Mapping[str, Any]
    """As the file has it."""
    scale: float | None
    """Factor the inputs were multiplied by in training, where it stands in a file of its own and not in the weights."""
    read: tuple[Path, ...] = field(repr=False)
    """Every file that was read, the weights last."""

    def fingerprint(self) -> str:
        """sha256 of all these files' bytes, each with its length before it."""
        found = []
        for path in self.read:
            try:
                with path.open("rb") as file:
                    found.append((path.stat().st_size, hashlib.file_digest(file, "sha256").digest()))
            except OSError as error:
                raise cannot_read(path, error) from error
        return _joined(found)


def listed_fingerprint(files: Sequence[Mapping[str, Any]], folder: str = "sae") -> str:
    """`Looked.fingerprint` of an SAE in a sealed run, from the list of files in its provenance (name, bytes, sha256) alone; "" where
    the run holds none."""
    listed = {str(one["name"]): (int(one["bytes"]), bytes.fromhex(one["sha256"])) for one in files}
    weights = [name for name in listed if name.startswith(f"{folder}/") and name.endswith(".safetensors")]
    read = [f"{folder}/{CFG}", *[name for name in [f"{folder}/{SCALER}"] if name in listed], *weights]
    return _joined([listed[name] for name in read]) if len(weights) == 1 and read[0] in listed else ""


def _joined(files: Sequence[tuple[int, bytes]]) -> str:
    """sha256 over each file's length (8 bytes, little-endian) and sha256."""
    state = hashlib.sha256()
    for size, digest in files:
        state.update(size.to_bytes(8, "little"))
        state.update(digest)
    return state.hexdigest()


def glance(ref: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Folder, weights and raw settings of a folder, or of a safetensors file with its ``cfg.json`` beside it; loads neither torch nor
    sae-lens, so that pages can ask. Raises `Refused`, in a sentence."""
    from analysis.models.files import safetensors_header

    if not ref.exists():
        raise Refused(f"the folder of an SAE must be there, got {ref}, which is not; check its name.")
    folder, weights = (ref, _weights_in(ref)) if ref.is_dir() else (ref.parent, ref)
    if weights.suffix != ".safetensors":
        raise Refused(f"the weights of an SAE must be a safetensors file, got {weights}; convert them, or name the folder.")
    raw = _read_json(folder / CFG)
    architecture = raw.get("architecture", "standard")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise Refused(
            f"{folder / CFG} must name an architecture of {', '.join(ARCHITECTURES)}, got {quoted(architecture)}; "
            "convert it with the library that made it, or take another SAE."
        )
    safetensors_header.read(weights)
    return folder, weights, raw


def look(ref: Path) -> Looked:
    """Look closely: settings as sae-lens understands them, shapes, memory. Raises `Refused`, in a sentence."""
    folder, weights, raw = glance(ref)
    scale, scaler = _scale(folder), folder / SCALER
    cfg = checked_cfg(raw, folder / CFG)
    _check_shapes(cfg, weights)
    return Looked(weights, cfg, raw, scale, (folder / CFG, *([scaler] if scale is not None else []), weights))


def _weights_in(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    found = sorted(path for path in folder.glob("*.safetensors") if path.name not in _BESIDE)
    if len(found) != 1 or not (folder / CFG).is_file():
        what = f"{len(found)} of them" if (folder / CFG).is_file() else f"no {CFG}"
        raise Refused(
            f"the folder of an SAE must hold {CFG} and one safetensors file, got {folder} with {what}; "
            "name the folder that sae-lens saved, or the file of weights itself."
        )
    return found[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise Refused(f"{path} must be at most {size_words(MAX_JSON)}, got {size_words(size)}; it is no file of settings.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} must be JSON, got a file that cannot be read ({quoted(str(error))}); get it again.") from error
    if not isinstance(found, dict):
        raise Refused(f"{path} must be a JSON object, got {quoted(found)}; get it again.")
    return found


def _scale(folder: Path) -> float | None:
    if not (folder / SCALER).is_file():
        return None
    found = _read_json(folder / SCALER).get("scaling_factor")
    if found is not None and (not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < 1e30):
        raise Refused(f"{folder / SCALER} must give a scaling_factor above 0, got {quoted(found)}; get it again.")
    return None if found is None else float(found)


def checked_cfg(raw: Mapping[str, Any], where: Any) -> dict[str, Any]:
    """The settings in sae-lens' present form, their types and values checked. Raises `Refused`."""
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    if not isinstance(raw.get("metadata", {}), Mapping):
        raise Refused(f"{where} must have metadata of names and values, got {quoted(raw['metadata'])}; get it again.")
    try:
        cfg = handle_config_defaulting(copy.deepcopy(dict(raw)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # how sae-lens stumbles over values of the wrong type
        raise Refused(f"{where} must be settings as sae-lens writes them, got some it cannot read ({quoted(str(error))}).") from error
    if cfg.setdefault("architecture", "standard") not in ARCHITECTURES:  # of a release: sae-lens' table has others, too
        raise Refused(f"{where} must be of an architecture of {', '.join(ARCHITECTURES)}, got {quoted(cfg['architecture'])}; take another.")
    _check_values(cfg, where)
    return cfg


def _check_values(cfg: Mapping[str, Any], where: Any) -> None:
    sizes = ["d_in", "d_sae", *(["d_out"] if cfg["architecture"] in TRANSCODERS else []), *(["k"] if cfg["architecture"] == "topk" else [])]
    for name in sizes:
        value = cfg.get(name)
        if type(value) is not int or not 0 < value < 2**31:
            raise Refused(f"{where} must give {name} as a whole number above 0, got {quoted(value)}; get it again.")
    if cfg["architecture"] == "topk" and cfg["k"] > cfg["d_sae"]:
        raise Refused(f"{where} must give k of at most d_sae = {cfg['d_sae']:,}, got {cfg['k']:,}; get it again.")
    normalisation = cfg.get("normalize_activations", "none")
    if normalisation not in NORMALISATIONS:
        raise Refused(
            f"{where} must normalise activations by one of {', '.join(NORMALISATIONS)}, got {quoted(normalisation)}; "
            "fold it into the weights with sae-lens."
        )
    for name in ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm"):
        if not isinstance(cfg.get(name, True), bool):
            raise Refused(f"{where} must give {name} as true or false, got {quoted(cfg[name])}; get it again.")
    metadata = cfg.get("metadata") or {}
    for name in ("model_name", "hook_name", "hook_name_out"):
        if not isinstance(metadata.get(name), str | None):
            raise Refused(f"{where} must give {name} as text, got {quoted(metadata[name])}; get it again.")
    size = metadata.get("context_size")
    if size is not None and (type(size) is not int or size < 1):
        raise Refused(f"{where} must give context_size as a whole number above 0, got {quoted(size)}; get it again.")


def _check_shapes(cfg: Mapping[str, Any], weights: Path) -> None:
    import psutil

    from analysis.models.files import safetensors_header

    entries = {entry.name: entry for entry in safetensors_header.read(weights).entries}
    for name, wanted in shapes_of(cfg).items():
        found = entries[name].shape if name in entries else None
        if found != wanted:
            got = "none" if found is None else words_of(found)
            raise Refused(
                f"{weights} must hold {name} of {words_of(wanted)} as its cfg.json says, got {got}; one of the two is of another SAE."
            )
    need, free = sum(4 * entry.numel for entry in entries.values()), psutil.virtual_memory().available
    if need > free:
        raise Refused(f"the memory for {weights} must be {size_words(need)}, got {size_words(free)} free; close other programs.")


def shapes_of(cfg: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The matrices that every architecture has, and their biases."""
    d_in, d_sae, d_out = cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"])
    gated = cfg["architecture"] == "gated"
    biases = ("b_gate", "b_mag", "r_mag") if gated else ("b_enc",)
    skip = {"W_skip": (d_out, d_in)} if "skip" in cfg["architecture"] else {}
    return {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,), **dict.fromkeys(biases, (d_sae,)), **skip}


def words_of(shape: Sequence[int]) -> str:
    """``64 x 512``."""
    return " x ".join(f"{size:,}" for size in shape)
