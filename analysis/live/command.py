"""``python -m analysis live``: be the live model of a store. Pages start it; a person may, too."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from analysis.live.places import USUAL_DATA


def add_live(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command."""
    words = "hold a model ready for pages that read a text of your own with it"
    one = commands.add_parser("live", help=words, description=words)
    one.add_argument("--model", required=True, help="as in run --model")
    one.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    one.add_argument("--idle", type=float, default=600.0, metavar="S", help="leave after so many seconds without a question (default: 600)")
    one.add_argument("--request", type=float, default=60.0, metavar="S", help="give a question up after so many seconds (default: 60)")
    one.add_argument(
        "--threads", type=int, default=None, metavar="N", help="compute with so many (default: one less than there are, at most 4)"
    )
    one.add_argument("--data", default=USUAL_DATA, help="for models that read no text: what they read, as in run --data")
    one.add_argument("--weights", metavar="FINGERPRINT", help="leave unless the weights are these")
    one.add_argument("--tokenizer", metavar="FINGERPRINT", help="leave unless the tokenizer is this")
    add_store(one)
    one.set_defaults(command=live)


def live(options: argparse.Namespace) -> int:
    """Be the worker."""
    from analysis.live.client import threads
    from analysis.live.worker import Settings, work

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wanted = {"weights": options.weights, "tokenizer": options.tokenizer}
    settings = Settings(
        store=str(options.store.resolve()),
        model=options.model,
        device=options.device,
        idle_s=options.idle,
        request_s=options.request,
        threads=options.threads or threads(),
        data=options.data,
        fingerprints={what: fingerprint for what, fingerprint in wanted.items() if fingerprint},
    )
    return work(settings)
