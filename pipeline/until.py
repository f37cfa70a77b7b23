"""Times of day as people give them for the end of a run."""

import re
from datetime import datetime, timedelta

from pipeline.errors import InputError

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def next_time(text: str, now: datetime) -> datetime:
    """The next moment at which this machine's clock shows a time: today, or tomorrow if past.

    Args:
        text: Hours and minutes, such as "07:00" or "7:00".
        now: The present, in any time zone.

    Raises:
        InputError: The text is not a time of day.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"until={text!r} is not a time of day; give hours and minutes such as 07:00"
        )
    # What the clock shows, without its offset, which may be another one tomorrow (summer time).
    shown = now.astimezone().replace(tzinfo=None)
    then = shown.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    if then <= shown:
        then += timedelta(days=1)
    return then.astimezone()


def end_of_night(text: str, due: datetime, now: datetime) -> datetime:
    """When a run that was due at some time is to stop.

    A run that begins late, because the machine slept or another run had its turn, still stops at
    the time of that night; if that is past, it gets as long as the night would have been.

    Args:
        text: Hours and minutes, such as "07:00".
        due: When the run was to begin.
        now: When it does.

    Raises:
        InputError: The text is not a time of day.
    """
    end = next_time(text, due)
    return end if end > now else now.astimezone() + (end - due)
