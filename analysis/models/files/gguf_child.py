"""A GGUF file as a Hugging Face folder of 32-bit safetensors; runs only in the child process, which imports it by name.

It is read by transformers, whose GGUF reader is plain Python without bounds: hence the closed process, and the header checked before.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any


class RefusedHere(Exception):
    """The sentence after the file's name."""


REFUSALS: tuple[type[Exception], ...] = (RefusedHere,)


def prepare() -> None:
    """Load what is needed, before anything is opened."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def convert(file: Path, out: Path) -> dict[str, Any]:
    """Write the model and its tokenizer into ``out``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: Any = {"gguf_file": file.name, "local_files_only": True}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the reader draws a bar of its own, whatever transformers' settings say
            model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, trust_remote_code=False, **where)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    except (ValueError, KeyError, NotImplementedError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RefusedHere(
            f"must be a language model whose GGUF architecture transformers can read, got: {first}; use its safetensors version"
        ) from error
    setattr(model, "hf_quantizer", None)  # noqa: B010 - torch's modules declare no such attribute; what is saved is plain float32; a reader must not look for the GGUF file again
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {}
