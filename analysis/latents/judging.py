"""What a freshly trained SAE is worth: on held-out documents, and against features the model is known to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.capture.fitting import Fitting
from analysis.latents.buffering import Plan, kept_tokens, read_rows
from analysis.stats.latents import LatentActivity
from analysis.stats.reconstruction import Fidelity

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.places import Place

READING = "reading held-out documents"


def open_saved(folder: Path, device: str) -> Any:
    """The inference SAE in a folder, as plain sae-lens opens it, told that its inputs are flat."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder, device=device)
    sae.turn_off_forward_pass_hook_z_reshaping()  # rows come as [n, width]; the file keeps the setting for whoever hooks a head
    return sae.eval()


def judge(config: Any, subject: Any, place: Place, plan: Plan, work: Any) -> None:
    """Read the held-out pieces that are left and keep what was seen of each: sums and counts only."""
    import torch

    pieces = {f"{piece.start}-{piece.stop}": piece for piece in plan.held_out_pieces}
    sae, keep = None, kept_tokens(plan.held_out, config)
    documents, own = np.unique(plan.held_out.document, return_inverse=True)
    batch = Fitting.windows(config.batch_tokens, plan.held_out)

    def seen_of(sae: Any, piece: slice, size: int) -> dict[str, np.ndarray]:
        activity = LatentActivity.empty(sae.cfg.d_sae, np.bincount(own))
        fidelity = Fidelity.empty(len(documents), place.width)
        with torch.no_grad():
            for seen in read_rows(subject, place, plan.held_out, piece, size, keep):
                values = seen.values.float()
                latents = sae.encode(values)
                activity.update(latents, seen.window, own[seen.window])
                fidelity.update(values, sae.decode(latents), own[seen.window])
        return _packed(activity=activity, fidelity=fidelity)

    for name in work.units(list(pieces), what=READING):
        sae = sae or open_saved(work.files / "sae", subject.device)
        work.save_state(batch(partial(seen_of, sae, pieces[name])))


def judged(work: Any) -> tuple[LatentActivity, Fidelity]:
    """What all held-out pieces gave together."""
    activity: LatentActivity | None = None
    fidelity: Fidelity | None = None
    for _, state in work.states(READING):
        one, two = LatentActivity.of_arrays(_of(state, "activity")), Fidelity.of_arrays(_of(state, "fidelity"))
        if activity is None or fidelity is None:
            activity, fidelity = one, two
        else:
            activity.merge(one)
            fidelity.merge(two)
    if activity is None or fidelity is None:
        raise RuntimeError("no held-out piece was read")
    return activity, fidelity


def nearest_latents(features: Tensor, directions: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each known feature [G, d] the decoder direction [F, d] with the largest cosine: cosines [G], -1 to 1, and latents [G].

    Their mean is the mean max cosine similarity: 1 where every feature is a direction. Rows of zeros have cosine 0 with everything.
    Source: Sharkey, Braun and Millidge 2022 (MMCS).
    """
    import torch

    known, found = (torch.nn.functional.normalize(t.detach().double().cpu(), dim=1) for t in (features, directions))
    cosine, latent = (known @ found.T).max(dim=1)
    return cosine.clamp(-1, 1).numpy(), latent.numpy()


def _packed(**parts: Any) -> dict[str, Any]:
    return {f"{name}/{inner}": values for name, part in parts.items() for inner, values in part.arrays().items()}


def _of(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key.partition("/")[2]: values for key, values in state.items() if key.partition("/")[0] == name}


def document_rows(data: Any, plan: Plan) -> dict[str, Sequence[Any]]:
    """Rows of ``sae_documents``: every document of the data, its role, and how many of its windows were read."""
    present = np.unique(data.document)
    trained, held = (np.bincount(part.document, minlength=len(data.documents)) for part in (plan.training, plan.held_out))
    return {
        "document": present.tolist(),
        "name": [data.documents[i] for i in present],
        "role": ["training" if trained[i] else "held out" for i in present],
        "n_windows": (trained + held)[present].tolist(),
    }
