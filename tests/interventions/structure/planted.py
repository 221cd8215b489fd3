"""A small language model in which some structure is known to do nothing."""

import numpy as np
import torch

from analysis.interventions.calibration import calibrate
from analysis.interventions.scope import weight_scope
from analysis.models import TextWindows, subject_from
from analysis.tasks import choose_task

WINDOWS, LENGTH, VOCABULARY = 12, 12, 60
HEADS, NEURONS = ((0, 1), (1, 2)), slice(0, None, 2)


def language_subject(model, name="planted"):
    ids = torch.randint(3, VOCABULARY, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(2))
    return subject_from(model, name=name, data=TextWindows.from_ids(ids, document=np.arange(WINDOWS)))


def llama(layers=2):
    """A Llama of 4 heads, 2 of keys, wide enough weights that everything matters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def planted():
    """Half of the neurons dead, two useless heads, and a third block that adds nothing."""
    model = llama(layers=3)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, NEURONS] = 0
        for layer, head in HEADS:
            model.model.layers[layer].self_attn.o_proj.weight[:, 4 * head : 4 * head + 4] = 0
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[2].mlp.down_proj.weight.zero_()
    return model


def calibrated(subject, needs=("values",)):
    task = choose_task(subject, "causal-lm", split="calibration", seed=0)
    return calibrate(subject.model, weight_scope(subject.model), [b.inputs for b in task.batches(2)], needs, task=task)


def answer(subject):
    """Logits of the whole data."""
    with torch.no_grad():
        return torch.cat([subject.model(**inputs).logits for inputs, _ in subject.data.batches(4, "cpu")])


def loss(subject):
    found = choose_task(subject, "causal-lm", seed=0).losses(subject.model)
    return found.total.sum() / found.n.sum()
