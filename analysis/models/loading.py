"""What transformers is asked for: config, class, task, skeleton, model, tokenizer. Remote code is never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models.fingerprints import TOKENIZER_FILES
from analysis.models.placement import loading_arguments, nothing_left, settled
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch

CAUSAL, MASKED, SEQ2SEQ, ENCODER = "causal-lm", "masked-lm", "seq2seq-lm", "encoder"
_MAY_BE_MISSING = 10**8
_NO_LIMIT = 10**6
"""Tokenizers without a limit of their own state a huge number; longer than this is not a limit."""


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and chatter; its settings are put back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> Any:
    """The model's config. Raises `UserError` where it is no config of an architecture transformers itself knows."""
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"config.json must describe an architecture that transformers knows without remote code, got {folder} ({first}); "
            "use a model of a known architecture."
        ) from error


def task_of(config: Any) -> str | None:
    """What the model's head is for, by its architecture's name: see the constants of this module; None for other heads."""
    from transformers.models.auto import modeling_auto as auto

    name = architecture(config)
    if name is None:
        return ENCODER
    tables = {
        SEQ2SEQ: auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        CAUSAL: auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MASKED: auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        ENCODER: auto.MODEL_MAPPING_NAMES,
    }
    for task, names in tables.items():
        if any(name == known or (isinstance(known, tuple | list) and name in known) for known in names.values()):
            return task
    return None


def architecture(config: Any) -> str | None:
    """Name of the model class, as the config states it."""
    names = getattr(config, "architectures", None)
    return names[0] if names else None


def model_class(config: Any) -> Any:
    """The class to load: the automatic class of the task, or the very class the config names."""
    import transformers

    classes = {
        CAUSAL: transformers.AutoModelForCausalLM,
        MASKED: transformers.AutoModelForMaskedLM,
        SEQ2SEQ: transformers.AutoModelForSeq2SeqLM,
        ENCODER: transformers.AutoModel,
    }
    task = task_of(config)
    if task is not None:
        return classes[task]
    name = architecture(config) or ""
    if not hasattr(transformers, name):
        raise UserError(
            f"the architecture must be one transformers knows without remote code, got {name!r}; use a model of a known architecture."
        )
    return getattr(transformers, name)


def skeleton(config: Any) -> torch.nn.Module:
    """The model without values, on the meta device: module types, parameter names, ties. Takes no memory."""
    import copy

    import torch

    cls = model_class(config)
    build = getattr(cls, "from_config", None) or cls._from_config
    with torch.device("meta"), quiet():
        return build(copy.deepcopy(config))


def check_size(model: torch.nn.Module, files: Iterable[Path], folder: Path) -> None:
    """Refuse a config that asks for far more parameters than the files hold: what is missing would be made up, in memory.

    No stored type takes less than half a byte per parameter; a hundred million more may be missing (a head, a pooler).
    """
    n_bytes = sum(path.stat().st_size for path in files)
    asked = sum(parameter.numel() for parameter in model.parameters())
    if asked > 2 * n_bytes + _MAY_BE_MISSING:
        raise UserError(
            f"config.json must fit the weights beside it, got {folder}, where it asks for {asked:,} parameters and the files "
            f"hold {n_bytes:,} bytes; "
            "get the model again."
        )


def load_model(folder: Path, config: Any, device: str, dtype: str = "") -> torch.nn.Module:
    """The model with its weights, in the checkpoint's dtype or the one named, in eval mode. Refuses a checkpoint that lacks weights.

    ``device``: see `placement`. A pooler may be missing: encoders are often saved without it, and nothing here reads it.
    """
    cls, told = model_class(config), loading_arguments(device, dtype)
    with nothing_left(told):
        model = _loaded(cls, folder, told)
        return settled(model, device, told)


def _loaded(cls: Any, folder: Path, told: dict[str, Any]) -> torch.nn.Module:
    from safetensors import SafetensorError

    try:
        with quiet():
            model, found = cls.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **told
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"the weights in {folder} must fit their config, got: {first}; get the model again.") from error
    missing = sorted(k for k in found["missing_keys"] if "pooler" not in k)
    if missing:
        raise UserError(
            f"the checkpoint must hold every weight of {type(model).__name__}, got {folder} without {len(missing)} of them "
            f"(for example {missing[0]}); a random value would stand in, so get the whole model."
        )
    return model


def load_tokenizer(folder: Path) -> Any | None:
    """The tokenizer, or None where the folder has no tokenizer files."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"the tokenizer files in {folder} must be readable by transformers, got: {first}; get them again.") from error


def context_length(config: Any, tokenizer: Any | None) -> int | None:
    """Longest window the model takes, in tokens; None where nothing states a limit (relative positions).

    The tokenizer's limit counts too: RoBERTa states 514 positions of which 512 can be used.
    """
    stated = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    stated.append(getattr(tokenizer, "model_max_length", None))
    limits = [int(n) for n in stated if isinstance(n, int | float) and 0 < n < _NO_LIMIT]
    return min(limits) if limits else None
