"""Hours of the night in a time zone: which there are, and what summer time does to them.

In: a time of day and the name of a zone, as people give them. Out: both checked, and a sentence
about the nights on which the clock skips that time or shows it twice.
"""

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pipeline.errors import InputError

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_LOCALTIME = Path("/etc/localtime")
_DAYS = 366


@dataclass(frozen=True, slots=True)
class Hours:
    """When a run begins, every day.

    Attributes:
        hour, minute: As the clock shows them in `zone`.
        zone: The name of a time zone, such as "Europe/Dublin".
    """

    hour: int
    minute: int
    zone: str

    @property
    def cron(self) -> str:
        """The same as a cron line."""
        return f"{self.minute} {self.hour} * * *"

    @property
    def shown(self) -> str:
        """The time of day, such as "02:00"."""
        return f"{self.hour:02d}:{self.minute:02d}"


def parse_hours(text: str, zone: str | None = None) -> Hours:
    """Reads a time of day, and the zone it is meant in.

    Args:
        text: Hours and minutes, such as "02:00" or "2:00".
        zone: The name of a time zone; None for this machine's.

    Raises:
        InputError: The text is not a time of day, or there is no such zone.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InputError(f"at={text!r} is not a time of day; give hours and minutes such as 02:00")
    return Hours(int(match[1]), int(match[2]), check_zone(zone) if zone else local_zone())


def check_zone(name: str) -> str:
    """The name of a zone, if there is one of that name.

    Raises:
        InputError: There is none; the message names near ones.
    """
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(available_timezones())
        near = get_close_matches(name, known, n=3) or [
            zone for zone in known if name.lower() in zone.lower()
        ]
        hint = f"did you mean {' or '.join(near[:3])}?" if near else "give one like Europe/Dublin"
        raise InputError(f"there is no time zone timezone={name!r}; {hint}") from None


def local_zone() -> str:
    """The name of this machine's time zone; "UTC" if it has none that has a name."""
    # TZ may be a rule and not a name; time.tzset() has looked at it already.
    for name in (_zone_of_environment(), _zone_of_link()):
        if name:
            return name
    offset = time.localtime().tm_gmtoff
    if offset:
        raise InputError(
            "this machine's time zone has no name that can be found (its clock is "
            f"offset_s={offset!r} from UTC); name it with --timezone, such as Europe/Dublin"
        )
    return "UTC"


def _zone_of_environment() -> str:
    return _known(os.environ.get("TZ", "").removeprefix(":"))


def _zone_of_link() -> str:
    try:
        target = str(_LOCALTIME.resolve(strict=True))
    except OSError:
        return ""
    return _known(target.partition("/zoneinfo/")[2])


def _known(name: str) -> str:
    try:
        return ZoneInfo(name).key if name else ""
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ""


def explain_changes(hours: Hours, now: datetime) -> str:
    """What summer time does to these hours within a year; empty if nothing.

    Prefect's cron schedule, which is held to this by a test, runs once on each of those nights: an
    hour later by the clock where the time is skipped, and the first time where it comes twice.
    """
    zone = ZoneInfo(hours.zone)
    today = now.astimezone(zone).replace(
        hour=hours.hour, minute=hours.minute, second=0, microsecond=0, tzinfo=None
    )
    said: list[str] = []
    for day in range(_DAYS):
        shown = today + timedelta(days=day)
        first, second = (shown.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
        if first == second:
            continue
        real = shown.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
        if real.replace(tzinfo=None) != shown:
            said.append(
                f"on {shown:%Y-%m-%d} the clock skips it, and the run begins at {real:%H:%M}"
            )
        else:
            said.append(
                f"on {shown:%Y-%m-%d} the clock shows it twice; the run begins the first time"
            )
    return f"summer time in {hours.zone}: {'; '.join(said)}" if said else ""
