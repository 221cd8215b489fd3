"""Training an SAE: tokens per second of `sae_train` beside sae-lens' own runner, same model, place, architecture, windows and batch.

sae-lens' side is `LanguageModelSAETrainingRunner` as its tutorials use it, with its ActivationsStore (mixing buffer) and its trainer, on
TransformerLens' bridge around its own copy of the model and on a data set of the very same windows in memory; without evaluation,
logging and checkpoints. Ours is a whole run: documents split, buffer on disk, checkpoints, judged on one held-out window, sealed into the
store. Each token is trained on once in both. The arms take turns in one process; the ratio of each round is taken and the median printed
with its spread. Models are loaded and places found before the clock starts, as far as each side allows it.

    python -m benchmarks.sae_training [--model smollm2] [--tokens 8192] [--layer 15] [--architecture topk] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import torch

from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
from analysis.models import open_subject
from analysis.runner import run
from benchmarks.results import emit, in_turns
from store import Store

WINDOW, PER_PASS, BATCH = 128, 1024, 1024


class Bench:
    """One model twice, the same windows, and the two arms."""

    def __init__(self, options: argparse.Namespace) -> None:
        from analysis.latents.buffering import plan_of

        self.options = options
        self.hook = f"blocks.{options.layer}.hook_resid_post"
        self.subject = open_subject(options.model, "python-docs", n_tokens=2 * options.tokens, window=WINDOW)
        self.subject.model.eval()
        # Half of the documents judge: as many windows as it takes for `tokens` to be left to train on.
        plan = plan_of(self.subject.data, self._config(options.tokens), WINDOW)
        self.windows = plan.training.token_ids
        self.config = self._config(self.windows.size)
        self.forwarded: dict[str, int] = {}

    def _config(self, n_samples: int) -> SaeTrainConfig:
        return SaeTrainConfig(
            place=self.hook, architecture=self.options.architecture, k=32, expansion=4.0, n_samples=n_samples, batch=BATCH,
            held_out_tokens=1, buffer_tokens=self.options.buffer, batch_tokens=PER_PASS, window=WINDOW,
            exclude_first=False, exclude_special=False, centre=False, normalise=False,
        )  # fmt: skip

    def ours(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run(SAE_TRAIN, {"model": self.subject}, self.config, Store(folder))

    def theirs_setup(self) -> None:
        """TransformerLens' bridge around its own copy of the model (a bridge replaces submodules), and the windows as a data set."""
        from datasets import Dataset
        from transformer_lens.model_bridge.sources.transformers import boot

        other = open_subject(self.options.model)
        named = other.source if other.source.count("/") == 1 else "HuggingFaceTB/SmolLM2-135M-Instruct"
        self.bridge: Any = boot(named, hf_model=other.model, tokenizer=other.tokenizer)
        self.dataset = Dataset.from_dict({"input_ids": self.windows.tolist()})

    def theirs(self) -> None:
        from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig
        from sae_lens.registry import get_sae_training_class

        about: Any = self.subject.model.config
        width = about.hidden_size
        sae = get_sae_training_class(self.options.architecture)[1](d_in=width, d_sae=4 * width, **self._own())
        steps = self.windows.size // BATCH
        told = LanguageModelSAERunnerConfig(
            sae=sae, model_name=self.options.model, hook_name=self.hook, dataset_path="in memory", streaming=False,
            is_dataset_tokenized=True, context_size=WINDOW, n_batches_in_buffer=self.options.buffer // WINDOW,
            training_tokens=steps * BATCH, store_batch_size_prompts=PER_PASS // WINDOW,
            train_batch_size_tokens=BATCH, prepend_bos=False, lr=self.config.learning_rate,
            lr_warm_up_steps=round(0.05 * steps) if steps > 40 else 0, lr_decay_steps=round(0.2 * steps), dead_feature_window=100,
            n_checkpoints=0, checkpoint_path=None, output_path=None, verbose=False, logger=LoggingConfig(log_to_wandb=False), seed=0,
        )  # fmt: skip
        runner: Any = LanguageModelSAETrainingRunner(told, override_dataset=self.dataset, override_model=self.bridge)
        counted, forward = [0], runner.activations_store.get_activations

        def counting(tokens: torch.Tensor) -> torch.Tensor:
            counted[0] += tokens.numel()
            return forward(tokens)

        runner.activations_store.get_activations = counting
        runner.run()
        self.forwarded["theirs"] = counted[0]

    def _own(self) -> dict[str, Any]:
        return {"k": 32} if "topk" in self.options.architecture else {}


def main() -> None:
    """Print tokens per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--architecture", default="topk")
    parser.add_argument("--buffer", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    bench = Bench(options)
    bench.theirs_setup()
    arms = {"ours": bench.ours, "theirs": bench.theirs}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    both: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for number in range(options.rounds):
        for name in list(arms)[:: 1 if number % 2 else -1]:
            start, busy = time.perf_counter(), time.process_time()
            arms[name]()
            seconds[name].append(time.perf_counter() - start)
            both[name].append((seconds[name][-1], time.process_time() - busy))
    trained = bench.windows.size // BATCH * BATCH
    for name, found in seconds.items():
        read = bench.forwarded.get(name, bench.windows.size + WINDOW)
        rate = trained / np.asarray(found)
        print(f"{name:8} {statistics.median(rate):8.0f} tokens trained on per second ({rate.min():.0f} to {rate.max():.0f}); {read:,} read")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"])]
    print(f"ours over theirs: {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}), {options.rounds} rounds")
    what = f"training an SAE: {options.model}, layer {options.layer}, {options.architecture}, {trained:,} tokens"
    emit(in_turns(what, "a whole run, sealed", "sae-lens' own runner", both["ours"], both["theirs"], 1.0, peer=True))


if __name__ == "__main__":
    main()
