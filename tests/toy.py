"""A toy analysis, one file as any: it counts heads and tails of seeded coins per layer. For tests of runner, store and pages.

`make_run(store)` seals a real run of it on a fake subject, without any model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.spec import Analysis, Column, Figure, Source, Table, make_config, setting
from figures.spec import Axis, FigureSpec, Series

HOSTILE = "<img src=x onerror=alert(1)>"
"""A name that must be shown as text wherever it appears."""


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Settings of the toy."""

    n_layers: int = setting(6, help="How many layers to toss for", unit="layers", ge=1, le=100)
    n_coins: int = setting(40, help="Coins per layer", unit="coins", ge=1, le=10_000)
    seed: int = setting(0, help="Seed of the tosses", ge=0, le=2**31 - 1)


LAYERS = Table(
    "layers",
    "Heads and tails per layer.",
    ("layer", "face"),
    (
        Column("layer", "int", "Layer, from 0", range=(0, 1e6)),
        Column("face", "str", "Which face came up"),
        Column("n", "int", "Coins showing that face", unit="coins", range=(0, 1e6)),
        Column("share", "float", "Share of the layer's coins showing that face", unit="share of coins", range=(0, 1), evidence="O"),
    ),
    summary=True,
)
COINS = Table(
    "coins",
    "Every coin: its face, its weight, and the token it was tossed on.",
    ("layer", "coin"),
    (
        Column("layer", "int", "Layer, from 0", range=(0, 1e6)),
        Column("coin", "int", "Coin of the layer, from 0", range=(0, 1e6)),
        Column("token", "str", "Token the coin was tossed on"),
        Column("is_heads", "bool", "Whether it shows heads"),
        Column("weight", "float", "Weight of the coin; NULL where it was not weighed", unit="grams", range=(0, 100), optional=True),
        Column("tosses", "list[int]", "Faces of its last tosses", range=(0, 1)),
    ),
)


def _run(config: ToyConfig, inputs: Any, work: Any) -> Any:
    words = ["the", " cat", HOSTILE, " sat", "**bold**", " $x$", "'; DROP TABLE coins; --", "\n"]
    for name in work.units([str(i) for i in range(config.n_layers)], what="layers"):
        layer = int(name)
        random = np.random.default_rng([config.seed, layer])
        heads = random.random(config.n_coins) < (layer + 1) / (config.n_layers + 1)
        n_heads = int(heads.sum())
        counts = np.array([n_heads, config.n_coins - n_heads])
        yield "layers", {"layer": [layer, layer], "face": ["heads", "tails"], "n": counts, "share": counts / config.n_coins}
        weights = [None if i % 7 == 6 else float(w) for i, w in enumerate(random.uniform(1, 10, config.n_coins))]
        yield (
            "coins",
            {
                "layer": [layer] * config.n_coins,
                "coin": list(range(config.n_coins)),
                "token": [words[i % len(words)] for i in range(config.n_coins)],
                "is_heads": heads.tolist(),
                "weight": weights,
                "tosses": random.integers(0, 2, (config.n_coins, 3)).tolist(),
            },
        )
    work.facts["n_tokens"] = config.n_layers * config.n_coins


def _draw_layers(rows: Any, provenance: Any) -> FigureSpec:
    return FigureSpec(
        kind="stacked_bars",
        data=rows,
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("share", "Share", "share of coins", bounds=(0, 1)),
        series=Series("face", "Face", order=("heads", "tails")),
        title="Heads and tails per layer",
        sentence=f"Share of coins showing each face, n = {int(rows['n'].sum()):,} coins of {provenance['model']}.",
        notes=("The coins are seeded, not tossed.",),
    )


def _draw_weights(rows: Any, provenance: Any) -> FigureSpec:
    import pandas as pd

    weights = rows["weight"].dropna().to_numpy(float)
    counts, edges = np.histogram(weights, bins=9, range=(1, 10))
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": counts}),
        x=Axis("low", "Weight", "grams"),
        x_end="high",
        y=Axis("n", "Coins"),
        title="How heavy the coins are",
        sentence=f"Histogram of the weights of {len(weights):,} of {len(rows):,} coins; the others were not weighed.",
    )


TOY = Analysis(
    slug="toy_coins",
    title="Toy coins",
    question="How many coins show heads in each layer?",
    version=1,
    kind="dynamic",
    sources=(Source("Tossing coins", "docs/decisions (our own)", "O"), Source("On tails", "Nobody, 1999", "K")),
    config=ToyConfig,
    tables=(LAYERS, COINS),
    run=_run,
    figures=(
        Figure("faces", "Heads and tails per layer", "layers", _draw_layers),
        Figure("weights", "How heavy the coins are", "coins", _draw_weights, columns=("weight",)),
    ),
)


def _draw_badly(rows: Any, provenance: Any) -> FigureSpec:
    raise ZeroDivisionError("an inner detail nobody else should see")


BROKEN = replace(TOY, slug="toy_broken", title="Toy with a fault", figures=(Figure("faces", "Never drawn", "layers", _draw_badly),))
"""An analysis with a programming error in a figure."""


@dataclass
class FakeData:
    """Stands for prepared inputs."""

    name: str = "toy-text"
    facts: dict[str, Any] = field(default_factory=lambda: {"n_documents": 12, "licence": "CC0"})


@dataclass
class FakeSubject:
    """Stands for an opened model: only what the runner reads."""

    name: str = "toy-model"
    label: str = "Toy model (seeded, 6 layers)"
    source: str = "made in the test"
    dtype: str = "float32"
    device: str = "cpu"
    facts: dict[str, Any] = field(default_factory=lambda: {"n_layers": 6, "architecture": "ToyForCoins"})
    data: FakeData = field(default_factory=FakeData)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Different names are different models."""
        return {"weights": f"weights of {self.name}", "tokenizer": "toy", "data": self.data.name}


def make_run(store: Any, name: str = "toy-model", analysis: Analysis = TOY, **settings: Any) -> Any:
    """Seal a run of the toy on a model of that name."""
    from analysis.runner import run

    label = f"{name} (seeded)" if name != "toy-model" else "Toy model (seeded, 6 layers)"
    return run(analysis, {"model": FakeSubject(name=name, label=label)}, make_config(ToyConfig, settings), store)
