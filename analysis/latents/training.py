"""sae-lens' own trainer, a number of steps at a time, and everything it needs to go on after a kill.

1. The SAE and `SAETrainer` are made from the config; the scale of the inputs and the decoder's bias from the first fill.
2. A step is the trainer's own: `SAETrainer.step` on a batch, as `SAETrainer.fit` does it, without its progress bar and its logging.
3. A checkpoint holds weights, optimiser, schedules and counts; random numbers are none of it, as the order of rows is made of its seed.
4. At the end the input's scale is folded into the weights, and sae-lens writes the inference SAE.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.latents.architectures import training_sae

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.places import Place

POINTS = 200
"""Points of the curves that are kept, about."""
_WEIGHTS = "weights.safetensors"


class Training:
    """An SAE in training."""

    def __init__(self, config: Any, place: Place, n_steps: int, device: str, metadata: Mapping[str, Any]) -> None:
        from sae_lens import SAETrainer
        from sae_lens.config import SAETrainerConfig

        self._config = config
        self.n_steps = n_steps
        self._every = max(1, n_steps // POINTS)
        warm_up, decay = round(config.warm_up * n_steps), round(config.decay * n_steps)
        told = SAETrainerConfig(
            total_training_samples=n_steps * config.batch,
            train_batch_size_samples=config.batch,
            lr=config.learning_rate,
            lr_end=config.learning_rate,  # asked for, and not used by a constant rate that decays at the end
            lr_warm_up_steps=warm_up if warm_up > 1 else 0,
            lr_decay_steps=decay if decay > 1 else 0,
            device=device,
            dead_feature_window=config.dead_window,
            feature_sampling_window=n_steps + 1,  # never reset: one count over the whole training
        )
        self.sae = training_sae(config, place, n_steps, device, metadata)
        self._trainer = SAETrainer(cfg=told, sae=self.sae, data_provider=iter(()))

    @property
    def step(self) -> int:
        """Steps done."""
        return self._trainer.n_training_steps

    def begin(self, values: Tensor) -> None:
        """Set what is read off the first fill [n, width]: the scale of the inputs, and where the decoder's bias starts.

        Scale: sqrt(width) over the mean norm of a row (sae-lens' "expected_average_only_in").
        """
        import torch

        norm = float(values.double().norm(dim=1).mean())
        if self._config.normalise and norm > 0:
            self._trainer.activation_scaler.scaling_factor = values.shape[1] ** 0.5 / norm
        if self._config.centre:
            with torch.no_grad():
                self.sae.b_dec.copy_(self._trainer.activation_scaler(values.double().mean(0)))

    def one_step(self, batch: Tensor) -> tuple[dict[str, list[Any]], dict[str, list[Any]]] | None:
        """One step on a batch [b, width]; rows of ``sae_steps`` and ``sae_losses`` where this step is one that is kept."""
        trainer = self._trainer
        rate = trainer.optimizer.param_groups[0]["lr"]
        output = trainer.step(batch)
        trainer.n_training_steps += 1
        if trainer.n_training_steps % self._every and trainer.n_training_steps != self.n_steps:
            return None
        told = trainer.build_train_step_log_dict(output=output, n_training_samples=trainer.n_training_samples)
        return _step_row(trainer, told, rate), _loss_rows(trainer.n_training_steps, told)

    # -- going on after a kill -------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Everything needed to go on, at once or not at all, as ``checkpoint-<steps>``; older ones stay until `forget_before`."""
        from safetensors.torch import save_file

        final = folder / f"checkpoint-{self.step}"
        made = final.with_suffix(".tmp")
        shutil.rmtree(made, ignore_errors=True)
        self._trainer.save_trainer_state(made)
        save_file({name: value.contiguous() for name, value in self.sae.state_dict().items()}, made / _WEIGHTS)
        for path in made.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        os.rename(made, final)

    def load(self, folder: Path, step: int) -> None:
        """Go on from ``checkpoint-<step>``."""
        from safetensors.torch import load_file

        kept = folder / f"checkpoint-{step}"
        self._trainer.load_trainer_state(kept)
        self.sae.load_state_dict(load_file(kept / _WEIGHTS, device=str(self.sae.device)))

    # -- the end -----------------------------------------------------------------------------------------------------------

    def finish(self, folder: Path) -> None:
        """Fold the scale of the inputs into the weights and write ``sae`` in sae-lens' format, at once or not at all."""
        trainer, made, final = self._trainer, folder / "sae.tmp", folder / "sae"
        if trainer.activation_scaler.scaling_factor is not None:
            self.sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
            trainer.activation_scaler.scaling_factor = None
        self.sae.cfg.normalize_activations = "none"
        trainer.set_final_sae_metadata()
        for path in (made, final):
            shutil.rmtree(path, ignore_errors=True)
        self.sae.save_inference_model(made)
        os.rename(made, final)


def forget_before(folder: Path, step: int) -> None:
    """Remove checkpoints of fewer steps, and what a kill left of unfinished ones."""
    for path in folder.glob("checkpoint-*"):
        name = path.name.removeprefix("checkpoint-")
        if not name.isdecimal() or int(name) < step:
            shutil.rmtree(path)


def _step_row(trainer: Any, told: Mapping[str, float], rate: float) -> dict[str, list[Any]]:
    import math

    explained = told["metrics/explained_variance"]
    return {
        "step": [trainer.n_training_steps],
        "n_samples": [trainer.n_training_samples],
        "loss": [told["losses/overall_loss"]],
        "l0": [told["metrics/l0"]],
        "explained_variance": [explained if math.isfinite(explained) else None],
        "dead_share": [told["sparsity/dead_features"] / trainer.sae.cfg.d_sae],
        "learning_rate": [rate],
    }


def _loss_rows(step: int, told: Mapping[str, float]) -> dict[str, list[Any]]:
    terms = {name.partition("/")[2]: value for name, value in told.items() if name.startswith("losses/") and name != "losses/overall_loss"}
    return {"step": [step] * len(terms), "term": list(terms), "value": [float(value) for value in terms.values()]}
