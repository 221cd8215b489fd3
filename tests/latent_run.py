"""Sealed runs on tiny SAEs: trained, judged, looked into, in seconds; and one of a model whose features are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.given_sae import SAE, given_sae
from analysis.latents.dictionary import open_dictionary
from analysis.latents.latent_attribution import LATENT_ATTRIBUTION, LatentAttributionConfig
from analysis.latents.latent_examples import LATENT_EXAMPLES, LatentExamplesConfig
from analysis.latents.sae_quality import SAE_QUALITY, SaeQualityConfig
from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
from analysis.models import TextWindows, open_subject, subject_from
from store import RunInfo, Store
from tests import zoo
from tests.latents import superposed
from tests.latents.saes import made
from tests.once import run_once
from tests.toy import HOSTILE

WINDOW, N_LATENTS = 16, 40
RESIDUAL, HEADS, MLP = "blocks.1.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.hook_mlp_out"


def _tokenizer() -> Any:
    """Sixty words, one of them hostile."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {HOSTILE: 5} | {f"▁w{i}": i for i in range(60) if i != 5}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="▁w0")), unk_token="▁w0")


def subject(name: str = "tiny", seed: int = 0, documents: int = 24) -> Any:
    """A seeded model that reads seeded tokens; its layers do more to the stream than they would untrained."""
    model = zoo.llama()[0]
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).add_(torch.randn_like(parameter) * 0.01)
    ids = np.random.default_rng(seed).integers(3, 60, (4 * documents, WINDOW))
    text = TextWindows.from_ids(ids, document=np.arange(len(ids)) // 4)
    return subject_from(model, name=name, data=text, tokenizer=_tokenizer())


def make_saes(store: Store, *, place: str = RESIDUAL, name: str = "tiny", seed: int = 0) -> list[RunInfo]:
    """An SAE trained in a second, judged and looked into; where it reads heads, attributed to them, too."""
    model = subject(name, seed)
    training = SaeTrainConfig(
        place=place, n_latents=N_LATENTS, k=4, n_samples=4000, batch=128, learning_rate=3e-3, window=WINDOW, seed=seed
    )
    trained = run_once(SAE_TRAIN, {"model": model}, training, store)
    inputs = {"model": model, SAE: given_sae(store, trained.id)}
    judging = SaeQualityConfig(window=WINDOW, dictionary_size=8, dictionary_steps=2, kl_positions=64, split="all")
    found = [trained, run_once(SAE_QUALITY, inputs, judging, store)]
    found.append(run_once(LATENT_EXAMPLES, inputs, LatentExamplesConfig(window=WINDOW, n_sample=256), store))
    if place == HEADS:
        found.append(run_once(LATENT_ATTRIBUTION, inputs, LatentAttributionConfig(window=WINDOW, n_latents=8, examples=3), store))
    return found


def smollm2(n_tokens: int = 512) -> Any:
    """The bundled model with half a thousand tokens, or as few as are asked for."""
    return open_subject("smollm2", "python-docs", n_tokens=n_tokens, window=32)


def make_smollm2(store: Store, model: Any, place: str) -> list[RunInfo]:
    """A small SAE of the bundled model: trained, judged and looked into."""
    training = SaeTrainConfig(place=place, n_latents=64, k=8, n_samples=4096, batch=128, window=32)
    trained = run_once(SAE_TRAIN, {"model": model}, training, store)
    inputs = {"model": model, SAE: given_sae(store, trained.id)}
    judging = SaeQualityConfig(window=32, baselines=False, dictionary_size=0, kl_positions=0, split="all")
    judged = run_once(SAE_QUALITY, inputs, judging, store)
    return [trained, judged, run_once(LATENT_EXAMPLES, inputs, LatentExamplesConfig(window=32, partners=0), store)]


def make_doubled(store: Store, folder: Path, seed: int = 0) -> RunInfo:
    """`latent_examples` of an SAE from a folder, whose first two latents write in the same direction."""
    from sae_lens.saes.sae import SAEMetadata

    sae = made("topk", d_in=16, d_sae=N_LATENTS)
    with torch.no_grad():
        sae.W_dec[1] = 2 * sae.W_dec[0]
    sae.cfg.metadata = SAEMetadata(hook_name=RESIDUAL, context_size=WINDOW)
    sae.save_model(folder)
    inputs = {"model": subject(seed=seed), SAE: open_dictionary(folder)}
    return run_once(LATENT_EXAMPLES, inputs, LatentExamplesConfig(window=WINDOW, n_sample=64), store)


def make_superposed(store: Store) -> RunInfo:
    """An SAE of a model whose features are known: sparse sums of more features than it has dimensions."""
    model = subject_from(superposed.Superposed(), name="superposed", data=superposed.ids(400))
    settings = SaeTrainConfig(n_latents=48, k=3, n_samples=60_000, batch=256, exclude_first=False, learning_rate=5e-3)
    return run_once(SAE_TRAIN, {"model": model}, settings, store)
