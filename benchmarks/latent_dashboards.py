"""What single latents stand for: `latent_examples` beside SAEDashboard, same model, SAE, windows; seconds and peak memory of each.

SAEDashboard's side is `SaeVisRunner` with its own defaults on all latents of the SAE, on TransformerLens' bridge around the model; its
pages are not written, only the data for them made. Ours is a whole run: counts, examples, promoted tokens, neighbours, neurons and heads
with what chance gives, sealed into the store; with ``--bare`` without the last two, which SAEDashboard has for the place itself alone. Each
arm is a process of its own, so that its peak memory is its own; models are loaded before the clock starts, and memory counts from the start
of the process. The arms take turns; the median of the rounds' ratios is printed.

SAEDashboard wants older libraries than this project, so it lives in an environment of its own, whose interpreter is named:

    python -m benchmarks.latent_dashboards [--sae FOLDER] [--dashboard .dash/bin/python] [--tokens 16384] [--rounds 3] [--bare]

Without an SAE a small one is trained first, outside of what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import Result, emit, ratios, spread

WINDOW = 128
ROOT = Path(__file__).resolve().parent.parent


def opened(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model with its windows, and the SAE."""
    from analysis.latents.dictionary import open_dictionary
    from analysis.models import open_subject

    subject = open_subject(options.model, "python-docs", n_tokens=options.tokens, window=WINDOW)
    subject.model.eval()
    return subject, open_dictionary(options.sae)


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds by the clock, and of processor time: the latter tells on a machine that others use, too."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - start, "busy": time.process_time() - busy}


def ours(options: argparse.Namespace) -> dict[str, float]:
    """Time of a whole run."""
    from analysis.latents.latent_examples import LATENT_EXAMPLES, LatentExamplesConfig
    from analysis.runner import run
    from store import Store

    subject, dictionary = opened(options)
    config = LatentExamplesConfig(n_tokens=options.tokens, window=WINDOW, n_sample=0 if options.bare else 1024)
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: run(LATENT_EXAMPLES, {"model": subject, "sae": dictionary}, config, Store(folder)))


def theirs(options: argparse.Namespace) -> dict[str, float]:
    """Time of SAEDashboard's runner."""
    import torch
    from sae_dashboard.sae_vis_data import SaeVisConfig  # pyright: ignore[reportMissingImports]
    from sae_dashboard.sae_vis_runner import SaeVisRunner  # pyright: ignore[reportMissingImports]
    from transformer_lens.model_bridge.sources.transformers import boot

    subject, dictionary = opened(options)
    named = subject.source if subject.source.count("/") == 1 else "HuggingFaceTB/SmolLM2-135M-Instruct"
    bridge: Any = boot(named, hf_model=subject.model, tokenizer=subject.tokenizer)
    bridge.enable_compatibility_mode(no_processing=True)
    tokens = torch.from_numpy(subject.data.token_ids)
    sae = dictionary.sae
    told = SaeVisConfig(hook_point=dictionary.hook_name, features=range(dictionary.d_sae), device="cpu")
    return timed(lambda: SaeVisRunner(told).run(encoder=sae, model=bridge, tokens=tokens))


ARMS = {"ours": ours, "theirs": theirs}


def measured(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """One arm in a process of its own: seconds, processor seconds, and its peak memory in bytes."""
    python = options.dashboard if arm == "theirs" else sys.executable
    asked = [
        "--arm",
        arm,
        "--model",
        options.model,
        "--sae",
        options.sae,
        "--tokens",
        str(options.tokens),
        *(["--bare"] if options.bare else []),
    ]
    done = subprocess.run(
        [python, "-m", "benchmarks.latent_dashboards", *asked],
        cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print seconds and peak memory of both, and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--sae", default="")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--dashboard", default="")
    parser.add_argument("--arm", choices=list(ARMS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.arm:
        print(json.dumps(ARMS[options.arm](options) | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.sae = options.sae or trained(options.model, folder)
        compare(options)


def trained(model: str, folder: str) -> str:
    """A small SAE behind the middle block of the model."""
    from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
    from analysis.models import open_subject
    from analysis.runner import run
    from store import Store

    config = SaeTrainConfig(n_tokens=8192, n_samples=8192, held_out_tokens=512)
    subject = open_subject(model, "python-docs", n_tokens=config.n_tokens, window=config.window)
    store = Store(folder)
    made = store.files(run(SAE_TRAIN, {"model": subject}, config, store))
    assert made is not None, "an SAE is a file"
    return str(made / "sae")


def compare(options: argparse.Namespace) -> None:
    """The arms in turns, once what is kept on disk is compiled."""
    measured("ours", argparse.Namespace(**(vars(options) | {"tokens": 2 * WINDOW})))
    arms = ["ours", *(["theirs"] if options.dashboard else [])]
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for number in range(options.rounds):
        for arm in arms[:: 1 if number % 2 else -1]:
            found[arm].append(measured(arm, options))
            one = found[arm][-1]
            print(f"{arm:7} {one['seconds']:8.1f} s ({one['busy']:.1f} s of processor), peak {one['peak'] / 1e6:,.0f} MB", flush=True)
    if "theirs" in found:
        for what in ("seconds", "busy", "peak"):
            found_ratios = [their[what] / our[what] for our, their in zip(found["ours"], found["theirs"], strict=True)]
            print(f"theirs over ours, {what}: {statistics.median(found_ratios):.2f} x ({min(found_ratios):.2f} to {max(found_ratios):.2f})")
    _emit(options, found)


def _emit(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    """Ours beside theirs, or alone where there is no interpreter that has theirs."""
    held = {arm: {what: [one[what] for one in rounds] for what in ("seconds", "busy", "peak")} for arm, rounds in found.items()}
    mine, other = held["ours"], held.get("theirs")
    what = f"what every latent of an SAE stands for: {options.model}, {options.tokens:,} tokens"
    arm = "a run without neurons and heads" if options.bare else "a whole run, sealed"
    wall = ratios(mine["seconds"], other["seconds"]) if other else None
    emit(
        Result(
            what, arm, beside="SAEDashboard" if other else "", peer=other is not None, rounds=options.rounds,
            seconds=spread(mine["seconds"])[0], beside_seconds=spread(other["seconds"])[0] if other else None,
            wall=wall, processor=ratios(mine["busy"], other["busy"]) if other else None,
            peak_mb=spread(mine["peak"])[0] / 1e6, beside_peak_mb=spread(other["peak"])[0] / 1e6 if other else None,
            target="less time than SAEDashboard" if wall else "", met=wall[0] < 1 if wall else None,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
