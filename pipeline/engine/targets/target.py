"""The target model: weights, forward passes over the ragged cache, and what is asked of a model.

Loads any mlx-lm model folder whose layers use plain, sliding-window or latent attention, or the
gated delta rule (the hybrid Qwen models).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ArraysCache, make_prompt_cache
from mlx_lm.utils import load_model

from pipeline.engine.cuda.fused_kernels import WIDEST_TREE, fill_in
from pipeline.engine.interface import ModelInfo
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.moves import Moves
from pipeline.engine.memory.window import Shapes, device_shapes
from pipeline.engine.targets.cpu_math import use_on_cpu
from pipeline.engine.targets.fused import Fused, Tokens, fuse
from pipeline.engine.targets.fused_rows import FusedMoves
from pipeline.engine.targets.grouped import GROUPED, spread_masks
from pipeline.engine.targets.joined import join_products
from pipeline.engine.targets.positions import ALL_BY_ROPE, follow_branches
from pipeline.engine.targets.probe import Unfit, probe, try_rows
from pipeline.engine.targets.reading import Reading
from pipeline.engine.targets.taps import Taps
from pipeline.engine.tree import LARGEST, Branches
from pipeline.errors import InputError

PIECE, FUSED_PIECE = 512, 1024
WRONG_IN_ROWS = {"afm7"}
"""They take the number of columns for a position: in 16 bits no trial tells that from rounding."""
Observer = Callable[[list[mx.array] | None], Any]
GATED_DELTA = {"GatedDeltaNet", "Qwen3NextGatedDeltaNet"}  # recurrent layers that we can roll back


class Target:
    """A loaded model and the cache of its running rows.

    Args:
        info: The model folder.

    Attributes:
        kind: What its config calls its architecture.
        largest_tree: The most tokens of a tree that `forward` takes; 0 if it takes none.
        tapping: Whether the drafter, if there is one, sees the next forwards.
        reading: What is not done yet of `prefill`, where that does not wait.

    Raises:
        InputError: The folder can't be loaded, the model's layers keep a state that the ragged
            cache can't hold, or it can't run rows of different lengths, see `probe`.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        use_on_cpu()
        try:
            self.model: nn.Module
            self.model, self.config = load_model(Path(info.folder))
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, SystemExit) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"the model folder={info.folder!r} can't be loaded ({reason}); check "
                "that the files are complete and that mlx-lm knows the architecture"
            ) from error
        self.kind = str(self.config.get("model_type"))
        self.model.eval()
        caches = make_prompt_cache(self.model)
        mixers = self._mixers(caches)
        shapes = device_shapes()
        if mixers and shapes.few:
            shapes = Shapes(column_step=128)  # states have no room for tokens that don't count
        self._fused = fuse(self.model, self.config, info.context_tokens)
        if self._fused:
            shapes = Shapes()
        elif shapes.few:
            join_products(self.model)
        if self.kind in WRONG_IN_ROWS:
            raise self._unfit("rows of different lengths at once get wrong positions")
        if self.kind in GROUPED:
            spread_masks(self.model)
        by_rope = self.kind in ALL_BY_ROPE
        branches = by_rope and not mixers and (self._fused is not None or not shapes.few)
        self.largest_tree = (WIDEST_TREE - 1 if self._fused else LARGEST) if branches else 0
        self.cache = RaggedCache(len(caches), shapes, mixers)
        if self._fused:
            self.cache.moves = FusedMoves()
        if branches and not self._fused:
            follow_branches(self.model, self.cache)
        self.tapping, self.reading, self._taps = True, Reading(), None
        self._tapped: tuple[int, ...] = ()
        self._ran: mx.array | None = None  # what the last forward is done with
        self._observe: Observer = lambda _: []
        self._observed: Any = []
        self.weights_bytes = _weights_bytes(self.model)
        self.vocabulary, self.kv_bytes_per_token, self.state_bytes_per_row = self._probe()

    def _mixers(self, caches: Sequence[Any]) -> dict[int, nn.Module]:
        """The modules of recurrent layers, by layer number; refuses what can't be batched."""
        kinds = {type(cache).__name__ for cache in caches}
        recurrent = [i for i, cache in enumerate(caches) if type(cache) is ArraysCache]
        layers: Any = getattr(self.model, "layers", [])
        mixers: dict[int, Any] = {i: getattr(layers[i], "linear_attn", None) for i in recurrent}
        known = kinds <= {"KVCache", "RotatingKVCache", "ArraysCache"}
        gated = all(type(mixer).__name__ in GATED_DELTA for mixer in mixers.values())
        if known and gated and len(recurrent) < len(caches):
            return mixers
        raise InputError(
            f"model_type={self.kind!r} keeps a state ({', '.join(sorted(kinds))}) that docflash"
            " can't batch yet; choose a model with plain or sliding attention, or a hybrid Qwen "
            "model"
        )

    @property
    def fused_table(self) -> mx.array | None:
        """The head's weights [V, D], if the model runs as one kernel."""
        return self._fused.table if self._fused else None

    @property
    def prompt_piece(self) -> int:
        """How many tokens of a prompt to run at once: one kernel has tiles for many."""
        return FUSED_PIECE if self._fused else PIECE

    def unfuse(self) -> None:
        """Leaves the forward to MLX's own operations, for a drafter that needs them."""
        if self._fused is None:
            return
        self._fused, self.largest_tree = None, 0
        self.cache.shapes, self.cache.moves = device_shapes(), Moves()
        join_products(self.model)
        self._probe()

    def _probe(self) -> tuple[int, int, int]:
        try:
            found = probe(self.model, self.cache)
            if self._fused is None:  # which is not what runs, else
                try_rows(self.model, self.cache, found[0])
        except Unfit as error:
            raise self._unfit(str(error)) from error
        return found

    def _unfit(self, reason: str) -> InputError:
        return InputError(
            f"model_type={self.kind!r}, as mlx-lm has it, can't run here ({reason}); "
            "choose another model"
        )

    def reserved_bytes(self, rows: int, columns: int) -> int:
        """Memory that a cache of this size takes: what a token costs, and what a row costs."""
        return rows * (columns * self.kv_bytes_per_token + self.state_bytes_per_row)

    def prefill(
        self, slot: int, tokens: Sequence[int], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Runs prompt tokens of one row into the cache; their logits are never computed.

        Args:
            slot: The row.
            tokens: The next L tokens of its prompt.
            meanwhile: Work for the host while a piece of them runs, done as well if there are none.
        """
        left = list(tokens)
        if not left:
            meanwhile()
        while left:
            piece = left[: self.cache.piece(slot, len(left))]
            free = self.cache.columns - self.cache.lengths[slot]
            width = self.cache.shapes.prompt_width(len(piece), free)
            self.cache.look_at_row(slot, width, whole=True)
            padded = piece + [0] * (width - len(piece))  # too many: overwritten
            self.read([padded], meanwhile)
            self.cache.lengths[slot] += len(piece)
            self.cache.settle()
            left = left[len(piece) :]

    def read(
        self, tokens: Sequence[Sequence[int]], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Runs prompt tokens of the rows that the cache looks at; see `reading`; gives no logits.

        Args:
            tokens: [B, T].
            meanwhile: Work for the host while they run.
        """
        self.reading.wait()
        self._run(tokens, logits=False)
        computed = self.cache.state(), self._observed, self._ran
        mx.async_eval(*computed)
        meanwhile()
        if self._fused is not None and self._ran is not None:
            self.reading.begin([self._ran, *self._observed])
        else:  # who writes to buffers that are being computed copies them
            mx.eval(*computed)

    @property
    def goes_ahead(self) -> bool:
        """Whether `forward_chosen` can be used."""
        return self.cache.states is None and not self.cache.shapes.few

    def forward_chosen(self, tokens: mx.array, ahead: Sequence[int]) -> mx.array:
        """Runs one token of each row that is still being chosen, of a forward with that width.

        Args:
            tokens: Of rows 0..B-1, as `sampling.Choice` has them.
            ahead: [B] how many tokens of each row that forward ran: they are not counted yet.

        Returns:
            Logits [B, 1, V], being computed.
        """
        self.cache.look_at_rows(len(ahead), 1, ahead)
        return self._begin(self._run(tokens))

    def forward(
        self, tokens: Sequence[Sequence[int]], branches: Branches | None = None
    ) -> mx.array:
        """Runs new tokens of rows 0..B-1; the caller then counts how many of them stay.

        Args:
            tokens: [B, T].
            branches: How they follow each other, where some are no chains.

        Returns:
            Logits [B, T, V], being computed.

        Raises:
            ValueError: There are branches, and this model or device takes none.
        """
        if branches is not None and not self.largest_tree:
            raise ValueError("branches are for models that take them, see `Target.largest_tree`")
        rows, width = len(tokens), self.cache.shapes.width(len(tokens[0]))
        run = self.cache.look_at_rows(rows, width)
        if branches is not None:
            self.cache.window = replace(self.cache.window, branches=branches)
        padded = [[*row, *[0] * (width - len(row))] for row in tokens]
        logits = self._run(padded + [[0] * width] * (run - rows))
        if (run, width) != (rows, len(tokens[0])):
            logits = logits[:rows, : len(tokens[0])]
        return self._begin(logits)

    def _begin(self, logits: mx.array) -> mx.array:
        if self._fused is None or self._observed:  # else it runs already
            mx.async_eval(logits, self._observed)
        return logits

    def tap(self, layer_ids: Sequence[int], observe: Observer) -> None:
        """Shows a drafter the hidden states after some layers, in forwards from now on.

        Args:
            layer_ids: The layers, counted from 0.
            observe: Gets one [B, T, D] per layer id (a fused target: all in one [L B, T, D]) while
                the forward is laid out and nothing is computed; returns arrays to compute along
                with the logits. None in forwards that it is not to see, see `tapping`.

        Raises:
            InputError: The layers' outputs are not of that kind.
        """
        self._tapped, self._observe = tuple(layer_ids), observe
        if self._fused is None:
            self._taps = Taps(self.model, layer_ids)
            self.model(mx.array([[0]]))
            if any(output.ndim != 3 for output in self._taps.take()):  # noqa: PLR2004 ([B, T, D])
                raise InputError(
                    f"model_type={self.kind!r} has layers of several streams, "
                    "which no drafter can look at; go on without one: --drafter none"
                )

    def _run(self, tokens: Tokens, *, logits: bool = True) -> mx.array:
        if self._fused is not None:
            return self._run_fused(self._fused, tokens, logits=logits)
        return self._run_layers(tokens)

    def _run_fused(self, fused: Fused, tokens: Tokens, *, logits: bool) -> mx.array:
        cache = self.cache
        layers = cache.attention[: fused.sizes.layers]
        fill_in(layers, fused.sizes.groups)
        places, taps = cache.window.places, self._tapped if self.tapping else ()
        self._ran, tapped = fused.forward(
            tokens, places, layers, taps, logits=logits, branches=cache.window.branches
        )
        mx.async_eval(self._ran)  # and what is tapped: it runs while the rest is laid out
        self._observed = self._observe([tapped] if taps else None) if self._tapped else []
        self._observed = [array for array in self._observed if array is not tapped]
        return self._ran

    def _run_layers(self, tokens: Tokens) -> mx.array:
        if not isinstance(tokens, mx.array):
            tokens = mx.array([list(row) for row in tokens])
        found: mx.array = self.model(tokens, cache=self.cache.layers)
        if self._taps is not None:
            seen = self._taps.take()
            self._observed = self._observe(seen if self.tapping else None)
        return found


def _weights_bytes(model: nn.Module) -> int:
    leaves: Any = tree_flatten(model.parameters())
    return sum(int(array.nbytes) for _, array in leaves)


def stop_tokens(folder: str, tokenizer_eos: Sequence[int]) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model's config names.

    Args:
        folder: The model folder.
        tokenizer_eos: What the tokenizer calls its end token.
    """
    found = set(tokenizer_eos)
    for name in ("config.json", "generation_config.json"):
        path = Path(folder) / name
        if path.is_file():
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)
