"""One layer's keys and values as mlx-lm's models see them.

A `LayerCache` speaks the interface of `mlx_lm.models.cache` (`offset`, `make_mask`,
`update_and_fetch`, `keys_and_values`), so models with plain, sliding or latent attention work as
they are.
"""

from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from pipeline.engine.memory.cache import RaggedCache


class LayerCache:
    """One layer's buffers, seen through the window of the current forward."""

    def __init__(self, cache: "RaggedCache") -> None:
        self._cache = cache
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> mx.array | int:
        """Position of the first new token: [B], or a number if there is one row."""
        return self._cache.window.offset

    def make_mask(
        self,
        N: int,  # noqa: N803 (mlx-lm's name)
        *,
        return_array: bool = False,
        window_size: int | None = None,
    ) -> mx.array | str | None:
        """Attention mask of the current forward, as mlx-lm's models ask for it.

        Args:
            N: Tokens per row.
            return_array: Give an array even where a keyword would do.
            window_size: Sliding window, in tokens.

        Returns:
            [B, 1, N, K] booleans, "causal", or None if every column is seen.
        """
        return self._cache.mask(N, window_size, as_array=return_array)

    def make_block_mask(self, window_size: int | None = None) -> mx.array | None:
        """Attention mask of a drafter's block, see `Window.block_mask`."""
        return self._cache.window.block_mask(window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Writes the new keys and values, returns all that the rows may see.

        Args:
            keys: [B, H, T, D].
            values: Likewise; their D may be another one.

        Returns:
            Keys and values, [B, H, K, D].
        """
        sizes = keys.shape[3], values.shape[3]
        own_keys, own_values = self.buffers(keys.shape[1], sizes, keys.dtype)
        self.keys = self._cache.window.write(own_keys, keys)
        self.values = self._cache.window.write(own_values, values)
        if self._cache.shapes.early:
            mx.async_eval(self.keys, self.values)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """All that the rows of the current forward may see; other layers may share it.

        Raises:
            ValueError: Nobody has written to them yet.
        """
        if self.keys is None or self.values is None:
            raise ValueError("the layer holds nothing yet")
        rows, columns = self._cache.window.rows, self._cache.window.columns
        return self.keys[rows, :, :columns], self.values[rows, :, :columns]

    def buffers(
        self, heads: int, sizes: tuple[int, int], dtype: mx.Dtype
    ) -> tuple[mx.array, mx.array]:
        """Keys and values [R, H, K, D]; zeros where nobody has written to them yet."""
        if self.keys is None or self.values is None:
            shape = (self._cache.rows, heads, self._cache.columns)
            self.keys, self.values = (mx.zeros((*shape, size), dtype) for size in sizes)
        return self.keys, self.values
