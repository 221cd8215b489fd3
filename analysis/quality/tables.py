"""Tables of `task_loss`."""

from __future__ import annotations

from analysis.spec import Column, Table

_N = (0, 1e15)
_ANY = (-1e308, 1e308)
_OWN = "NULL for a loss that came with the model"
_LOSS = "NULL where a position's loss is infinite or no number"

EXAMPLES = Table(
    "example_losses",
    "Every example (a text window, an image, a row) with its loss: what paired differences are made of.",
    ("example",),
    (
        Column("example", "int", "Number of the example in the data, whatever the split", range=_N),
        Column("document", "int", "Document it comes from, from 0", range=_N),
        Column("n_tokens", "int", "Positions scored: tokens, or 1 for a class", unit="positions", range=_N),
        Column("loss_sum", "float", f"Sum of the loss over those positions; {_LOSS}", unit="nats", range=_ANY, optional=True),
        Column(
            "n_correct",
            "int",
            f"Positions where the model's first choice was the answer; {_OWN}",
            unit="positions",
            range=_N,
            optional=True,
        ),
    ),
)
LOSSES = Table(
    "losses",
    "Every document with its loss.",
    ("document",),
    (
        Column("document", "int", "Document, from 0", range=_N),
        Column("name", "str", "Its name in the data"),
        Column("n_tokens", "int", "Positions scored: tokens, or 1 per example for a class", unit="positions", range=_N),
        Column("loss_sum", "float", f"Sum of the loss over those positions; {_LOSS}", unit="nats", range=_ANY, optional=True),
        Column("loss", "float", f"Mean per position; {_LOSS}, or none was scored", unit="nats per position", range=_ANY, optional=True),
        Column("n_correct", "int", f"Positions where the model's first choice was the answer; {_OWN}", unit="positions", range=_N, optional=True),
        Column("accuracy", "float", "n_correct / n_tokens; NULL where none was scored, and as n_correct", unit="share of positions", range=(0, 1), optional=True),
    ),
)  # fmt: skip
_INTERVAL = "end of its 95 % interval over documents; NULL for one document"
SUMMARY = Table(
    "loss_summary",
    "The whole run in one row.",
    ("task", "split"),
    (
        Column("task", "str", "causal-lm, masked-lm, seq2seq, classification, or own: the loss that came with the model"),
        Column("split", "str", "Which documents were scored: calibration, choice, report or all"),
        Column("unit", "str", "Unit of the loss"),
        Column("n_documents", "int", "Documents with a scored position", unit="documents", range=_N),
        Column("n_examples", "int", "Examples", range=_N),
        Column("n_tokens", "int", "Positions scored", unit="positions", range=_N),
        Column("loss", "float", f"Mean per position, over all; {_LOSS}", unit="nats per position", range=_ANY, optional=True, evidence="O"),
        Column("loss_low", "float", f"Lower {_INTERVAL}, and as loss", unit="nats per position", optional=True),
        Column("loss_high", "float", f"Upper {_INTERVAL}, and as loss", unit="nats per position", optional=True),
        Column("loss_stderr", "float", "Standard error over documents; NULL for one document, and as loss", unit="nats per position", range=(0, 1e308), optional=True),
        Column("perplexity", "float", "exp of the loss; NULL for classes, for a loss that came with the model, beyond 1e300, and as loss; note says why", range=(1, 1e300), optional=True),
        Column("perplexity_low", "float", "exp of loss_low; NULL as perplexity or for one document", range=(0, 1e300), optional=True),
        Column("perplexity_high", "float", "exp of loss_high; NULL as perplexity or for one document, and beyond 1e300", range=(0, 1e300), optional=True),
        Column("accuracy", "float", f"Share of positions where the first choice was the answer; {_OWN}", unit="share of positions", range=(0, 1), optional=True),
        Column("accuracy_low", "float", f"Lower {_INTERVAL}", unit="share of positions", range=(0, 1), optional=True),
        Column("accuracy_high", "float", f"Upper {_INTERVAL}", unit="share of positions", range=(0, 1), optional=True),
        Column("note", "str", "What limits these numbers; NULL where nothing does", optional=True),
    ),
    summary=True,
)  # fmt: skip
TABLES = (EXAMPLES, LOSSES, SUMMARY)
