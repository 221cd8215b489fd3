"""What each analysis costs, by formulas that pass through measured points, up to a model of 70 billion parameters on eight GPUs.

Prints the tables of docs/scaling.md. Symbols: P parameters, L layers, d width, f feed-forward width, H heads, N window, T tokens, V levels,
M matrices. A measured point is one in docs/benchmarks-*.md, named beside it; `tests/benchmarks/test_costs.py` holds the formulas to them.

    python -m benchmarks.costs
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """What a model's costs depend on."""

    name: str
    parameters: float
    """That take part in products: without the embedding where the head is not tied to it."""
    layers: int
    width: int
    ffn: int
    heads: int
    matrices: int
    """In scope of pruning."""
    spectra: tuple[tuple[int, int, int], ...] = ()
    """(how many, longer side, shorter side) of its matrices."""

    @property
    def neurons(self) -> int:
        return self.layers * self.ffn


@dataclass(frozen=True)
class Machine:
    """How fast it is."""

    name: str
    flops: float
    """Sustained, per second, in a forward pass."""
    value_seconds: float
    """Of `neuron_activity`, per neuron and token."""
    pair_seconds: float
    """Of `head_sparsity`, per head and pair of query and key."""
    weight_seconds: float = 1.85e-9
    """Of `weight_sparsity`, per weight: 3,944 million in 7.313 s (docs/benchmarks-weights.md, quiet machine)."""
    spectrum_seconds: float = 3.2e-10
    """Of all singular values of an [m, n] matrix, per m n min(m, n): GPT-2's in 21.1 s (docs/benchmarks-weights.md)."""


SMOLLM2 = Model("SmolLM2-135M", 134.5e6, 30, 576, 1536, 9, 210)
GPT2 = Model("GPT-2", 124e6, 12, 768, 3072, 12, 48, ((12, 2304, 768), (12, 768, 768), (24, 3072, 768)))
LLAMA8 = Model("8 billion", 7.5e9, 32, 4096, 14_336, 32, 224, ((96, 14_336, 4096), (64, 4096, 4096), (64, 4096, 1024)))
LLAMA70 = Model("70 billion", 69.5e9, 80, 8192, 28_672, 64, 560, ((240, 28_672, 8192), (160, 8192, 8192), (160, 8192, 1024)))

TWO_CORES = Machine("two cores, AVX-512", 0.28e12, 3.1e-9, 7.75e-9)
"""Measured: a pass of 1,024 tokens of SmolLM2 in 1.04 s, 1.14 of it with every neuron counted (docs/benchmarks-capture.md); 15.5 ns per
pair on one thread (docs/benchmarks-attention.md)."""
EIGHT_GPUS = Machine("8 GPUs of 80 GB", 4e14, 240 / 3.35e12, 7.75e-9 * 2 / 32)
"""Not measured. `--device auto` runs the layers one after the other, so one GPU works at a time: 4e14 is two fifths of what one is sold
for in bfloat16. Statistics of neurons move about 240 bytes per value through 3.35 TB/s. Those of heads are compiled for processors: 32 of
them here."""

EXACT = 4096
"""`weight_spectrum` computes all singular values up to this shorter side; beyond, 256 by randomised iteration."""


def flops(model: Model, tokens: float, window: int) -> float:
    """2 P T for the products of parameters, 4 L d N T for queries by keys and weights by values."""
    return 2 * model.parameters * tokens + 4 * model.layers * model.width * window * tokens


def forward(model: Model, on: Machine, tokens: float, window: int = 256) -> float:
    """Seconds of forward passes over so many tokens."""
    return flops(model, tokens, window) / on.flops


def neuron_activity(model: Model, on: Machine, tokens: float, window: int = 256) -> float:
    """A pass, and L f T values."""
    return forward(model, on, tokens, window) + model.neurons * tokens * on.value_seconds


def head_sparsity(model: Model, on: Machine, tokens: float, window: int = 1024) -> float:
    """A pass, and L H T (N + 1) / 2 pairs."""
    return forward(model, on, tokens, window) + model.layers * model.heads * tokens * (window + 1) / 2 * on.pair_seconds


def essential_sparsity(model: Model, on: Machine, tokens: float, levels: int = 20, overhead: float = 1.05) -> float:
    """V passes, each 1.05 times a bare one."""
    return levels * overhead * forward(model, on, tokens)


def matrix_sensitivity(model: Model, on: Machine, tokens: float, levels: int = 9, less: float = 2.67) -> float:
    """M V passes, so many times less by restarting at the changed block, coarse levels and early stop."""
    return model.matrices * levels * forward(model, on, tokens) / less


def weight_sparsity(parameters: float, on: Machine) -> float:
    """One pass over all weights."""
    return parameters * on.weight_seconds


def weight_spectrum(model: Model, on: Machine, limit: int = EXACT, largest: int = 256) -> float:
    """m n min(m, n) for each matrix up to the limit, m n times about six passes of 2 (k + 10) values beyond it (computed, not measured)."""
    total = 0.0
    for n, long, short in model.spectra:
        each = short if short <= limit else 6 * (largest + 10)
        total += n * long * short * each
    return total * on.spectrum_seconds


def words(seconds: float) -> str:
    """In the unit that fits."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def main() -> None:
    """The table, as Markdown."""
    tokens = 10**6
    print(
        f"| of {tokens:,} tokens | {SMOLLM2.name}, two cores | {LLAMA8.name}, two cores | {LLAMA8.name}, one GPU | {LLAMA70.name}, 8 GPUs |"
    )
    print("| --- | --- | --- | --- | --- |")
    places = ((SMOLLM2, TWO_CORES), (LLAMA8, TWO_CORES), (LLAMA8, EIGHT_GPUS), (LLAMA70, EIGHT_GPUS))
    asked = (
        ("forward pass, windows of 256", lambda m, on: forward(m, on, tokens)),
        ("neuron_activity, windows of 256", lambda m, on: neuron_activity(m, on, tokens)),
        ("head_sparsity, windows of 1,024", lambda m, on: head_sparsity(m, on, tokens)),
        ("essential_sparsity, one method, 20 levels of 65,536 tokens", lambda m, on: essential_sparsity(m, on, 65_536)),
        ("matrix_sensitivity, all matrices, 9 levels of 16,384 tokens", lambda m, on: matrix_sensitivity(m, on, 16_384)),
    )
    for what, cost in asked:
        print(f"| {what} | {' | '.join(words(cost(model, on)) for model, on in places)} |")
    weights = ((GPT2, 124e6), (LLAMA8, 8.03e9), (LLAMA70, 70.6e9))
    print(f"\n| of weights alone, two cores | {' | '.join(model.name for model, _ in weights)} |\n| --- | --- | --- | --- |")
    print(f"| weight_sparsity | {' | '.join(words(weight_sparsity(n, TWO_CORES)) for _, n in weights)} |")
    print(f"| weight_spectrum | {' | '.join(words(weight_spectrum(model, TWO_CORES)) for model, _ in weights)} |")


if __name__ == "__main__":
    main()
