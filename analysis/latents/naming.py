"""What TransformerLens would call the places of a model, and the other names under which files and papers know the same values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.latents.places import Place, PlaceKind

NAMES: Mapping[PlaceKind, str] = {
    "residual": "hook_resid_post",
    "mlp_in": "mlp.hook_in",
    "mlp_out": "hook_mlp_out",
    "attention_out": "hook_attn_out",
    "attention_z": "attn.hook_z",
    "ffn": "mlp.hook_post",
}
_ALSO: Mapping[PlaceKind, tuple[str, ...]] = {
    "residual": ("hook_out",),
    "mlp_out": ("mlp.hook_out",),
    "attention_out": ("attn.hook_out",),
    "attention_z": ("attn.o.hook_in",),
    "ffn": ("mlp.out.hook_in",),
}
"""What TransformerLens' bridge itself calls them."""
_NEARLY: Mapping[PlaceKind, tuple[str, ...]] = {"mlp_in": ("ln2.hook_normalized", "hook_mlp_in")}


def named(blocks: Sequence[str], after: Mapping[str, str], found: Iterable[Place], names: Mapping[str, str]) -> tuple[Place, ...]:
    """The places with canonical hook names where they lie in a block and are the first of their kind there; each place once.

    blocks: paths of the blocks that add to a residual stream, in order; after: of a block, the one that is given what it returns;
    names: canonical names by module path, where known.
    """
    prefixes = _prefixes(blocks, names)
    found = list(found)
    done: dict[str, Place] = {}
    within = {place.name: _block(place, blocks) for place in found}
    neurons = Counter(within[place.name] for place in found if place.kind == "ffn")
    # Of experts, or of an inner activation beside another one, none is the one that the name means.
    taken = {f"{prefixes[block]}.{NAMES['ffn']}" for block, n in neurons.items() if block is not None and n > 1}
    for place in found:
        if place.name not in done:
            block = within[place.name]
            done[place.name] = one = _named(place, block, after.get(block or ""), prefixes, taken)
            taken |= {one.hook_name, *one.also}
    return tuple(done.values())


def _named(place: Place, block: str | None, following: str | None, prefixes: Mapping[str, str], taken: set[str]) -> Place:
    prefix = prefixes.get(block or "")
    if prefix is None or place.kind not in NAMES or place.site.group is not None:
        return place
    if place.kind == "residual" and place.site.role == "input":
        return replace(place, hook_name=f"{prefix}.hook_resid_pre", also=(f"{prefix}.hook_in",))
    name = f"{prefix}.{NAMES[place.kind]}"
    if name in taken:  # cross attention, a second FFN: the first of its kind keeps the name
        return place
    also = [*place.also, *(f"{prefix}.{one}" for one in _ALSO.get(place.kind, ()))]
    if place.kind == "residual" and following is not None:
        also += [f"{prefixes[following]}.hook_resid_pre", f"{prefixes[following]}.hook_in"]
    also += [place.hook_name] if place.site.operator != "module" and place.hook_name != name else []
    return replace(place, hook_name=name, also=tuple(also), nearly=tuple(f"{prefix}.{one}" for one in _NEARLY.get(place.kind, ())))


def _block(place: Place, blocks: Sequence[str]) -> str | None:
    return next((one for one in blocks if place.module == one or place.module.startswith(f"{one}.")), None)


def _list_of(block: str) -> str:
    return block.rpartition(".")[0]


def _prefixes(blocks: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """What comes before ``.hook_resid_post``: as the canonical names have it; else ``blocks.3``, ``encoder_blocks.3``, or the path."""
    lists = list(dict.fromkeys(_list_of(block) for block in blocks))
    found: dict[str, str] = {}
    for block in blocks:
        known = next((name for path, name in names.items() if path.startswith(f"{block}.")), None)
        index, side = block.rpartition(".")[2], block.partition(".")[0]
        if known is not None:
            found[block] = ".".join(known.split(".")[:2])
        elif len(lists) == 1:
            found[block] = f"blocks.{index}"
        else:
            found[block] = f"{side}_blocks.{index}" if side in ("encoder", "decoder") and len(lists) == 2 else block
    return found
