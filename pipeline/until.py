"""Times of day as people give them for the end of a run."""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from pipeline.errors import InputError
from pipeline.hours import check_zone

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def next_time(text: str, now: datetime, zone: str | None = None) -> datetime:
    """The next moment at which the clock shows a time: today, or tomorrow if past.

    A time that the clock skips is an hour later, as for the beginning of a night
    (`pipeline.hours`); one that it shows twice comes twice.

    Args:
        text: Hours and minutes, such as "07:00" or "7:00".
        now: The present, in any time zone.
        zone: The name of a time zone; None for this machine's clock.

    Raises:
        InputError: The text is not a time of day, or there is no such zone.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"until={text!r} is not a time of day; give hours and minutes such as 07:00"
        )
    place = ZoneInfo(check_zone(zone)) if zone else None
    # What the clock shows, without its offset, which may be another one tomorrow (summer time).
    shown = now.astimezone(place).replace(tzinfo=None)
    today = shown.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    moments = (
        _moment((today + timedelta(days=days)).replace(fold=fold), place)
        for days in (0, 1)
        for fold in (0, 1)
    )
    return next(moment for moment in moments if moment > now)


def end_of_night(text: str, due: datetime, now: datetime, zone: str | None = None) -> datetime:
    """When a run that was due at some time is to stop.

    A run that begins late, because the machine slept or another run had its turn, still stops at
    the time of that night; if that is past, it gets as long as the night would have been.

    Args:
        text: Hours and minutes, such as "07:00".
        due: When the run was to begin.
        now: When it does.
        zone: The name of the time zone they are meant in; None for this machine's clock.

    Raises:
        InputError: The text is not a time of day, or there is no such zone.
    """
    end = next_time(text, due, zone)
    return end if end > now else now.astimezone() + (end - due)


def _moment(shown: datetime, place: ZoneInfo | None) -> datetime:
    """The moment at which a clock shows this, with the offset from UTC that it has then.

    Python compares two times of one zone by what the clock shows; with an offset, by the moment.
    """
    # By the timestamp, as astimezone() takes a time that is skipped for one an hour earlier.
    real = datetime.fromtimestamp(shown.replace(tzinfo=place).timestamp(), UTC)
    return real.astimezone(timezone(real.astimezone(place).utcoffset() or timedelta()))
