"""Hours of the night: zones, malformed times, and summer time as Prefect's schedule has it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline import hours
from pipeline.errors import InputError
from pipeline.hours import Hours, check_zone, explain_changes, local_zone, parse_hours

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_a_time_and_a_zone() -> None:
    assert parse_hours(" 2:05 ", "Europe/Dublin") == Hours(2, 5, "Europe/Dublin")
    assert parse_hours("02:05", "UTC").cron == "5 2 * * *"
    assert parse_hours("2:05", "UTC").shown == "02:05"


@pytest.mark.parametrize("text", ["", "2", "24:00", "02:60", "2am", "02:00:00", "-1:00"])
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(InputError, match="give hours and minutes such as 02:00"):
        parse_hours(text, "UTC")


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("dublin", "did you mean Europe/Dublin"),
        ("../../etc/passwd", "give one like"),
        ("Nowhere/At all", "give one like"),
    ],
)
def test_what_is_no_zone(zone: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        check_zone(zone)


def test_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert local_zone() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "XYZ-3")  # a rule, not a name
    place = tmp_path / "zoneinfo" / "America" / "Bogota"
    place.parent.mkdir(parents=True)
    place.touch()
    link = tmp_path / "localtime"
    link.symlink_to(place)
    monkeypatch.setattr(hours, "_LOCALTIME", link)
    assert local_zone() == "America/Bogota"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe"])
@pytest.mark.parametrize("at", ["00:00", "00:30", "01:45", "02:00", "02:30", "03:00"])
def test_prefect_runs_once_a_night_just_as_is_explained(at: str, zone: str) -> None:
    """Every night of a year: told if, and only if, it is not at the time by the clock."""
    from prefect.server.schemas.schedules import CronSchedule

    asked = parse_hours(at, zone)
    told = explain_changes(asked, NOW)
    start = NOW.astimezone(ZoneInfo(zone))
    schedule = CronSchedule(cron=asked.cron, timezone=zone)
    dates = asyncio.run(schedule.get_dates(366, start=start))  # type: ignore[arg-type]
    days = [date.date() for date in dates]
    assert days == [days[0] + timedelta(days=number) for number in range(366)]
    for date in dates:
        line = f"on {date:%Y-%m-%d} the clock"
        if f"{date:%H:%M}" != at:
            assert f"{line} skips it, and the run begins at {date:%H:%M}" in told
        elif f"{line} shows it twice" in told:
            assert datetime.fromisoformat(date.isoformat()).fold == 0
        else:
            assert line not in told


def test_hours_that_no_change_touches_need_no_words() -> None:
    assert explain_changes(parse_hours("05:00", "Europe/Berlin"), NOW) == ""
    assert explain_changes(parse_hours("02:30", "Asia/Tokyo"), NOW) == ""
    told = explain_changes(parse_hours("02:30", "Europe/Berlin"), NOW)
    assert "on 2027-03-28 the clock skips it, and the run begins at 03:30" in told
    assert "on 2027-10-31 the clock shows it twice" in told
