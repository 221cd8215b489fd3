"""Models with FFNs whose numbers are known, as subjects with a calibration."""

from types import SimpleNamespace

import torch
from torch import nn

from analysis.capture import find_sites
from analysis.capture.running import run
from analysis.interventions.activations.base import Seen
from analysis.interventions.calibration import Calibration


def subject_of(made):
    """A zoo model with its batch."""
    model, batch = made
    return SimpleNamespace(model=model, batch=batch, probe_batch=lambda: batch)


def calibrated(*batches):
    """A calibration that holds these batches."""
    return Calibration({}, {}, frozenset({"values"}), batches=batches)


def answer(subject):
    """What the model gives for its batch."""
    with torch.no_grad():
        out = run(subject.model, subject.batch)
    return out.logits if hasattr(out, "logits") else out


class Gated(nn.Module):
    """down(silu(gate(x)) * up(x)), in a list of one block."""

    def __init__(self, gate, up, down, act=None):
        super().__init__()
        self.block = nn.ModuleList([nn.Module()])
        one = self.block[0]
        one.gate, one.up, one.down, one.act = (*(_linear(w) for w in (gate, up, down)), act or nn.SiLU())

    def forward(self, x):
        one = self.block[0]
        return one.down(one.act(one.gate(x)) * one.up(x))


def _linear(weight):
    weight = torch.as_tensor(weight, dtype=torch.float32)
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight.data = weight
    return made


def plain(first, second, act=None):
    """second(act(first(x)))."""
    return nn.Sequential(_linear(first), act or nn.ReLU(), _linear(second)).eval()


def site_of(model, batch):
    """The first FFN site."""
    return next(site for site in find_sites(model, batch) if site.kind in ("ffn", "conv"))


def seen(values, gate=None, up=None, site=None, rows=None, frame=None):
    """Rows at a site."""
    tensor = [None if v is None else torch.as_tensor(v, dtype=torch.float32) for v in (values, gate, up)]
    return Seen(site or SimpleNamespace(name="a", width=tensor[0].shape[-1]), tensor[0], rows, frame, tensor[1], tensor[2])
