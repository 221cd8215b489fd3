"""Where does each head look in text that one can read?

1. Find the attention of the model by running it once.
2. Per window, a unit each: a forward pass in which, of every query kept, the keys with the largest weights are stored with the mass
   that they hold, and of every head a picture of its whole pattern in few cells.
3. For each head the measure by which it exceeds the other heads, and the windows in the order of it.

Sources: METHODS C0 (top-k mass), C17; our own operational choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.attention.example_figures import draw_kept, draw_pictures
from analysis.attention.example_tables import EXAMPLE_TABLES
from analysis.attention.needs import needs_inputs
from analysis.spec import Analysis, Figure, Source, setting


@dataclass(frozen=True, kw_only=True)
class HeadExamplesConfig:
    """Settings of `head_examples`."""

    n_tokens: int = setting(
        512, help="Tokens to keep: n_tokens / window windows (of other inputs examples) of as many documents", unit="tokens", ge=1, le=2**17
    )
    window: int = setting(128, help="Length of a text window; windows never cross documents", unit="tokens", ge=2, le=4096)
    top_k: int = setting(8, help="Keys kept of every query, those with the largest weights", unit="keys", ge=1, le=256)
    queries: int = setting(256, help="Queries of a window whose keys are kept, evenly over it", unit="queries", ge=1, le=4096)
    cells: int = setting(64, help="Rows and columns of the picture of a pattern, at most", unit="cells", ge=1, le=256)
    seed: int = setting(0, help="Seed of the choice of windows", ge=0, le=2**31 - 1)
    block: int = setting(2**19, help="Logits held at a time: speed and memory, no number", unit="logits", ge=2**10, le=2**30, result=False)


def run(config: HeadExamplesConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: a unit per window, then the order of windows."""
    from analysis.attention.examples import ExampleObserver, chosen_windows
    from analysis.attention.observing import attention_places
    from analysis.capture.attention_session import capture_attention

    subject = inputs["model"]
    places = attention_places(subject)
    windows = chosen_windows(subject.data, max(1, config.n_tokens // config.window), config.seed)
    observer = ExampleObserver(subject, places, k=config.top_k, cells=config.cells, queries=config.queries, block=config.block)
    sites = list({p.site.name: p.site for p in places}.values())
    with capture_attention(subject.model, sites, observer) as session:
        for name in work.units([str(w) for w in windows], what="keeping windows"):
            yield from _window(int(name), subject, places, observer, session, work)
    for _ in work.units(["order"], what="ordering windows"):
        yield from _ordered(subject, places, work)
    work.facts |= {
        "n_windows": len(windows),
        "n_documents": len({int(d) for d in subject.data.document[windows]}),
        "n_windows_to_choose_from": int(subject.data.n_windows),
        "places": len(places),
        "heads": sum(p.heads for p in places),
        "left_out": "padding; queries without a valid key",
    }


def _window(
    window: int, subject: Any, places: list[Any], observer: Any, session: Any, work: Any
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One window: a forward pass and its rows."""
    import numpy as np

    from analysis.attention import examples
    from analysis.attention.observing import key_of
    from analysis.capture import Frame

    batch, _ = next(iter(subject.data.only(np.array([window])).batches(1, subject.device)))
    frame = Frame.of(batch)
    marked = subject.data.special
    observer.begin(batch, frame, None if marked is None else marked[window])
    session.run(batch, frame)
    yield "head_windows", examples.window_rows(window, batch, frame, subject)
    for place in places:
        if (looked := observer.found.get(key_of(place))) is not None:
            yield "head_examples", examples.example_rows(place, window, looked, observer.taken.get(key_of(place)))
            yield "head_maps", examples.map_rows(place, window, looked, observer.shapes[key_of(place)])
    work.save_state(examples.state_of(places, observer.found))


def _ordered(subject: Any, places: list[Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """In which windows each head is at work; and the places."""
    from analysis.attention import examples
    from analysis.capture import Frame
    from analysis.stats.attention_examples import SHOWN

    states = {int(name): state for name, state in work.states("keeping windows")}
    batch, _ = next(iter(subject.data.batches(1, subject.device)))
    frame = Frame.of(batch)
    for i, rows in examples.ranked(places, states):
        place = places[i]
        yield "head_at_work", rows
        masses = [m for state in states.values() for m in state[str(i)][:, len(SHOWN)].tolist() if m == m]
        shape = frame.shape("input")
        keys = shape[1] if place.crosses and shape is not None else -1
        yield (
            "example_places",
            examples.place_columns(place, 1)
            | {
                "n_heads": [place.heads],
                "causal": [place.causal],
                "crosses": [place.crosses],
                "query_stream": [place.site.stream],
                "key_stream": [examples.key_stream(place, frame, keys)],
                "mass_kept": [min(1.0, sum(masses) / len(masses)) if masses else None],
            },
        )


HEAD_EXAMPLES = Analysis(
    slug="head_examples",
    title="Attention in stored windows",
    question="Where does each head look in text that one can read?",
    version=1,
    kind="dynamic",
    sources=(
        Source("Top-k attention of stored windows, pictures of patterns, windows where a head is at work", "METHODS C0; our own", "O"),
        Source("What Does BERT Look At?", "Clark et al. 2019", "K"),
    ),
    config=HeadExamplesConfig,
    tables=EXAMPLE_TABLES,
    run=run,
    figures=(
        Figure("kept", "Attention on the kept keys", "head_at_work", draw_kept),
        Figure("pictures", "Patterns of all heads", "head_maps", draw_pictures),
    ),
    needs=needs_inputs("head_examples", "shows where heads look"),
)
