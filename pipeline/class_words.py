"""Which classes the words of a document leave: what a small model is asked to choose among.

In: a task with classes and their words, a document's text. Out: classes. A rule, not a model: the
class of which most different words stand in the beginning; on a tie, those that tie; if too few
words stand there to tell, all classes.
"""

import re
from functools import cache

from pipeline.records import Task

BEGINNING_CHARS = 6000
"""So much of a document is looked at: a letter's end is what tells it."""
ENOUGH_WORDS = 2


def classes_by_words(task: Task, text: str) -> tuple[str, ...]:
    """The classes that a document can have by its words, in the task's order.

    Args:
        task: Of the kind "class".
        text: The document's normalised text.
    """
    beginning = text[:BEGINNING_CHARS].casefold()
    counts = {
        name: sum(_pattern(word).search(beginning) is not None for word in words)
        for name, words in task.words
    }
    most = max(counts.values(), default=0)
    if most < ENOUGH_WORDS:
        return task.classes
    return tuple(name for name in task.classes if counts.get(name) == most)


@cache
def _pattern(word: str) -> re.Pattern[str]:
    """A word as it stands by itself; "^" before it: at the beginning of a line."""
    begin = r"^\s*" if word.startswith("^") else r"(?<!\w)"
    bare = re.escape(word.removeprefix("^").casefold()).replace(r"\ ", r"\s+")
    return re.compile(rf"{begin}{bare}(?!\w)", re.MULTILINE)
