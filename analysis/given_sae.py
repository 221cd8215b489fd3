"""A trained SAE as the input of an analysis: ``--with sae=REF``, opened by the runner's callers; analyses get the `Dictionary`.

REF is the id of a sealed run of ``sae_train`` (or the beginning of one), a folder that holds ``cfg.json`` and one safetensors file,
such a file, or ``release:id`` of sae-lens' table of published SAEs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.given_run import RUN
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.latents.dictionary import Dictionary
    from store import Store

SAE = "sae"
"""Name of the input, and of the folder among the files of a run that holds one."""
NOT_MODELS = frozenset({RUN, SAE})
"""Inputs that are opened in ways of their own."""
_SEALED = ".duckdb"
SAE_WORDS = "Id of a run of sae_train, a folder with cfg.json and safetensors, or release:id."


def is_path(ref: str) -> bool:
    """Whether REF is a place on this machine, rather than a run or a release."""
    return bool(ref) and (ref.startswith(("/", "~", ".")) or Path(ref).expanduser().exists() or ("/" in ref and ":" not in ref))


def check_sae(ref: str) -> None:
    """Raise the sentence for what should be on this machine and is no SAE; runs and releases are looked up when the job is done."""
    if is_path(ref) and not ref.endswith(_SEALED):
        from analysis.latents.sae_files import glance

        glance(Path(ref).expanduser())


def given_sae(store: Store, ref: str, device: str = "cpu") -> Dictionary:
    """The dictionary that REF names. Raises `UserError` for a run without an SAE, and whatever `open_dictionary` refuses."""
    from analysis.latents.dictionary import open_dictionary
    from store import StoreError

    if (is_path(ref) or ":" in ref) and not ref.endswith(_SEALED):
        return open_dictionary(ref).to(device)
    try:
        info = store.find(ref)
    except StoreError as error:
        raise UserError(
            f"the SAE must be the id of a run of sae_train, a folder, or release:id, got {ref!r} ({str(error).rstrip('.')}); check it."
        ) from error
    files = store.files(info)
    if files is None or not (files / SAE).is_dir():
        raise UserError(f"the run must hold an SAE, got {info.id}, which is one of {info.slug} without; give a run of sae_train.")
    found = open_dictionary(files / SAE).to(device)
    found.label, found.source = f"{info.model} {found.hook_name or SAE} ({info.id})", info.id
    return found
