"""A trained dictionary: sae-lens' own inference SAE, opened from a folder or a release, with what is known of where it belongs.

dictionary = open_dictionary("my-sae")
f = dictionary.encode(x)                    # [n, F], what sae-lens' own encode gives
x_hat = dictionary.reconstruct(x)           # [n, d_out], in the units of x
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from analysis.latents.sae_files import TRANSCODERS, Looked, checked_cfg, look
from analysis.models.files.header import Refused, quoted
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

SAE = "sae"
PLACE = "place"
"""Key of the metadata of a dictionary trained here: the identity of its place."""
_STUMBLES = (RuntimeError, TypeError, ValueError, KeyError, AttributeError)
"""How sae-lens and torch say that weights and settings do not fit together."""


class Dictionary:
    """An SAE or a transcoder, in eval mode, float32, without gradients of its weights."""

    def __init__(self, sae: Any, cfg: Mapping[str, Any], *, label: str, source: str, fingerprint: str, notes: tuple[str, ...] = ()) -> None:
        """``cfg`` in sae-lens' present form; its metadata say where the dictionary belongs."""
        import torch

        sae.turn_off_forward_pass_hook_z_reshaping()  # rows here are flat: all heads side by side
        self.sae = sae.to(dtype=torch.float32).eval().requires_grad_(False)
        self.cfg = MappingProxyType(dict(cfg))
        self.label, self.source, self.notes = label, source, notes
        self.fingerprints = {SAE: fingerprint}
        self.architecture: str = cfg["architecture"]
        self.d_in: int = cfg["d_in"]
        self.d_sae: int = cfg["d_sae"]
        self.d_out: int = cfg.get("d_out", self.d_in)
        self.transcoder = self.architecture in TRANSCODERS
        self.normalisation: str = sae.cfg.normalize_activations
        metadata: Mapping[str, Any] = cfg.get("metadata") or {}
        self.hook_name: str | None = metadata.get("hook_name")
        self.out_hook_name: str | None = metadata.get("hook_name_out") if self.transcoder else None
        self.place_name: str | None = metadata.get(PLACE)
        self.model_name: str | None = metadata.get("model_name")
        self.context_size: int | None = metadata.get("context_size")
        self.exclude_special = bool(metadata.get("exclude_special_tokens"))

    @property
    def dtype(self) -> str:
        """Of its weights, for the run's key."""
        return "float32"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All that its file says of its origin."""
        return self.cfg.get("metadata") or {}

    @property
    def device(self) -> Any:
        """Where its weights are."""
        return self.sae.W_dec.device

    def to(self, device: Any) -> Dictionary:
        """This dictionary, moved there."""
        self.sae.to(device=device)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Latents f [n, F] of x [n, d_in], as sae-lens' own ``encode`` gives them, inputs normalised as in training."""
        f = self.sae.encode(x)
        return f.to_dense() if f.is_sparse else f

    def decode(self, f: Tensor) -> Tensor:
        """f [n, F] -> [n, d_out]. Where each row is normalised by itself (`scales_each_row`), f does not tell by how much: as in sae-lens,
        directly after `encode` of the same n rows that is undone; at any other time the result is in the normalised units."""
        held = getattr(self.sae, "x_norm_coeff", getattr(self.sae, "ln_std", None))
        if self.scales_each_row and (held is None or held.shape[:-1] != f.shape[:-1]):
            with self._unscaled():
                return self.sae.decode(f)
        return self.sae.decode(f)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, F] and reconstruction [n, d_out] of x [n, d_in], input normalisation undone, in one go."""
        f = self.encode(x)
        x_hat = self.sae.decode(f)
        if "skip" in self.architecture:
            x_hat = x_hat + x.to(x_hat.dtype) @ self.sae.W_skip.T
        return f, x_hat

    def reconstruct(self, x: Tensor) -> Tensor:
        """x_hat [n, d_out] of x [n, d_in]; of a transcoder, of what the MLP would have given."""
        return self.both(x)[1]

    @property
    def scales_each_row(self) -> bool:
        """Whether a row's own norm, or mean and deviation, normalises it."""
        return self.normalisation in ("constant_norm_rescale", "layer_norm")

    @contextmanager
    def _unscaled(self) -> Iterator[None]:
        held = self.sae.run_time_activation_norm_fn_out
        self.sae.run_time_activation_norm_fn_out = lambda x: x
        try:
            yield
        finally:
            self.sae.run_time_activation_norm_fn_out = held

    @property
    def W_enc(self) -> Tensor:  # noqa: N802 - the literature's name
        """[d_in, F]."""
        return self.sae.W_enc.detach()

    @property
    def b_enc(self) -> Tensor:
        """[F]; of a gated SAE the gate's, which decides whether a latent is active."""
        return (self.sae.b_gate if self.architecture == "gated" else self.sae.b_enc).detach()

    @property
    def W_dec(self) -> Tensor:  # noqa: N802
        """[F, d_out]."""
        return self.sae.W_dec.detach()

    @property
    def b_dec(self) -> Tensor:
        """[d_out]."""
        return self.sae.b_dec.detach()


# ---------------------------------------------------------------------------------------------------------------------


def open_dictionary(ref: str | Path) -> Dictionary:
    """The dictionary of a folder (``cfg.json`` and one safetensors file), of such a file, or of ``release:id`` in sae-lens' table.

    Raises `UserError`, in one sentence, for what is not there, is broken, or of a kind that cannot be opened. Of a folder only JSON
    and safetensors are read; a release is fetched, and read by sae-lens' own loader for it.
    """
    path = Path(ref).expanduser()
    if path.exists():
        return _from_folder(path)
    release, found, name = str(ref).partition(":")
    if not found or not release or not name:
        raise UserError(
            f"an SAE must be a folder, a safetensors file, or release:id of sae-lens' table, got {quoted(str(ref))}; check its name."
        )
    return _from_release(release, name)


def _from_folder(path: Path) -> Dictionary:
    import torch
    from sae_lens import SAE as SparseAutoencoder
    from sae_lens.loading.pretrained_sae_loaders import read_sae_components_from_disk

    looked = look(path)

    def read(path: Any, device: str, cfg_overrides: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Tensor]]:  # noqa: ARG001
        cfg = dict(looked.cfg) | {"device": device, "reshape_activations": "none"} | dict(cfg_overrides or {})
        return read_sae_components_from_disk(cfg, looked.weights, device)

    try:
        with warnings.catch_warnings(action="ignore"):
            sae: Any = SparseAutoencoder.load_from_disk(path, device="cpu", dtype="float32", converter=read)
            sae(torch.ones(1, looked.cfg["d_in"]))  # settings that only stumble once they are used
    except _STUMBLES as error:
        said = quoted(" ".join(str(error).split()) or type(error).__name__)
        raise Refused(
            f"{path} must be an SAE whose weights fit its cfg.json, got one that cannot be put together ({said}); get it again."
        ) from error
    bad = next((name for name, value in sae.state_dict().items() if not bool(torch.isfinite(value).all())), None)
    if bad is not None:
        raise Refused(f"{looked.weights} must hold finite numbers, got NaN or infinite ones in {quoted(bad)}; get it again.")
    notes = _fold(sae, looked)
    name = path.name if path.is_dir() else path.stem
    return Dictionary(sae, looked.cfg, label=name, source=str(path.resolve()), fingerprint=looked.fingerprint(), notes=notes)


def _fold(sae: Any, looked: Looked) -> tuple[str, ...]:
    """Put the scale of the inputs into the weights where it stands beside them; the sentence where it is nowhere."""
    if sae.cfg.normalize_activations != "expected_average_only_in":
        return ()
    if looked.scale is None:
        return (
            "Its inputs were scaled in training (expected_average_only_in) by a factor that its files do not hold, so they are read "
            "unscaled, as sae-lens does: its numbers may be off by that factor.",
        )
    sae.fold_activation_norm_scaling_factor(looked.scale)
    return (f"Its inputs were scaled in training by {looked.scale:.4g}, which is folded into the weights.",)


def _from_release(release: str, name: str) -> Dictionary:
    """Of sae-lens' table of published SAEs, by its own loader: needs the network, or what the hub's cache already holds."""
    from sae_lens import SAE as SparseAutoencoder

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            sae, raw, _ = SparseAutoencoder.from_pretrained_with_cfg_and_sparsity(release, name, device="cpu")
    except (OSError, *_STUMBLES) as error:  # every failure of the hub's client derives from OSError
        words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"the SAE must be one that sae-lens can fetch or has fetched, got {quoted(f'{release}:{name}')} ({words}); "
            "check release and id, and the network, or give a folder."
        ) from error
    cfg = checked_cfg(raw, f"{release}:{name}")
    notes = tuple(str(one.message) for one in said if "norm_scaling_factor" in str(one.message))
    return Dictionary(sae, cfg, label=f"{release}:{name}", source=f"{release}:{name}", fingerprint=_digest(sae, cfg), notes=notes)


def _digest(sae: Any, cfg: Mapping[str, Any]) -> str:
    from analysis.models.fingerprints import tensor_bytes

    state = hashlib.sha256(json.dumps(cfg, sort_keys=True, default=str).encode())
    for key, value in sorted(sae.state_dict().items()):
        state.update(f"{key} {tuple(value.shape)}".encode())
        state.update(tensor_bytes(value))
    return state.hexdigest()
