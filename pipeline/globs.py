"""Globs over relative paths: `*.pdf` at any depth, `2024/**/*.pdf`, `/top.pdf`, `drafts`."""

import fnmatch
import re

from pipeline.errors import InputError


class Glob:
    """A pattern for paths relative to a folder, with `/` between names, whatever the case.

    `*`, `?` and `[...]` stay within a name, `**` stands for any number of folders. A pattern
    without a slash matches the last name at any depth; one that begins with a slash starts at the
    folder itself. `drafts/**` also matches `drafts`.

    Raises:
        InputError: The pattern is empty.
    """

    def __init__(self, pattern: str) -> None:
        names = [name for name in pattern.split("/") if name not in {"", "."}]
        if not names:
            raise InputError(f"the glob is empty: glob={pattern!r}; give one such as '*.pdf'")
        if len(names) == 1 and not pattern.startswith(("/", "./")):
            names.insert(0, "**")
        self._names = tuple(
            None if name == "**" else re.compile(fnmatch.translate(name), re.IGNORECASE)
            for name in names
        )

    def matches(self, path: str) -> bool:
        """Whether the whole relative path matches."""
        # The set of positions in the pattern that the names so far can have reached: linear in
        # the path, however many `**` there are.
        reached = self._past_folders({0})
        for name in path.split("/"):
            reached = self._past_folders(
                {
                    position if self._names[position] is None else position + 1
                    for position in reached
                    if position < len(self._names) and self._fits(position, name)
                }
            )
        return len(self._names) in reached

    def _fits(self, position: int, name: str) -> bool:
        pattern = self._names[position]
        return pattern is None or pattern.match(name) is not None

    def _past_folders(self, reached: set[int]) -> set[int]:
        """Adds the positions after each `**` that stands for no folder at all."""
        for position in sorted(reached):
            after = position
            while after < len(self._names) and self._names[after] is None:
                after += 1
                reached.add(after)
        return reached
