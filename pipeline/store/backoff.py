"""When what failed in a way that may pass is tried again, as SQL."""

from pipeline.jobs import BACKOFF_HOURS


def due_at(attempts: str, failed_at: str) -> str:
    """An expression: the time from which what failed is tried again.

    Args:
        attempts: A column: how often it was tried in vain, from 1.
        failed_at: A column: the time of the last of them.
    """
    hours = (
        f"list_extract({list(BACKOFF_HOURS)}, least(greatest({attempts}, 1), {len(BACKOFF_HOURS)}))"
    )
    return f"({failed_at} + to_hours({hours}))"


def is_due(attempts: str, failed_at: str) -> str:
    """A condition: whether that time has come.

    A failure in the future, by a clock that was put back since, is no reason to wait.
    """
    return f"({failed_at} > now() OR now() >= {due_at(attempts, failed_at)})"
