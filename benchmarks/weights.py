"""What the full table of `weight_sparsity` costs: against one plain pass of abs().sum() over the same file, and in memory.

Both are run in turns in one process, several rounds, and the fastest round counts; ratios therefore hold on a busy machine too. "CPU" is
the processor time of all threads together, which does not count waiting for a processor. "Measuring" makes all rows of all tables;
"sealed run" is the whole run, with the rows written, put together and sealed in a store. Memory is the peak of what is the process' own
(anonymous pages, without the mapped file), above what it had before, in a process of its own.

    python benchmarks/weights.py [--rounds 5] [--threads 2] [--big 8] [--weightwatcher PYTHON]

``--big GB`` adds a sharded checkpoint of that size, made in a temporary folder; ``--weightwatcher`` compares `weight_spectrum` with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.results import emit, in_turns  # noqa: E402

LABELS = {"smollm2": "SmolLM2, dequantised to float32", "minilm": "MiniLM, float32"}
TARGET = 4.0
"""At most so many times one plain pass."""
GPT2 = {"wte": (50257, 768), "wpe": (1024, 768)}
BLOCK = {"attn.c_attn": (768, 2304), "attn.c_proj": (768, 768), "mlp.c_fc": (768, 3072), "mlp.c_proj": (3072, 768)}


def gpt2_size(folder: Path, dtype: torch.dtype) -> Path:
    """A checkpoint of GPT-2's shapes with random weights."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {f"{name}.weight": torch.randn(shape) * 0.02 for name, shape in GPT2.items()}
    for i in range(12):
        for name, shape in BLOCK.items():
            state |= {f"h.{i}.{name}.weight": torch.randn(shape) * 0.02, f"h.{i}.{name}.bias": torch.zeros(shape[1])}
    path = folder / f"gpt2-{str(dtype).removeprefix('torch.')}.safetensors"
    save_file({name: value.to(dtype) for name, value in state.items()}, path)
    return path


def big(folder: Path, gigabytes: float) -> Path:
    """A bfloat16 LLaMA of about that size with random weights, a shard of about 0.4 GB per layer; its embedding is one tensor of 1 GB."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    n_layers = max(1, round((gigabytes - 1) / 0.405))
    config = LlamaConfig(
        vocab_size=122_880, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=n_layers, num_attention_heads=32,
        num_key_value_heads=32, tie_word_embeddings=True, architectures=["LlamaForCausalLM"], dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in LlamaForCausalLM(config).named_parameters()}
    made = folder / "big"
    config.save_pretrained(made)
    pool = (torch.randn(1 << 22) * 0.02).to(torch.bfloat16)
    shards: dict[str, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        shards.setdefault(f"model-{name.split('.')[2] if '.layers.' in name else 'rest'}.safetensors", {})[name] = shape
    for file, inside in shards.items():
        state = {name: pool.repeat(-(-shape.numel() // len(pool)))[: shape.numel()].reshape(shape) for name, shape in inside.items()}
        save_file(state, made / file, metadata={"format": "pt"})
    where = {name: file for file, inside in shards.items() for name in inside}
    total = 2 * sum(shape.numel() for shape in shapes.values())
    (made / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    return made


class Bench:
    """One checkpoint, read both ways."""

    def __init__(self, model: str, threads: int) -> None:
        from analysis.models import open_subject
        from analysis.weights.weight_sparsity import WeightSparsityConfig, groups_of

        self.subject, self.config, self.threads = open_subject(model), WeightSparsityConfig(), threads
        self.tensors = [t for t in self.subject.tensors() if t.numel]
        self.groups = groups_of(self.tensors)
        self.n = sum(t.numel for t in self.tensors)

    def plain(self) -> None:
        """One pass over the file."""
        for tensor in self.tensors:
            float(tensor.read().abs().sum())

    def measuring(self) -> None:
        """All rows of all tables."""
        from analysis.weights.weight_sparsity import measure

        for group in self.groups:
            measure(group, self.config, self.threads, lambda _: None)

    def sealed(self) -> None:
        """The whole run."""
        from analysis.runner import run
        from analysis.weights.weight_sparsity import WEIGHT_SPARSITY
        from store import Store

        with tempfile.TemporaryDirectory() as folder:
            run(WEIGHT_SPARSITY, {"model": self.subject}, self.config, Store(Path(folder) / "store"))


def compare(model: str, label: str, rounds: int, threads: int) -> None:
    bench = Bench(model, threads)
    ways: dict[str, Callable[[], None]] = {"plain pass": bench.plain, "measuring": bench.measuring, "sealed run": bench.sealed}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began, used = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first one compiles and fills the page cache
                taken[name].append((time.perf_counter() - began, time.process_time() - used))
    wall, cpu = ({name: min(one[i] for one in rounds) for name, rounds in taken.items()} for i in (0, 1))
    print(f"\n{label}: {bench.n:,} weights in {len(bench.tensors)} tensors, {threads} threads")
    for name in ways:
        ratio, cpu_ratio, each = wall[name] / wall["plain pass"], cpu[name] / cpu["plain pass"], 1e9 * wall[name] / bench.n
        print(f"  {name:10s} {wall[name]:7.3f} s ({ratio:4.2f} x)   CPU {cpu[name]:7.3f} s ({cpu_ratio:4.2f} x)   {each:5.2f} ns a weight")
    done = subprocess.run([sys.executable, __file__, "--peak", model], capture_output=True, text=True, check=True)
    found = {name: f"{size / 1e6:,.0f} MB" for name, size in json.loads(done.stdout).items()}
    print(f"  own memory at the peak: {found['own']}; largest tensor in 32 bits {found['largest']}, stored {found['stored']}")
    what, note = (
        f"weight_sparsity: {label}, {bench.n:,} weights",
        f"own memory at the peak {found['own']}, largest tensor {found['stored']}",
    )
    for name, limit in (("measuring", TARGET), ("sealed run", None)):
        emit(in_turns(what, name, "abs().sum() over the file", taken[name], taken["plain pass"], limit, note=note))


def own_bytes() -> int:
    """Anonymous memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the kernel does not say how much anonymous memory a process has")


def peak(model: str) -> None:
    """Print the peak of anonymous memory while measuring, above what the libraries take."""
    from analysis.weights.weight_sparsity import measure

    bench, found, over = Bench(model, torch.get_num_threads()), [0], threading.Event()
    measure(min(bench.groups, key=lambda g: sum(t.numel for t in g)), bench.config, bench.threads, lambda _: None)
    before = own_bytes()

    def watch() -> None:
        while not over.wait(0.002):
            found[0] = max(found[0], own_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    bench.measuring()
    over.set()
    watcher.join()
    widest = max(bench.tensors, key=lambda t: t.numel)
    stored = widest.numel * torch.finfo(getattr(torch, widest.dtype)).bits // 8
    print(json.dumps({"own": found[0], "largest": 4 * widest.numel, "stored": stored}))


def against_weightwatcher(python: str | None, rounds: int, models: list[str]) -> None:
    """`spectra.py` in an interpreter that has WeightWatcher."""
    if python is None:
        print("\nWeightWatcher: not compared; give --weightwatcher an interpreter that has it beside the dashboard's libraries.")
        return
    command = [python, str(ROOT / "benchmarks" / "spectra.py"), *models, "--rounds", str(rounds)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--big", type=float, default=0.0, metavar="GB")
    parser.add_argument("--weightwatcher", metavar="PYTHON", help="an interpreter that has weightwatcher beside these libraries")
    parser.add_argument("--spectra", nargs="+", default=["gpt2", "smollm2"], help="models to compare with WeightWatcher on")
    parser.add_argument("--spectra-rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=["smollm2"], help="further models to measure")
    parser.add_argument("--peak", metavar="MODEL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        peak(asked.peak)
        return
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (torch.float32, torch.bfloat16):
            compare(str(gpt2_size(Path(folder), dtype)), f"GPT-2 size, random, {dtype}", asked.rounds, asked.threads)
        for model in asked.models:
            compare(model, LABELS.get(model, model), asked.rounds, asked.threads)
        if asked.big:
            compare(str(big(Path(folder), asked.big)), f"{asked.big:g} GB of shards, bfloat16", 1, asked.threads)
    against_weightwatcher(asked.weightwatcher, asked.spectra_rounds, asked.spectra)


if __name__ == "__main__":
    main()
