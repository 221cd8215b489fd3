"""Tables of `prompt_effect`."""

from __future__ import annotations

from analysis.spec import Column, Table

_N = (0, 1e9)
_ANY = (-1e308, 1e308)
SHARE = (0.0, 1.0)
DENSE, CHANGED = "as it is", "with that taken away"
STATES = f"State of the model: {DENSE}, or {CHANGED}"
_GONE = "NULL where nothing is taken away"
_LOSS = "NULL where it is not scored (the first token, special ones, models that predict no next token), or infinite"
_NEXT = "NULL where the model predicts no tokens"
_UNIT = "NULL where no unit is asked for, or the pass did not show it"

TOKENS = Table(
    "prompt_tokens",
    "A row per token of the prompt: what the model makes of it, in both states.",
    ("position",),
    (
        Column("position", "int", "Place in the prompt, from 0", range=_N),
        Column("token_id", "int", "Id of the token", range=_N),
        Column("token", "str", "Its piece of text"),
        Column("special", "bool", "Whether it is one of the tokenizer's own tokens"),
        Column("loss", "float", f"Surprise of the token given those before it; {_LOSS}", unit="nats", range=_ANY, optional=True),
        Column("loss_changed", "float", f"The same with something taken away; {_LOSS}; {_GONE}", unit="nats", range=_ANY, optional=True),
        Column("change", "float", f"How far what is predicted here is from the dense model: KL(dense || changed) in nats, of models without logits |y - y0| / |y0|; NULL where the outputs are not finite; {_GONE}", range=(0.0, 1e308), optional=True, evidence="O"),
        Column("next_token", "str", f"Most probable next token; {_NEXT}", optional=True),
        Column("next_share", "float", f"Its probability; {_NEXT}", unit="probability", range=SHARE, optional=True),
        Column("next_token_changed", "str", f"Most probable next token with something taken away; {_NEXT}; {_GONE}", optional=True),
        Column("next_share_changed", "float", f"Its probability; {_NEXT}; {_GONE}", unit="probability", range=SHARE, optional=True),
        Column("unit", "float", f"What the chosen unit does: activation of a neuron, mean weight that a head gives the token; {_UNIT}", range=_ANY, optional=True),
        Column("unit_changed", "float", f"The same with something taken away; {_UNIT}; {_GONE}", range=_ANY, optional=True),
    ),
)  # fmt: skip
LAYERS = Table(
    "prompt_layers",
    "A row per place of the model and state: how sparse it is on this prompt.",
    ("state", "place"),
    (
        Column("state", "str", STATES),
        Column("place", "int", "Number of the place, from 0", range=_N),
        Column("layer", "int", "Layer it lies in", range=_N),
        Column("hook_name", "str", "Name of the place"),
        Column("active_neurons", "float", "Share of neurons that are active by the definition of neuron_activity, mean over tokens; NULL where the place is attention", unit="share of neurons", range=SHARE, optional=True, evidence="O"),
        Column("keys_90", "float", "Fewest keys that hold 90 % of a query's attention / its valid keys, mean over heads and queries; NULL where the place is no attention", unit="share of valid keys", range=SHARE, optional=True, evidence="O"),
    ),
)  # fmt: skip
SUMMARY = Table(
    "prompt_states",
    "A row per state of the model: its loss on the prompt, and how it continues it.",
    ("state",),
    (
        Column("state", "str", STATES),
        Column("n_tokens", "int", "Tokens of the prompt, special ones too", unit="tokens", range=_N),
        Column("n_scored", "int", "Tokens with a loss", unit="tokens", range=_N),
        Column("loss", "float", "Mean loss of those; NULL where none is scored, or it is infinite", unit="nats per token", range=_ANY, optional=True),
        Column("change", "float", "Mean of `change` over the tokens that have one; NULL of the dense model, or where none has", range=(0.0, 1e308), optional=True, evidence="O"),
        Column("continued", "str", "The text that the model writes behind the prompt; NULL where none was asked for, or the model is not causal", optional=True),
        Column("ended", "bool", "Whether that text came to an end by itself; NULL likewise", optional=True),
    ),
    summary=True,
)  # fmt: skip
STEPS = Table(
    "prompt_steps",
    "A row per intervention, as it was applied.",
    ("step",),
    (
        Column("step", "int", "Number of the intervention, from 0", range=_N),
        Column("intervention", "str", "Its name"),
        Column("level", "float", "Share asked to be removed", unit="share", range=SHARE),
        Column("achieved", "float", "Share removed, counted on this prompt where it is counted", unit="share of the denominator", range=SHARE),
        Column("denominator", "str", "What the shares are of"),
        Column("native_value", "float", "The method's own setting at this level; NULL where it has none", range=_ANY, optional=True),
        Column("native_unit", "str", "What that is; NULL likewise", optional=True),
        Column("notes", "list[str]", "What has to be said of it"),
    ),
    summary=True,
)  # fmt: skip
TABLES = (TOKENS, LAYERS, SUMMARY, STEPS)
