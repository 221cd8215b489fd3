"""How many keys does each attention head need, where does it look, and how does that grow with context?

1. Find the attention of the model by running it once: every call, its heads, the matrix that reads what they give.
2. Per unit of windows: forward passes in which each call's logits are recomputed a block of queries at a time (or taken from the
   model's own softmax) and flow past a tally; the pattern of a whole layer is never held.
3. Merge the tallies of all units; any split gives the same result.
4. Once more on repeated random tokens, for the previous-token, duplicate-token and induction scores.
5. On two windows, what rules that keep few keys would keep, and which heads copy tokens.
6. Write rows, place by place.

Sources: METHODS C0, C1, C4, C5, C7, C9, C10, C11, C12, C14, C17, C18, C19, C20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.attention.figures import draw_first, draw_growth, draw_keys
from analysis.attention.glance import STRIPES, headlines
from analysis.attention.needs import needs_inputs
from analysis.attention.tables import TABLES
from analysis.spec import Analysis, Figure, Source, setting

if TYPE_CHECKING:
    from analysis.capture.fitting import Fitting
    from analysis.executors.assignment import Compute

UNIT_TOKENS = 8192
"""Tokens per unit of work: what a killed run may lose."""


@dataclass(frozen=True, kw_only=True)
class HeadSparsityConfig:
    """Settings of `head_sparsity`."""

    n_tokens: int = setting(16384, help="Tokens to read, sampled across as many documents as possible", unit="tokens", ge=1, le=10**9)
    window: int = setting(
        256,
        help="Length of a text window: how much context a head can look at; windows never cross documents",
        unit="tokens",
        ge=2,
        le=131072,
    )
    seed: int = setting(0, help="Seed of every random choice: windows and repeated tokens", ge=0, le=2**31 - 1)
    batch_tokens: int = setting(
        1024, help="Tokens per forward pass: speed and memory, no number", unit="tokens", ge=2, le=2**22, result=False
    )
    block: int = setting(2**19, help="Logits held at a time: speed and memory, no number", unit="logits", ge=2**10, le=2**30, result=False)


def run(config: HeadSparsityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: units of 8,192 tokens, then the repeated tokens, then the places."""
    from analysis.attention.observing import attention_places, key_of, merged
    from analysis.capture.fitting import Fitting

    subject = inputs["model"]
    places = attention_places(subject)
    parts = [f"{p.start}-{p.stop}" for p in subject.data.parts(max(1, UNIT_TOKENS // _per_window(subject)))]
    read = partial(_read, config, subject, places, Fitting.windows(config.batch_tokens, subject.data))
    for _, state in work.computed(parts, "reading windows", read):
        work.save_state(state)
    for kind, make in (("repeating tokens", _repeated), ("keeping few keys", _kept), ("copying tokens", _copied)):
        for _ in work.units(["once"], what=kind):
            work.save_state(make(subject, places, config.seed))
    more = {k: next((s for _, s in work.states(k)), {}) for k in ("repeating tokens", "keeping few keys", "copying tokens")}
    tallies = merged(places, work.states("reading windows"))
    work.facts |= _facts(subject, places, tallies, bool(more["repeating tokens"]))
    if "why" in more["copying tokens"]:
        work.facts["no_copying_score"] = str(more["copying tokens"]["why"])
    yield from _places([p for p in places if key_of(p) in tallies], places, tallies, more, work)


@contextmanager
def cells(config: HeadSparsityConfig, inputs: Mapping[str, Any]) -> Iterator[Compute]:
    """A unit of windows, by its first and the one after its last."""
    from analysis.attention.observing import attention_places
    from analysis.capture.fitting import Fitting

    subject = inputs["model"]
    yield partial(_read, config, subject, attention_places(subject), Fitting.windows(config.batch_tokens, subject.data))


def _read(config: HeadSparsityConfig, subject: Any, places: list[Any], batch: Fitting, name: str, report: Callable[[float], None]) -> Any:
    """The tallies' arrays after a unit of windows."""
    from analysis.attention.observing import HeadObserver

    first, _, end = name.partition("-")

    def state(size: int) -> Any:
        observer = HeadObserver(subject, places, config.block)
        _observe(subject, observer, size, slice(int(first), int(end)), report)
        return observer.state()

    return batch(state)


def _per_window(subject: Any) -> int:
    tokens = subject.data.token_ids
    return 1 if tokens is None else tokens.shape[1]


def _observe(subject: Any, observer: Any, batch: int, part: slice, report: Callable[[float], None]) -> None:
    from analysis.capture import Frame
    from analysis.capture.attention_session import capture_attention

    sites = list({p.site.name: p.site for p in observer.places}.values())
    with capture_attention(subject.model, sites, observer) as session:
        for inputs, windows in subject.data.batches(batch, subject.device, part):
            frame = Frame.of(inputs)
            observer.begin(windows, frame)
            session.run(inputs, frame)
            report((windows.stop - part.start) / (part.stop - part.start))


def _repeated(subject: Any, places: list[Any], seed: int) -> dict[str, Any]:
    """Scores on repeated tokens by number of the place; empty where no such text can be made."""
    from analysis.attention.observing import key_of
    from analysis.attention.repeated import prompts_of, scores

    ids = prompts_of(subject, seed)
    if ids is None:
        return {}
    found = scores(subject, places, ids)
    return {str(i): found[key_of(p)] for i, p in enumerate(places) if key_of(p) in found}


def _kept(subject: Any, places: list[Any], seed: int) -> dict[str, Any]:
    """What rules that keep few keys would keep, by number of the place."""
    from analysis.attention.observing import key_of
    from analysis.attention.policies import kept_masses

    found = kept_masses(subject, places, seed)
    return {str(i): found[key_of(p)] for i, p in enumerate(places) if key_of(p) in found}


def _copied(subject: Any, places: list[Any], seed: int) -> dict[str, Any]:
    """Copying scores [heads, 1] by number of the place; `why` holds the sentence where no place can have one."""
    import numpy as np

    from analysis.attention.copying import copying_scores
    from analysis.attention.observing import key_of

    found, why = copying_scores(subject, places, seed)
    scores = {str(i): found[key_of(p)][:, None] for i, p in enumerate(places) if key_of(p) in found}
    return scores | ({"why": np.asarray(why)} if why else {})


def _scores(names: Sequence[str], given: Any, heads: int) -> dict[str, list[float | None]]:
    """Columns of an array [heads, names]; NULL where there is none, or where it is NaN."""
    columns = [[None] * heads if given is None else given[:, i].tolist() for i in range(len(names))]
    return {name: [None if v is None or v != v else min(1.0, v) for v in values] for name, values in zip(names, columns, strict=True)}


def _places(
    seen: list[Any], places: list[Any], tallies: Mapping[Any, Any], more: Mapping[str, Any], work: Any
) -> Iterator[tuple[str, Any]]:
    from analysis.attention import results
    from analysis.attention.measures import SEEN
    from analysis.attention.observing import key_of
    from analysis.attention.policies import KEPT
    from analysis.attention.repeated import SCORE_COLUMNS

    names = {f"{p.site.name}#{p.turn}": p for p in seen}
    levels = [str(share) for share in SEEN[1:]]
    for name in work.units(list(names), what="writing places"):
        place = names[name]
        tally, number = tallies[key_of(place)], str(places.index(place))
        kept = _scores([*KEPT, *levels], more["keeping few keys"].get(number), place.heads)
        agreements = [kept["subsampled_agreement"], *(kept.pop(level) for level in levels)]
        scores = _scores(SCORE_COLUMNS, more["repeating tokens"].get(number), place.heads) | kept
        scores |= _scores(["copying_score"], more["copying tokens"].get(number), place.heads)
        yield "attention_layers", results.layer_row(place, tally)
        yield "heads", results.head_rows(place, tally, scores)
        yield "head_levels", results.level_rows(place, tally, agreements)
        yield "head_positions", results.position_rows(place, tally)
        yield "head_position_levels", results.position_level_rows(place, tally)
        yield "head_distances", results.distance_rows(place, tally)


def _facts(subject: Any, places: list[Any], tallies: Mapping[Any, Any], repeated: bool) -> dict[str, Any]:
    """What only running can tell."""
    from analysis.attention.observing import key_of, without_pattern

    first = tallies[key_of(places[0])]
    half = subject.dtype not in ("float32", "float64")
    return {
        "n_tokens": int(first.counts[0, :, 0].sum() + first.odd[0].sum()),
        "n_windows": int(subject.data.n_windows),
        "n_documents": len(first.documents),
        "places": len(places),
        "heads": sum(p.heads for p in places),
        "masked_rows": int(sum(t.odd[:, 0].max() for t in tallies.values())),
        "repeated_tokens": repeated,
        "without_pattern": without_pattern(subject.model, places) or "none: every block with attention shows its pattern",
        "precision": f"attention recomputed in float32 from queries and keys of {subject.dtype}" if half else "float32 as the model ran",
        "left_out": "queries with a single valid key, one-hot by construction; padding",
    }


HEAD_SPARSITY = Analysis(
    slug="head_sparsity",
    title="Attention sparsity per head",
    question="How many keys does each attention head need, where does it look, and how does that grow with context?",
    version=3,
    kind="dynamic",
    sources=(
        Source(
            "Keys for a share of the mass, entropy, locality, growth with context", "METHODS C0 and C4; our own operational choices", "O"
        ),
        Source("Efficient Streaming Language Models with Attention Sinks", "Xiao et al., ICLR 2024, arXiv 2309.17453", "C"),
        Source("SeerAttention", "Gao et al. 2024, arXiv 2410.13276", "C"),
        Source("H2O: Heavy-Hitter Oracle", "Zhang et al., NeurIPS 2023, arXiv 2306.14048", "C"),
        Source("Sparsifiner (keep rate, with an oracle)", "Wei et al., CVPR 2023, arXiv 2303.13755", "C"),
        Source("Double Sparsity", "Yang et al. 2024, arXiv 2408.07092", "C"),
        Source("Keyformer", "Adnan et al., MLSys 2024, arXiv 2403.09054", "C"),
        Source("The Information Pathways Hypothesis (SSA)", "Hussain et al., KDD 2023, arXiv 2306.01705", "3"),
        Source("A Mathematical Framework for Transformer Circuits (copying, here on tokens)", "Elhage et al. 2021", "K"),
        Source("ALISA", "Zhao et al., ISCA 2024, arXiv 2403.17312", "3"),
        Source("ZipVL", "He et al. 2024, arXiv 2410.08584", "K"),
        Source("In-context Learning and Induction Heads; TransformerLens' head detector", "Olsson et al. 2022", "C"),
        Source("Analyzing Multi-Head Self-Attention", "Voita et al., ACL 2019", "3"),
        Source("What Does BERT Look At?", "Clark et al. 2019", "K"),
    ),
    config=HeadSparsityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("keys", "Keys each head needs", "heads", draw_keys),
        Figure("first_token", "Attention on the first token", "heads", draw_first),
        Figure("growth", "Keys needed by position", "head_positions", draw_growth),
    ),
    needs=needs_inputs("head_sparsity", "measures where heads look"),
    cells=cells,
    headlines=headlines,
    stripes=STRIPES,
)
