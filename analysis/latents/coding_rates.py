"""How much room do a window's tokens take in the residual stream, layer by layer, and how much of it within the heads?

1. Per window and place: the coding rate R of the residual stream's tokens, each at length 1.
2. Per window and block: R^c, the sum over heads of the coding rates of their value vectors at length 1, as the authors' code measures
   what their attention projects. A white-box transformer is to lower R^c and to keep R.
3. Means over windows, with intervals over documents.

Source: METHODS D9 (CRATE); for other transformers the choice of what is measured is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.latents.rate_tables import RATES
from analysis.spec import Analysis, Figure, Source, setting
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

if TYPE_CHECKING:
    import numpy as np

    from analysis.capture import Site
    from analysis.capture.attention import AttentionCall
    from analysis.latents.masking import Mask
    from analysis.latents.places import Place

UNIT = "reading windows"
WINDOWS = 8
"""Windows in a forward pass."""
STREAM, HEADS = "residual stream", "values of the heads"


@dataclass(frozen=True, kw_only=True)
class CodingRatesConfig:
    """Settings of `coding_rates`."""

    n_tokens: int = setting(4096, help="Tokens to read", unit="tokens", ge=1, le=10**8)
    window: int = setting(128, help="Length of a text window; rates of other lengths do not compare", unit="tokens", ge=2, le=4096)
    seed: int = setting(0, help="Seed of the choice of windows", ge=0, le=2**31 - 1)
    eps_squared: float = setting(0.01, help="The square of the distortion; 0.01 in the authors' code", ge=1e-9, le=1e3)
    exclude_first: bool = setting(True, help="Leave out position 0, which in many models is an attention sink")


def needs(subject: Any) -> str | None:
    """A model that reads text."""
    if subject.data is None or subject.data.token_ids is None:
        return f"{subject.label} must read text to have tokens whose coding rate can be told; give a text with --data."
    return None


def run(config: CodingRatesConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rates of every window as states, their means at the end."""
    import numpy as np

    from analysis.capture import find_sites
    from analysis.latents.masking import Mask
    from analysis.latents.places import places

    subject = inputs["model"]
    mask = Mask(Mask.of(subject).special, (1 if config.exclude_first else None, None))
    batch = next(iter(subject.data.batches(1, subject.device)))[0]
    streams = [place for place in places(subject.model, batch, names=subject.hook_names()) if place.kind == "residual"]
    sites = [site for site in find_sites(subject.model, batch, names=subject.hook_names()) if site.kind == "attention"]
    parts = {f"{part.start}-{part.stop}": part for part in subject.data.parts(WINDOWS)}
    for name in work.units(list(parts), UNIT):
        rates = _Rates(config.eps_squared)
        _read(subject, streams, sites, mask, parts[name], rates)
        work.save_state(rates.arrays())
    found: dict[str, list[np.ndarray]] = {}
    for _, state in work.states(UNIT):
        for key, values in state.items():
            found.setdefault(key, []).append(values)
    together = {key: np.concatenate(values) for key, values in found.items()}
    work.facts |= {
        "n_tokens": int(max((one[:, 2].sum() for one in together.values()), default=0)),
        "n_documents": len(np.unique(subject.data.document)),
        "mask": mask.words,
        "eps_squared": config.eps_squared,
    }
    yield "coding_rates", _rows(together, config.eps_squared)


class _Rates:
    """Rates by place: for each, [windows, 5] of document, rate, tokens, heads and width."""

    def __init__(self, eps_squared: float) -> None:
        self._eps_squared = eps_squared
        self._found: dict[str, list[tuple[float, ...]]] = {}

    def add(self, key: str, document: int, groups: Sequence[Any]) -> None:
        """One window's tokens [n, width], of each head or of the stream."""
        from analysis.stats.coding_rate import coding_rate, unit_tokens

        rate = sum(coding_rate(unit_tokens(one), self._eps_squared) for one in groups)
        self._found.setdefault(key, []).append((document, rate, len(groups[0]), len(groups), groups[0].shape[1]))

    def arrays(self) -> dict[str, np.ndarray]:
        """By place."""
        import numpy as np

        return {key: np.array(rows) for key, rows in self._found.items()}


def _read(subject: Any, streams: Sequence[Place], sites: Sequence[Site], mask: Mask, part: slice, rates: _Rates) -> None:
    """One forward pass for the stream and one for the values of the heads."""
    import torch

    from analysis.capture import Frame
    from analysis.capture.attention_session import capture_attention
    from analysis.latents.places import reading

    data = subject.data
    seen: dict[str, Any] = {}

    def take(place: Place, values: Any, rows: Any) -> None:  # noqa: ARG001 - no padding in text windows
        seen[f"{place.layer}/{place.hook_name}/{STREAM}"] = values.float()

    for inputs, windows in data.batches(WINDOWS, subject.device, part):
        judged = mask.judged(torch.from_numpy(data.token_ids[windows]))
        kept = {i: row.nonzero().squeeze(1) for i, row in enumerate(judged) if row.any()}
        documents = data.document[windows]
        with reading(subject.model, streams, take, stop=True) as session:
            session.run(inputs, Frame.of(inputs))
        for key, values in seen.items():
            grid = values.reshape(*judged.shape, -1)
            for i, tokens in kept.items():
                rates.add(key, int(documents[i]), [grid[i, tokens]])
        with capture_attention(subject.model, sites, _Values(rates, kept, documents, judged.shape[1])) as attention:
            attention.run(inputs, Frame.of(inputs))


@dataclass
class _Values:
    """Takes the values of every attention over the text's own tokens."""

    rates: _Rates
    kept: Mapping[int, Any]
    documents: Any
    positions: int

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        value, site = call.value, call.site
        if value is None or value.shape[2] != self.positions:
            return
        for i, tokens in self.kept.items():
            self.rates.add(f"{site.layer}/{site.hook_name}/{HEADS}", int(self.documents[i]), list(value[i][:, tokens].float()))


def _rows(found: Mapping[str, np.ndarray], eps_squared: float) -> dict[str, list[Any]]:
    import numpy as np

    from analysis.stats.intervals import mean_over_documents

    rows: dict[str, list[Any]] = {column.name: [] for column in RATES.columns}
    for key, one in found.items():
        layer, _, rest = key.partition("/")
        name, _, of = rest.rpartition("/")
        document, rate, tokens, heads, width = one.T
        _, place = np.unique(document, return_inverse=True)
        mean = mean_over_documents(np.bincount(place, weights=rate), np.bincount(place))
        # Tokens of length 1 spread evenly over r = min(tokens, width) directions: r/2 ln(1 + width / (r eps^2)).
        ranks = np.minimum(tokens, width)
        most = float((heads * ranks / 2 * np.log1p(width / (ranks * eps_squared))).mean())
        row = (int(layer), name, of, mean.value, mean.low, mean.high, int(heads[0]), int(width[0]), most, len(one), int(tokens.sum()))
        for column, value in zip(rows.values(), row, strict=True):
            column.append(value)
    return rows


def draw_rates(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Rates over layers, with bands."""
    if not len(rows):
        raise NothingToDraw("No place was found at which a coding rate could be told.")
    shown = rows.sort_values(["of", "layer", "hook_name"]).groupby(["of", "layer"], as_index=False).last()
    shown["share"] = shown["rate"] / shown["most"]
    facts = provenance["facts"]
    return FigureSpec(
        kind="line",
        data=shown,
        x=Axis("layer", "Layer"),
        y=Axis("rate", "Coding rate", unit="nats per window"),
        y_low="low",
        y_high="high",
        series=Series("of", "Of", order=(STREAM, HEADS)),
        title="How much room tokens take",
        sentence=f"Coding rate of a window's tokens, each at length 1, in the residual stream behind each layer (R) and summed over the "
        f"values of its heads (R^c), of {provenance['model_label']}: {facts['n_tokens']:,} tokens of {facts['n_documents']:,} documents "
        f"of {provenance['data']}, 95 % intervals over documents.",
        hover=("most", "share", "heads", "width"),
        notes=(f"eps^2 = {facts['eps_squared']:g}; {facts['mask']}.", "Rates of windows of other lengths do not compare with these."),
    )


CODING_RATES = Analysis(
    slug="coding_rates",
    title="Coding rates",
    question="How much room do tokens take in the residual stream, and within the heads, layer by layer?",
    version=1,
    kind="dynamic",
    sources=(
        Source("White-Box Transformers via Sparse Rate Reduction", "Yu et al., NeurIPS 2023, arXiv 2306.01129: coding rates", "C"),
        Source("Coding rates of other transformers", "residual tokens and value vectors at length 1, position 0 left out", "O"),
    ),
    config=CodingRatesConfig,
    tables=(RATES,),
    run=run,
    figures=(Figure("rates", "Coding rate by layer", "coding_rates", draw_rates),),
    needs=needs,
)
