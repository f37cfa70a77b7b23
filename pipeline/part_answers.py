"""Answers the parts of a document as they are planned, some of them at once.

In: a plan (`pipeline.merge_plan`), and how to answer one part of it. Out: the answer about all of
it. Parts that do not wait for others are asked in the order of the text, a join as soon as what it
joins is there: so little is held, and what a stopped run has finished is finished in full. An
engine reads and writes for several rows in little more time than for one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipeline.merge_plan import Part

AT_ONCE = 4
"""Parts of one document. More gain little, and a night's other documents have their turns, too."""


def answer_parts(plan: Part, answer: Callable[[Part, Sequence[str]], str]) -> str:
    """Answers a plan, from its leaves to its root.

    Args:
        plan: The whole document.
        answer: Answers a part, given the answers about its own parts, in their order; is called
            from several threads.

    Raises:
        Exception: What `answer` raised; nothing more is asked then.
    """
    if not plan.parts:
        return answer(plan, ())
    whole = {inner: part for part in _walk(plan) for inner in part.parts}
    ready = deque(part for part in _walk(plan) if not part.parts)
    done: dict[Part, str] = {}
    running: dict[Future[str], Part] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while plan not in done:
            while ready and len(running) < AT_ONCE:
                part = ready.popleft()
                given = [done.pop(inner) for inner in part.parts]
                running[pool.submit(answer, part, given)] = part
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                done[part] = future.result()
                join = whole.get(part)
                if join is not None and all(inner in done for inner in join.parts):
                    ready.appendleft(join)
    return done[plan]


def _walk(part: Part) -> Iterator[Part]:
    """All parts below one and itself, in the order of the text."""
    for inner in part.parts:
        yield from _walk(inner)
    yield part
