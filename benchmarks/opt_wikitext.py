"""OPT-125M on WikiText-2, to be held against published perplexities: dense 27.66, magnitude 50 % per matrix 193.4, 2 of 4 341.5.

The published protocol: the raw test set joined by empty lines, tokenised as one text (OPT puts ``</s>`` before it), cut into windows of
2,048 tokens that do not overlap, what is left over dropped; the mean over all positions but the first of each window, in float32.
docs/benchmarks-sensitivity.md says how to get model and text.

    python -m benchmarks.opt_wikitext opt-125m wikitext2-test.txt [--window 2048] [--batch-tokens 2048] [--windows 0]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from analysis.interventions.measuring import LOSS, Evaluation
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.structures import n_of_m
from analysis.models import TextWindows, open_subject
from analysis.tasks import choose_task

PUBLISHED = {"dense": 27.66, "magnitude 50 % per matrix": 193.4, "magnitude 2 of 4": 341.5}
"""SLiM, arXiv 2410.09615, pruning-only table."""


def windows(tokenizer: Any, text: str, window: int, most: int) -> TextWindows:
    """The whole text in windows as published."""
    ids = np.asarray(tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)
    n = len(ids) // window
    return TextWindows.from_ids(ids[: n * window].reshape(n, window)[: most or n], name="WikiText-2 test")


def perplexity(evaluation: Evaluation) -> float:
    """exp of the mean loss per position."""
    losses = evaluation.measure()[LOSS]
    return math.exp(losses.total.sum() / losses.n.sum()) if not losses.n_endless.any() else math.inf


def main() -> None:
    """Print each perplexity beside the published one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a folder, or a hub id")
    parser.add_argument("text", type=Path, help="the raw test set as one file")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=0, help="only so many, which gives other numbers; 0 for all")
    options = parser.parse_args()
    subject = open_subject(options.model)
    subject.data = windows(subject.tokenizer, options.text.read_text(encoding="utf-8"), options.window, options.windows)
    task = choose_task(subject, "causal-lm", split="all")
    evaluation = Evaluation(subject.model, task, task.batch_size(options.batch_tokens))
    print(f"{subject.label}: {len(subject.data.token_ids)} windows of {options.window} tokens")
    half = {"magnitude 50 % per matrix": WeightPruning(scope="per_matrix"), "magnitude 2 of 4": WeightPruning(structure=n_of_m(2, 4))}
    found = {"dense": perplexity(evaluation)}
    for name, pruning in half.items():
        with pruning.apply(subject, 0.5) as applied:
            found[name] = perplexity(evaluation)
            print(f"  {name}: {applied.achieved:.4f} of {applied.denominator}", flush=True)
    for name, value in found.items():
        print(f"  {name:28} {value:10.2f}, published {PUBLISHED[name]:g}")


if __name__ == "__main__":
    main()
