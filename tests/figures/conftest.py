"""One spec of each kind, small enough to know every number, and the hostile names they are shown with."""

import pandas as pd
import pytest

from figures.spec import Axis, FigureSpec, Series

CLASSES = ("dead", "rare", "undecided", "normal", "dense")


@pytest.fixture
def hostile():
    return [
        "<img src=x onerror=alert(1)>",
        "$x$ and $y$",
        '"; DROP TABLE runs',
        "%{y}",
        "a\nb\x00\u202e",
        "</script><b>bold</b>",
        "東京 #1",
    ]


@pytest.fixture
def provenance():
    return {"model": "<b>tiny</b>", "run": "neuron_activity-1a2b", "tokens": 2048}


def _strip():
    rows = [(layer, name, (i + 1) / 15) for layer in range(3) for i, name in enumerate(CLASSES)]
    data = pd.DataFrame(rows, columns=["layer", "class", "share"])
    series = Series("class", "Class", CLASSES, "activity")
    x, y = Axis("layer", "Layer"), Axis("share", "Neurons", "share of the layer")
    return FigureSpec("stacked_bars", data, x, y, "Neurons by class", "Shares of 15 neurons per layer.", series=series)


def _bars():
    data = pd.DataFrame({"tensor": ["q", "k", "q", "k"], "model": ["a", "a", "b", "b"], "zeros": [0.1, 0.2, 0.3, 0.4], "n": [1, 2, 3, 4]})
    x, y = Axis("tensor", "Tensor", scale="category"), Axis("zeros", "Zeros", "share")
    series = Series("model", "Model")
    return FigureSpec("bars", data, x, y, "Zeros by tensor", "Share of zeros, 4 tensors.", series=series, hover=("n",))


def _histogram():
    data = pd.DataFrame(
        {"low": [1e-4, 1e-3, 1e-2] * 2, "high": [1e-3, 1e-2, 1e-1] * 2, "n": [5, 0, 7, 1, 2, 3], "layer": ["0"] * 3 + ["1"] * 3}
    )
    x, y = Axis("low", "Density", "share of tokens", scale="log"), Axis("n", "Neurons")
    return FigureSpec("histogram", data, x, y, "Density", "Density of 18 neurons.", series=Series("layer", "Layer"), x_end="high")


def _line():
    data = pd.DataFrame({"s": [0.5, 0.0, 1.0], "loss": [2.0, 1.0, 4.0], "low": [1.5, 0.9, 3.0], "high": [2.5, 1.1, 5.0]})
    x, y = Axis("s", "Sparsity", "share"), Axis("loss", "Loss", "nats", scale="log")
    return FigureSpec("line", data, x, y, "Loss", "Loss of one model.", y_low="low", y_high="high")


def _scatter():
    data = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 1.0, 2.0], "k": [1.0, 10.0, 1000.0], "name": ["n0", "n1", "n2"]})
    colour = Axis("k", "Kurtosis", scale="log")
    return FigureSpec("scatter", data, Axis("a", "A"), Axis("b", "B"), "Neurons", "Three neurons.", colour=colour, hover=("name",))


def _heatmap():
    data = pd.DataFrame([(layer, head, layer * 10.0 + head) for layer in range(3) for head in range(2)], columns=["layer", "head", "h"])
    return FigureSpec(
        "heatmap", data, Axis("head", "Head"), Axis("layer", "Layer"), "Entropy", "Six heads.", colour=Axis("h", "Entropy", "nats")
    )


def _treemap():
    rows = [("0", "up", 60.0, 0.5), ("0", "down", 40.0, 0.1), ("1", "up", 6.0, 0.2), ("1", "down", 4.0, 0.9), ("1", "norm", 1.0, 0.0)]
    data = pd.DataFrame(rows, columns=["layer", "role", "weights", "zeros"])
    x, y, colour = Axis("role", "Matrix", scale="category"), Axis("weights", "Weights"), Axis("zeros", "Zeros", "share")
    return FigureSpec("treemap", data, x, y, "Weights", "Five tensors.", series=Series("layer", "Layer"), colour=colour)


@pytest.fixture
def specs():
    return {
        "stacked_bars": _strip(),
        "bars": _bars(),
        "histogram": _histogram(),
        "line": _line(),
        "scatter": _scatter(),
        "heatmap": _heatmap(),
        "treemap": _treemap(),
    }


@pytest.fixture
def hostile_specs(specs, hostile):
    """Hostile names as categories, as series, in labels, titles, sentences and hover columns."""
    n = len(hostile)
    data = pd.DataFrame({"name": hostile, "value": [float(i + 1) for i in range(n)]})
    x, y = Axis("name", hostile[0], hostile[1], scale="category"), Axis("value", hostile[2])
    words = {"title": hostile[0], "sentence": " ".join(hostile), "notes": tuple(hostile)}
    bars = FigureSpec("bars", data, x, y, hover=("name",), **words)
    line = FigureSpec("line", data, Axis("value", hostile[3]), y, series=Series("name", hostile[5]), hover=("name",), **words)
    heat = FigureSpec("heatmap", data.assign(other="$z$"), x, Axis("other", hostile[0]), colour=Axis("value", hostile[0]), **words)
    tree = FigureSpec("treemap", data, x, y, series=Series("name", hostile[0]), colour=Axis("value", hostile[0]), **words)
    return {"bars": bars, "line": line, "heatmap": heat, "treemap": tree}


KINDS = ("stacked_bars", "bars", "histogram", "line", "scatter", "heatmap", "treemap")


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS)
