"""Labels that readers write on latents: filed under the SAE's fingerprint, so that they outlive its runs and follow it into others."""

from __future__ import annotations

from store import Label
from ui import data
from ui.latents.saes import Sae
from ui.notes import Noted, notes, take_labels


def owner_of(sae: Sae) -> str:
    """What labels of an SAE's latents are filed under."""
    return f"sae {sae.fingerprint or sae.run.id}"


def labels_of(sae: Sae) -> dict[int, Label]:
    """The labels of an SAE's latents, the one written last first; those that are a note alone are left out."""
    known = data.store().labels.of(owner_of(sae))
    return {int(unit): label for unit, label in known.items() if label.text and unit.isdecimal()}


def label_control(sae: Sae, latent: int) -> None:
    """What this latent is called, to be written and changed here."""
    notes(Noted("latent", owner_of(sae), str(latent), sae.run.model))


def export_labels(sae: Sae) -> None:
    """All that was written on the SAE's latents as files; nothing where there is none."""
    take_labels(list(data.store().labels.of(owner_of(sae)).values()), "latent")
