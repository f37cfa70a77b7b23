"""What shapes the choice at the positions of a forward, as plain arrays; `constrain` fills them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.history import History
from pipeline.engine.choosing.shifts import Shifts
from pipeline.engine.interface import Sampling

ALL_ALLOWED = np.int32(-1)


@dataclass(slots=True)
class Constraints:
    """What shapes the choice at each of B x T positions.

    Attributes:
        masks: [M, ceil(V/32)] int32 words, a bit per allowed token.
        mask_of: [B, T] which of them holds at a position; -1 allows everything.
        penalties: [B, T] the repetition penalty; 1 is none.
        recent: [B, N + T - 1] what it lowers, the answer's last tokens and the draft's; -1 is none.
        windows: [B] how many of them at each position t, the last of those up to t + N.
        shifts: [B] what other penalties and the bias add.
        settings: [B] the rows' settings.
        positions: [B] how many tokens each answer has before its first position.
    """

    masks: NDArray[np.int32]
    mask_of: NDArray[np.int32]
    penalties: NDArray[np.float32]
    recent: NDArray[np.int32]
    windows: list[int]
    shifts: list[Shifts | None]
    settings: list[Sampling]
    positions: list[int]

    def is_special(self, row: int) -> bool:
        """Whether a row asks for more than masks and the repetition penalty."""
        return self.settings[row].temperature > 0 or self.shifts[row] is not None

    def of_rows(self, rows: Sequence[int]) -> "Constraints":
        """Those of some rows."""
        return Constraints(
            masks=self.masks,
            mask_of=self.mask_of[rows],
            penalties=self.penalties[rows],
            recent=self.recent[rows],
            windows=[self.windows[b] for b in rows],
            shifts=[self.shifts[b] for b in rows],
            settings=[self.settings[b] for b in rows],
            positions=[self.positions[b] for b in rows],
        )

    @property
    def masked(self) -> bool:
        """Whether anything is forbidden."""
        return bool((self.mask_of >= 0).any())

    @property
    def penalised(self) -> bool:
        """Whether the repetition penalty lowers anything."""
        return bool((self.penalties != 1).any() and (self.recent >= 0).any())


def recent_tokens(
    histories: Sequence[History],
    drafts: Sequence[Sequence[int]],
    width: int,
    exempt: Sequence[Callable[[int], bool] | None],
) -> tuple[NDArray[np.int32], list[int]]:
    """What the repetition penalty lowers: `recent` and `windows` of `Constraints`.

    Args:
        histories: [B] the answers.
        drafts: [B].
        width: T.
        exempt: [B] tells tokens that it may not touch.
    """
    windows = [
        min(history.sampling.repetition_window, len(history.tokens) + width - 1)
        if history.sampling.repetition_penalty != 1
        else 0
        for history in histories
    ]
    longest = max(windows)
    recent = np.full((len(histories), longest + width - 1), -1, np.int32)
    if not longest:
        return recent, windows
    for b, (history, draft) in enumerate(zip(histories, drafts, strict=True)):
        if windows[b]:
            said = history.tokens[-windows[b] :]
            tokens = [*said, *draft[: width - 1]]
            if (is_exempt := exempt[b]) is not None:
                tokens = [-1 if is_exempt(token) else token for token in tokens]
            begin = longest - len(said)
            recent[b, begin : begin + len(tokens)] = tokens
    return recent, windows


def ban_tokens(mask: NDArray[np.int32], tokens: Sequence[int], stop: Sequence[int]) -> None:
    """Clears the bits of banned tokens, unless that would leave nothing to choose.

    Args:
        mask: [ceil(V/32)] int32 words, changed in place.
        tokens: Tokens to forbid.
        stop: Tokens that end an answer: these are never forbidden.
    """
    if not tokens:
        return
    words = mask.view(np.uint32)
    before = words.copy()
    for token in tokens:
        if token not in stop:
            words[token >> 5] &= np.uint32(~(1 << (token & 31)) & 0xFFFFFFFF)
    if not words.any():
        words[:] = before  # the grammar leaves one way only: it wins over the penalty
