"""What the drafter sees of its target: hidden states, computed on the fly or kept on disk.

In: batches of tokens. Out: for every position the outputs of the tapped layers, side by side, and
for distillation the last hidden state. The target is frozen and never computes a logit here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipeline.engine.targets.taps import Taps, find_decoder, find_embedding, find_head
from pipeline.engine.targets.target import Target
from pipeline.errors import InputError
from pipeline.settings import private_folder
from pipeline.training.examples import Batch, Example, stack


class Teacher:
    """A frozen target, as training sees it.

    Attributes:
        dtype: What it computes in.
        hidden_size: D.

    Args:
        target: It must hold no rows.
        layer_ids: The tapped layers.
        soft: Whether the last hidden state is needed, too.

    Raises:
        InputError: The model has no structure to train a drafter for.
    """

    def __init__(self, target: Target, layer_ids: Sequence[int], *, soft: bool = False) -> None:
        try:
            self._decoder = find_decoder(target.model)
            self._embed, self._head = find_embedding(target.model), find_head(target.model)
            self._taps = Taps(target.model, layer_ids)
            probe = self._embed(mx.array([[0]]))
            self.dtype, self.hidden_size = probe.dtype, int(probe.shape[-1])
            self._soft = soft
            self._check_states(len(layer_ids) + soft)
        except (ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"model_type={target.kind!r} has no decoder layers, embedding "
                f"and head that a drafter can use ({error}); choose another model"
            ) from error

    def _check_states(self, parts: int) -> None:
        found = self.look(mx.array([[0, 0]])).shape
        if found != (1, 2, parts * self.hidden_size):
            raise ValueError(f"its hidden states are {found}")

    def embed(self, tokens: mx.array) -> mx.array:
        """[...] tokens -> [..., D]."""
        return self._embed(tokens)

    def head(self, hidden: mx.array) -> mx.array:
        """[N, D] -> logits [N, V], in the target's own precision."""
        return self._head(hidden.astype(self.dtype))

    def look(self, tokens: mx.array) -> mx.array:
        """Hidden states of whole sequences.

        Args:
            tokens: [B, L]; what is behind a sequence's end changes nothing before it.

        Returns:
            [B, L, taps * D], or a D more for the last hidden state.
        """
        last: mx.array = self._decoder(tokens, cache=None)  # some ask for it
        states = self._taps.take()
        return mx.concatenate([*states, *([last] if self._soft else [])], axis=-1)


class Features:
    """The hidden states of batches, kept on disk as far as a budget allows.

    Args:
        teacher: Computes them.
        folder: Where to keep them; None keeps none.
        budget_bytes: At most so much of the disk.
    """

    def __init__(self, teacher: Teacher, folder: Path | None = None, budget_bytes: int = 0) -> None:
        self._teacher = teacher
        self._folder = private_folder(folder) if folder and budget_bytes else None
        self._left = budget_bytes
        self._kept: set[str] = set()
        if self._folder is not None:
            for file in self._folder.glob("*.safetensors"):
                self._kept.add(file.stem)
                self._left -= file.stat().st_size

    def of(self, batch: Batch) -> mx.array:
        """[B, L, features] of a batch, computed."""
        missing = [one for one in batch.examples if one.key not in self._kept]
        if self._folder is None or len(missing) == len(batch.examples):
            found = self._teacher.look(mx.array(batch.tokens))
            mx.eval(found)
            self._keep(batch.examples, found)
            return found
        return self._assembled(batch, missing)

    def _assembled(self, batch: Batch, missing: list[Example]) -> mx.array:
        fresh: dict[str, mx.array] = {}
        if missing:
            found = self._teacher.look(mx.array(stack(missing).tokens))
            mx.eval(found)
            self._keep(missing, found)
            fresh = {one.key: found[i] for i, one in enumerate(missing)}
        length = batch.tokens.shape[1]
        rows = [
            _padded(fresh[one.key] if one.key in fresh else self._read(one), length)
            for one in batch.examples
        ]
        together = mx.stack(rows)
        mx.eval(together)
        return together

    def _read(self, example: Example) -> mx.array:
        folder = self._folder or Path()
        try:
            loaded: Any = mx.load(str(folder / f"{example.key}.safetensors"))
            return loaded["states"]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"a file of the cache={str(folder)!r} can't be read; remove the folder and run "
                "the same command again"
            ) from error

    def _keep(self, examples: Sequence[Example], found: mx.array) -> None:
        if self._folder is None:
            return
        for i, example in enumerate(examples):
            states = mx.contiguous(found[i, : len(example.tokens)])
            if states.nbytes > self._left or example.key in self._kept:
                continue
            fresh = self._folder / f"{example.key}.fresh"
            try:
                with fresh.open("wb") as file:
                    mx.save_safetensors(file, {"states": states})
                fresh.replace(fresh.with_suffix(".safetensors"))
            except (OSError, RuntimeError):  # the disk is full: then it is computed each time
                fresh.unlink(missing_ok=True)
                self._left = 0
                return
            self._left -= states.nbytes
            self._kept.add(example.key)


def _padded(states: mx.array, length: int) -> mx.array:
    states = states[:length]
    return mx.pad(states, [(0, length - states.shape[0]), (0, 0)])
