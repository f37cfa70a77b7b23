"""How much memory each system needs by itself, where all of them share MLX's in one process.

In: systems, as they are loaded and used. Out: the peak of each without what the others hold.
"""

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import mlx.core as mx
from engine_prompts import Prompt
from engine_systems import Answers, System


class Systems:
    """The systems of a run, loaded when they are first asked for, and what each holds.

    That is what became more while it was loaded or at work, and stayed.

    Args:
        load: Loads one by its name.
    """

    def __init__(self, load: Callable[[str], System]) -> None:
        self._load = load
        self._made: dict[str, System] = {}
        self._held: dict[str, int] = {}
        gc.collect()
        self._before = mx.get_active_memory()

    def get(self, name: str) -> System:
        """The system of this name."""
        if name not in self._made:
            with self.at_work(name):
                system = self._load(name)
            self._made[name] = Counted(name, system, self)
        return self._made[name]

    @contextmanager
    def at_work(self, name: str) -> Generator[None]:
        """Counts what is kept in the meantime; nothing if it fails, as then it is given back."""
        gc.collect()  # caches that refer to each other
        before = mx.get_active_memory()
        yield
        gc.collect()
        self._held[name] = self._held.get(name, 0) + mx.get_active_memory() - before

    def others(self, name: str) -> int:
        """Bytes that the other systems hold, and whoever was there before."""
        return self._before + sum(held for other, held in self._held.items() if other != name)


class Counted:
    """A system whose answers tell the most memory that it took; see `System`."""

    def __init__(self, name: str, system: System, systems: Systems) -> None:
        self._name, self._system, self._systems = name, system, systems

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """See `System`."""
        others = self._systems.others(self._name)
        with self._systems.at_work(self._name):
            mx.reset_peak_memory()
            answers = self._system.answer(prompts, rows, tokens, nonce=nonce, exact=exact)
            answers.peak_mb = answers.peak_mb or (mx.get_peak_memory() - others) >> 20
        return answers
