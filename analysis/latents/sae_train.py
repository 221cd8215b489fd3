"""Which few directions make up what flows at a place: a sparse autoencoder is trained on it.

1. Split the documents: some train, the others judge. Find the place.
2. Fill a bounded buffer with activations, read by forward passes that end at the place; train on it in random order with sae-lens'
   own trainer, as often as the steps ask for; fill it anew.
3. Save the SAE in sae-lens' own format among the files of the run.
4. Judge it on held-out documents: explained variance, L0, dead latents; and against the model's features where they are known.

Sources: METHODS D1 (architectures and losses, by sae-lens), D2 and D3 (what it is judged by).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.latents.architectures import ARCHITECTURES, n_latents_of
from analysis.latents.train_figures import draw_losses, draw_recovery, draw_shares, draw_sparsity, headlines
from analysis.latents.train_tables import TABLES
from analysis.spec import Analysis, Figure, Source, UserError, setting


@dataclass(frozen=True, kw_only=True)
class SaeTrainConfig:
    """Settings of `sae_train`."""

    place: str = setting("", help="Where the SAE reads, by hook name (blocks.12.hook_resid_post) or ours; empty: behind the middle block")
    architecture: str = setting("topk", help="Kind of SAE, by sae-lens' name", choices=ARCHITECTURES)
    expansion: float = setting(2.0, help="Latents per dimension of the place", unit="latents per dimension", ge=0.01, le=1024.0)
    n_latents: int = setting(0, help="Number of latents; 0 for expansion times the width of the place", unit="latents", ge=0, le=2**24)
    k: int = setting(32, help="Active latents per token, for topk, batchtopk and matryoshka_batchtopk", unit="latents", ge=1, le=65536)
    l1_coefficient: float = setting(1.0, help="Weight of the sum of latents in the loss, for standard and gated", ge=0.0, le=1e6)
    l0_coefficient: float = setting(1.0, help="Weight of the number of active latents in the loss, for jumprelu", ge=0.0, le=1e6)
    n_tokens: int = setting(
        65536, help="Tokens to read, of as many documents as possible; about half of them are of training documents", unit="tokens",
        ge=1, le=10**10,
    )  # fmt: skip
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    held_out_tokens: int = setting(4096, help="Tokens of held-out documents the SAE is judged on, at most", unit="tokens", ge=1, le=10**9)
    n_samples: int = setting(
        262144,
        help="Activations to train on; each is used several times where fewer were read",
        unit="activations",
        ge=1,
        le=10**12,
    )
    batch: int = setting(1024, help="Activations per step of training", unit="activations", ge=2, le=2**20)
    buffer_tokens: int = setting(65536, help="Activations held and shuffled at a time", unit="tokens", ge=16, le=10**8)
    learning_rate: float = setting(1e-3, help="Largest learning rate of Adam", ge=1e-9, le=10.0)
    warm_up: float = setting(0.05, help="Share of the steps in which learning rate and sparsity weight rise", unit="share", ge=0.0, le=0.5)
    decay: float = setting(0.2, help="Share of the steps, the last ones, in which the learning rate falls", unit="share", ge=0.0, le=0.5)
    dead_window: int = setting(100, help="Steps without activation after which a latent counts as dead", unit="steps", ge=1, le=10**7)
    normalise: bool = setting(True, help="Scale inputs to a mean norm of sqrt(width) while training; undone in what is saved")
    centre: bool = setting(True, help="Start the decoder's bias at the mean of the first activations instead of at 0")
    exclude_first: bool = setting(True, help="Leave out position 0, which in many models is an attention sink of huge norm")
    exclude_special: bool = setting(True, help="Leave out special tokens")
    seed: int = setting(0, help="Seed of every random choice: windows, documents, weights, order", ge=0, le=2**31 - 1)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=2, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """A model to run and inputs to run it on; which places it has shows when it is run once."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and sae_train learns from what flows when it reads some; give a text with --data."
    return None


def run(config: SaeTrainConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables; the SAE itself goes into the files of the run, as ``sae``."""
    from analysis.latents.buffering import plan_of, rows_per_window
    from analysis.latents.course import train, working_folders
    from analysis.latents.judging import document_rows, judge

    subject = inputs["model"]
    place = chosen_place(subject, config.place)
    n_latents = n_latents_of(config, place.width)
    plan = plan_of(subject.data, config, rows_per_window(subject, place, subject.data))
    work.facts |= {"hook_name": place.hook_name, "place": place.name, "layer": place.layer, "kind": place.kind, "n_latents": n_latents}
    yield from train(config, subject, place, plan, work)
    judge(config, subject, place, plan, work)
    for folder in working_folders(work.files):
        shutil.rmtree(folder, ignore_errors=True)
    yield "sae_documents", document_rows(subject.data, plan)
    yield from _results(config, subject, place, plan, work)


def chosen_place(subject: Any, name: str) -> Any:
    """The place of that name; without one, the residual stream behind the middle block, or the middle one of all places."""
    from analysis.latents.places import place_named, places

    batch = next(iter(subject.data.batches(1, subject.device)))[0]
    found = places(subject.model, batch, names=subject.hook_names())
    if name:
        return place_named(found, name)
    if not found:
        raise UserError(f"an SAE needs a place in the model to read, got {subject.label}, in which none was found; try another model.")
    # Behind the middle block: of n streams behind blocks the one with as many before it as after, the later of two.
    streams = [place for place in found if place.kind == "residual" and "resid_pre" not in place.hook_name] or list(found)
    return streams[len(streams) // 2]


def _results(config: SaeTrainConfig, subject: Any, place: Any, plan: Any, work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What came out, and what it is worth."""
    from analysis.latents.course import explained_in_training, tokens_read
    from analysis.latents.judging import judged, nearest_latents, open_saved

    folder = work.files / "sae"
    sae = open_saved(folder, subject.device)
    cosine = None
    known = getattr(subject.model, "ground_truth_features", None)
    if known is not None and known.shape[-1] == place.width:
        cosine, latent = nearest_latents(known, sae.W_dec)
        yield "sae_features", {"feature": range(len(cosine)), "latent": latent, "cosine": cosine}
    activity, fidelity = judged(work)
    explained, l0, n_read = fidelity.fvu().one_minus(), activity.l0(), tokens_read(work)
    n_samples = max(1, config.n_samples // config.batch) * config.batch
    dead = 1 - float((activity.n_active > 0).mean())
    row = {
        "hook_name": place.hook_name, "place": place.name, "layer": place.layer, "kind": place.kind,
        "architecture": config.architecture, "saved_as": sae.cfg.architecture(), "width": place.width, "n_latents": sae.cfg.d_sae,
        "n_steps": n_samples // config.batch, "n_samples": n_samples, "n_tokens": n_read,
        "n_held_out": activity.n_tokens, "n_documents": int((fidelity.by_document("n") > 0).sum()),
        "explained_variance": explained.value, "explained_variance_low": explained.low, "explained_variance_high": explained.high,
        "explained_variance_training": explained_in_training(work), "l0": l0.value,
        "dead_share": dead, "mean_max_cosine": None if cosine is None else float(cosine.mean()),
        "file_bytes": (folder / "sae_weights.safetensors").stat().st_size,
    }  # fmt: skip
    work.facts |= _facts(config, place, plan, row, explained.why)
    yield "saes", {name: [value] for name, value in row.items()}


def _facts(config: SaeTrainConfig, place: Any, plan: Any, row: Mapping[str, Any], why: str) -> dict[str, Any]:
    """What only running can tell, and in words what the SAE is worth."""
    n_held, used = row["n_held_out"], row["n_samples"] / max(1, row["n_tokens"])
    explained = (
        "no explained variance" if row["explained_variance"] is None else f"{row['explained_variance']:.1%} of the variance explained"
    )
    if None not in (row["explained_variance"], row["explained_variance_training"]):
        explained += f" (of the last training batches {row['explained_variance_training']:.1%})"
    active = "" if row["l0"] is None else f" with {row['l0']:.1f} latents active per token"
    return {
        "n_tokens": row["n_tokens"],
        "reads_text": plan.training.token_ids is not None,
        "times_used": round(used, 2),
        "reuse": f"{row['n_tokens']:,} tokens were read and each was trained on about {used:.1f} times, from a buffer of at most "
        f"{config.buffer_tokens:,}",
        "n_fills": len(plan.fills),
        "n_training_documents": len(set(plan.training.document.tolist())),
        "n_held_out_documents": row["n_documents"],
        "left_out": [words for words, out in (("position 0", config.exclude_first), ("special tokens", config.exclude_special)) if out],
        "worth": f"on {n_held:,} tokens of {row['n_documents']:,} held-out documents: {explained}{active}; {row['dead_share']:.1%} of "
        f"{row['n_latents']:,} latents were active on none of them" + (f" ({why})" if why else ""),
        "sae": f"files/sae of this run: sae_lens.SAE.load_from_disk opens it ({row['saved_as']}, {place.hook_name})",
    }


def memory(config: SaeTrainConfig, facts: Mapping[str, Any]) -> int:
    """Bytes beside the weights: the buffer twice, the SAE with gradients and Adam's two moments, latents of one batch; 1 GB for the pass.

    The width of the place is not known before the model has run: that of the stream follows from parameters and layers (12 width^2
    each), and four times as much stands for a place inside an MLP.
    """
    layers = max(1, int(facts.get("n_layers") or 1))
    width = 4 * max(64, int((facts["n_parameters"] / (12 * layers)) ** 0.5))
    n_latents = config.n_latents or round(config.expansion * width)
    return 10**9 + 4 * (2 * config.buffer_tokens * width + 4 * 2 * width * n_latents + 6 * config.batch * n_latents)


SAE_TRAIN = Analysis(
    slug="sae_train",
    title="Train an SAE",
    question="Which few directions at a time make up what flows at a place of the model?",
    version=1,
    kind="dynamic",
    sources=(
        Source("SAELens: trainer, architectures and file format", "Bloom et al., github.com/jbloomAus/SAELens, version 6.54", "C"),
        Source("Scaling and evaluating sparse autoencoders (top-k)", "Gao et al. 2024, arXiv 2406.04093", "C"),
        Source("BatchTopK Sparse Autoencoders", "Bussmann et al. 2024, arXiv 2412.06410", "C"),
        Source("Learning Multi-Level Features with Matryoshka SAEs", "Bussmann et al. 2025, arXiv 2503.17547", "C"),
        Source("Improving Dictionary Learning with Gated SAEs", "Rajamanoharan et al. 2024, arXiv 2404.16014", "C"),
        Source("Jumping Ahead: JumpReLU SAEs", "Rajamanoharan et al. 2024, arXiv 2407.14435", "C"),
    ),
    config=SaeTrainConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("losses", "Loss while the SAE was trained", "sae_losses", draw_losses),
        Figure("shares", "Explained variance and dead latents", "sae_steps", draw_shares),
        Figure("sparsity", "Latents active on an activation", "sae_steps", draw_sparsity),
        Figure("recovery", "Known features that the SAE found", "sae_features", draw_recovery),
    ),
    needs=needs,
    memory=memory,
    headlines=headlines,
)
