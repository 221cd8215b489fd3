"""Models of the hub that this machine has already fetched: found without the network."""

from __future__ import annotations

from pathlib import Path


def cached_folder(model: str) -> Path | None:
    """The folder of a hub id in the hub's own cache; None where it has not been fetched, or not its config."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None  # no id of the hub has that form
    return Path(found).parent if isinstance(found, str) else None
