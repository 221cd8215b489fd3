"""How well does the model do on this data?

1. Choose the task from the model and the data, or take the one asked for; choose the split.
2. Per unit of examples: forward passes, and the loss of every position summed over its example.
3. Sum over documents; the mean per position and its interval over documents; perplexity; accuracy.

Sources: cross-entropy and perplexity are standard definitions; masking after BERT (Devlin et al. 2019), but with the mask token
always; the interval is METHODS' ratio of sums over documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.quality.tables import TABLES
from analysis.spec import Analysis, Figure, Headline, Source, Summaries, UserError, setting
from analysis.tasks import SPLITS, TASKS, Losses, choose_task, mean_accuracy, mean_loss, possible_tasks, why_no_classes
from figures.spec import Axis, FigureSpec

UNIT_TOKENS = 8192
"""Tokens per unit of work: what a killed run may lose."""
UNIT_EXAMPLES = 256
"""The same, of examples that are not tokens."""
LARGEST = 1e300
"""Perplexities beyond are not written as numbers."""
BINS = 30


@dataclass(frozen=True, kw_only=True)
class TaskLossConfig:
    """Settings of `task_loss`."""

    n_tokens: int = setting(
        16384, help="Tokens to read; examples that are not text count as one window each", unit="tokens", ge=1, le=10**9
    )
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=131072)
    seed: int = setting(0, help="Seed of every random choice: windows, splits and masked tokens", ge=0, le=2**31 - 1)
    task: str = setting("auto", help="What the model is asked to do; auto chooses from the model and the data", choices=TASKS)
    split: str = setting("all", help="Which documents are scored; nothing is fitted here, so all of them may be", choices=SPLITS)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=1, le=2**22, result=False
    )


def needs(subject: Any) -> str | None:
    """A model with a task that has right answers in its data."""
    if subject.data is None:
        return f"{subject.label} has no inputs, and task_loss measures how well it does on them; give data with --data."
    return None if len(possible_tasks(subject)) > 1 else _no_answers(subject)


def _no_answers(subject: Any) -> str:
    others = [name for name in possible_tasks(subject) if name != "divergence"]
    remedy = f"set task={others[0]} if that is what it does" if others else "give data with labels, or a model with its head"
    classes = why_no_classes(subject)
    why = "no language-model head" + (f"; no classification: {classes}" if classes else "")
    return (
        f"task_loss needs right answers, and {subject.label} on {subject.data.name} has none that are known ({why}), "
        f"and its divergence from itself is 0; {remedy}."
    )


def run(config: TaskLossConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: per example in each unit, then per document and the summary."""
    subject = inputs["model"]
    task = choose_task(subject, config.task, split=config.split, seed=config.seed)
    if task.is_divergence:
        raise UserError(_no_answers(subject))
    work.facts |= task.facts
    size = UNIT_EXAMPLES if task.data.token_ids is None else UNIT_TOKENS // task.tokens_per_example
    parts = {f"{p.start}-{p.stop}": p for p in task.data.parts(max(1, size))}
    batch = task.batch_size(config.batch_tokens)
    for name in work.units(list(parts), what="scoring examples"):
        losses = task.losses(subject.model, batch, within=parts[name], report=work.report)
        work.save_state(losses.arrays())
        yield "example_losses", _example_rows(task, losses)
    losses = Losses.joined([Losses.of_arrays(state) for _, state in work.states("scoring examples")])
    work.facts |= {"n_tokens": int(losses.n.sum()), "n_scored": int(losses.n.sum())}
    yield "losses", _document_rows(task, losses.by_document(), task.data.documents)
    yield "loss_summary", _summary_row(task, losses)


def _example_rows(task: Any, losses: Losses) -> dict[str, Any]:
    return {
        "example": losses.example,
        "document": losses.document,
        "n_tokens": losses.n,
        "loss_sum": _or_none(losses.total, losses.n_endless == 0),
        "n_correct": losses.n_right if task.knows_right else [None] * len(losses),
    }


def _document_rows(task: Any, found: Losses, names: list[str]) -> dict[str, Any]:
    scored = (found.n > 0) & (found.n_endless == 0)
    return {
        "document": found.document,
        "name": [names[i] for i in found.document],
        "n_tokens": found.n,
        "loss_sum": _or_none(found.total, found.n_endless == 0),
        "loss": _or_none(found.total / found.n.clip(min=1), scored),
        "n_correct": found.n_right if task.knows_right else [None] * len(found),
        "accuracy": _or_none(found.n_right / found.n.clip(min=1), (found.n > 0) & task.knows_right),
    }


def _or_none(values: Any, has: Any) -> list[float | None]:
    return [float(value) if ok else None for value, ok in zip(values, has)]


def _summary_row(task: Any, losses: Losses) -> dict[str, Any]:
    """One row: means over all positions with their intervals over documents."""
    loss, right = mean_loss(losses), mean_accuracy(losses)
    if right is None:
        raise UserError(f"the data must hold a position to be scored, got none for {task.name}; give a longer text or more examples.")
    notes = [] if loss is None or not loss.note else [loss.note]
    if loss is None:
        notes.append(f"no mean loss: that of {int(losses.n_endless.sum()):,} positions is infinite or no number")
    low, mean, high = (None, None, None) if loss is None else (loss.low, loss.value, loss.high)
    tokens = task.name not in ("classification", "own")
    low_right, high_right = (right.low, right.high) if task.knows_right else (None, None)
    perplexities = [_perplexity(value) if tokens else None for value in (mean, low, high)]
    if tokens and mean is not None and perplexities[0] is None:
        notes.append(f"no perplexity: exp({mean:.6g}) is beyond {LARGEST:g}")
    row = {
        "task": task.name,
        "split": task.split,
        "unit": task.unit,
        "n_documents": right.n_documents,
        "n_examples": len(losses),
        "n_tokens": int(losses.n.sum()),
        "loss": mean,
        "loss_low": low,
        "loss_high": high,
        "loss_stderr": None if loss is None else loss.standard_error,
        "perplexity": perplexities[0],
        "perplexity_low": perplexities[1],
        "perplexity_high": perplexities[2],
        "accuracy": right.value if task.knows_right else None,
        "accuracy_low": None if low_right is None else max(0.0, low_right),
        "accuracy_high": None if high_right is None else min(1.0, high_right),
        "note": "; ".join(notes) or None,
    }
    return {name: [value] for name, value in row.items()}


def _perplexity(loss: float | None) -> float | None:
    """exp(loss), None beyond `LARGEST`."""
    return None if loss is None or loss > math.log(LARGEST) else math.exp(loss)


# ---------------------------------------------------------------------------------------------------------------------
# Figures and headlines


def draw_losses(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Histogram of the documents' losses, with the mean and its interval in words."""
    import numpy as np
    import pandas as pd

    from analysis.stats.intervals import mean_over_documents

    facts, scored = provenance["facts"], rows.dropna(subset=["loss"])
    left_out = len(rows) - len(scored)
    values = scored["loss"].to_numpy(float)
    counts, edges = np.histogram(values, bins=min(BINS, max(1, len(values)))) if len(values) else (np.zeros(1, int), np.array([0.0, 1.0]))
    if len(values) and not left_out:
        mean = mean_over_documents(scored["loss_sum"].to_numpy(float), scored["n_tokens"].to_numpy(float))
        interval = "one document allows no interval" if mean.low is None else f"95 % interval {mean.low:.4g} to {mean.high:.4g}"
        average = f"mean {mean.value:.4g} {facts['unit']}, {interval}"
    else:
        average = f"{left_out:,} documents have no finite loss and are not drawn"
    what = "examples" if facts["task"] in ("classification", "own") else "scored tokens"
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1], "high": edges[1:], "documents": counts}),
        x=Axis("low", "Loss of a document", unit=facts["unit"]),
        x_end="high",
        y=Axis("documents", "Documents"),
        title="How well the model does, document by document",
        sentence=f"Histogram of {provenance['model_label']}'s loss over {len(scored):,} documents of {provenance['data']} "
        f"({int(scored['n_tokens'].sum()):,} {what}): {average}.",
        notes=(f"Loss: {facts['loss']}.", f"Split: {facts['split']}."),
    )


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """How often the first choice is right."""
    for row in summaries.get("loss_summary", ()):
        if row["accuracy"] is None:
            continue
        what = {"classification": "examples", "masked-lm": "masked tokens"}.get(row["task"], "tokens")
        over = f"Of {row['n_tokens']:,} {what} in {row['n_documents']:,} documents ({row['split']} of the data)."
        return (Headline(f"{what.capitalize()} guessed right", row["accuracy"], over),)
    return ()


TASK_LOSS = Analysis(
    slug="task_loss",
    title="Task loss",
    question="How well does the model do on this data?",
    version=1,
    kind="dynamic",
    sources=(
        Source(
            "Loss, perplexity and accuracy", "cross-entropy in nats, exp of its mean per token, share of first choices that are right", "O"
        ),
        Source("BERT: Pre-training of Deep Bidirectional Transformers", "Devlin et al., NAACL 2019, arXiv 1810.04805: 15 % masked", "K"),
        Source("Interval of a ratio of sums over documents", "Cochran 1977, Sampling Techniques, section 6.3", "K"),
    ),
    config=TaskLossConfig,
    tables=TABLES,
    run=run,
    figures=(Figure("losses", "Loss per document", "losses", draw_losses),),
    needs=needs,
    headlines=headlines,
)
