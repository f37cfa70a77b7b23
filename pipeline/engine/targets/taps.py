"""What a drafter takes from its target: hidden states after some layers, the embedding, the head.

Works on any mlx-lm model, plain or inside a vision model's wrapper. No class is patched: each
tapped layer gets a class of its own, so other models in the process are left alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
from mlx import nn

EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings")
HEADS = ("lm_head", "embed_out", "output")
"""What mlx-lm's models call them."""


class Taps:
    """Remembers the outputs of some layers of a model, in every forward.

    Layer i's output is what transformers calls `hidden_states[i + 1]`.

    Args:
        model: An mlx-lm model.
        layer_ids: The layers, counted from 0.
    """

    def __init__(self, model: nn.Module, layer_ids: Sequence[int]) -> None:
        layers = model_layers(model)
        self._ids = tuple(layer_ids)
        self._outputs: dict[int, mx.array] = {}
        for layer_id in set(self._ids):
            self._listen(layers[layer_id], layer_id)

    def take(self) -> list[mx.array]:
        """The outputs [B, T, D] of the last forward, one per layer id; they are then forgotten."""
        taken = [self._outputs[layer_id] for layer_id in self._ids]
        self._outputs.clear()
        return taken

    def _listen(self, layer: nn.Module, layer_id: int) -> None:
        def call(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            output = own(*args, **kwargs)
            self._outputs[layer_id] = output[0] if isinstance(output, tuple) else output
            return output

        call_instead(layer, call)


def call_instead(module: Any, call: Callable[..., Any]) -> None:
    """Has a module called otherwise; it gets a class of its own, so that no class is patched.

    Args:
        module: The module.
        call: Gets what the module did so far, as a function, and then what the module is called
            with.
    """
    kind = type(module)

    def own_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(partial(kind.__call__, self), *args, **kwargs)

    module.__class__ = type(kind.__name__, (kind,), {"__call__": own_call})


def model_layers(model: nn.Module) -> Sequence[nn.Module]:
    """The decoder layers, in order."""
    found: Any = model
    while not hasattr(found, "layers"):
        found = _inside(found)
    return found.layers


def find_decoder(model: nn.Module) -> Any:
    """The part of a model that has its embedding: from tokens to the last hidden state."""
    found: Any = model
    while not any(hasattr(found, name) for name in EMBEDDINGS):
        found = _inside(found)
    return found


def find_embedding(model: nn.Module) -> nn.Module:
    """The module whose call turns tokens [B, T] into the table's own rows [B, T, D].

    What some models do with them afterwards (Gemma's scale) is not in it.
    """
    decoder = find_decoder(model)
    return next(getattr(decoder, name) for name in EMBEDDINGS if hasattr(decoder, name))


def find_head(model: nn.Module) -> Callable[[mx.array], mx.array]:
    """What turns hidden states [B, T, D] into logits [B, T, V]: the head, or the tied table."""
    found, decoder = model, find_decoder(model)
    while True:
        heads = [getattr(found, name, None) for name in HEADS]
        for head in heads:
            if head is not None:
                return head
        if found is decoder:
            table: Any = find_embedding(model)
            return table.as_linear
        found = _inside(found)


def _inside(model: nn.Module) -> nn.Module:
    for name in ("language_model", "model", "transformer"):
        inner: Any = getattr(model, name, None)
        if inner is not None:
            return inner
    raise ValueError(f"no embedding or no layers are in {type(model).__name__}")
