"""Whether speculation writes what plain decoding does; how near the rivals are where it does not.

In: two systems and prompts. Out: the section `lossless` of the engine's benchmark.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from engine_prompts import Prompt
from engine_systems import System
from machine import say


def compare_tokens(
    plain: System, drafted: System, prompts: dict[str, list[Prompt]], options: argparse.Namespace
) -> dict[str, Any]:
    """Whether speculation writes what plain batched decoding does; the margin where it doesn't.

    Without penalties, so that the margin of two tokens is that of their logits.
    """
    rows, divergences, same = 8, list[dict[str, Any]](), 0
    for task in options.tasks:
        some = prompts[task][: options.lossless]
        answers = [
            system.answer(some, rows, options.tokens, nonce="same", exact=True)
            for system in (plain, drafted)
        ]
        for place, (a, b) in enumerate(zip(answers[0].exact, answers[1].exact, strict=True)):
            first = next(differences([t.token for t in a], [t.token for t in b]), None)
            if first is None:
                same += 1
                continue
            top = a[first].top if first < len(a) else ()
            margin = round(top[0][1] - top[1][1], 4) if len(top) > 1 else None
            divergences.append({"task": task, "row": place, "token": first, "margin": margin})
        say(f"lossless {task}: {same} the same, {len(divergences)} differ: {divergences[-3:]}")
    return {"rows": rows, "identical": same, "divergences": divergences}


def differences(a: list[str], b: list[str]) -> Iterator[int]:
    return iter([i for i in range(max(len(a), len(b))) if a[i : i + 1] != b[i : i + 1]])
