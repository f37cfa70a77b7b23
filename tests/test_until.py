"""`--until`: the next time the clock shows it, past midnight and through summer time."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import InputError
from pipeline.until import end_of_night, next_time


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-24T05:59:00Z", "07:00", "2026-11-24T06:00:00Z"),
        ("2026-11-24T06:00:00Z", "07:00", "2026-11-25T06:00:00Z"),
        ("2026-11-24T22:00:00Z", " 7:00 ", "2026-11-25T06:00:00Z"),
        ("2026-12-31T22:59:00Z", "00:00", "2026-12-31T23:00:00Z"),
        ("2026-10-24T20:00:00Z", "07:00", "2026-10-25T06:00:00Z"),  # summer time ends that night
        ("2026-03-28T21:00:00Z", "07:00", "2026-03-29T05:00:00Z"),  # and begins that night
    ],
)
def test_it_is_the_next_such_time(now: str, text: str, expected: str) -> None:
    found = next_time(text, datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(expected)
    assert found.tzinfo is not None


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-10-25T00:00:00Z", "02:30", "2026-10-25T00:30:00Z"),  # it comes twice that night
        ("2026-10-25T00:30:00Z", "02:30", "2026-10-25T01:30:00Z"),
        ("2026-10-25T01:30:00Z", "02:30", "2026-10-26T01:30:00Z"),
        ("2026-03-29T00:00:00Z", "02:30", "2026-03-29T01:30:00Z"),  # and is skipped that night
        ("2026-03-29T01:30:00Z", "02:30", "2026-03-30T00:30:00Z"),
    ],
)
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_it_is_never_past_where_the_clock_is_changed(
    now: str, text: str, expected: str, zone: str | None
) -> None:
    found = next_time(text, datetime.fromisoformat(now), zone)
    assert found == datetime.fromisoformat(expected)


@pytest.mark.usefixtures("berlin")
def test_it_is_meant_in_the_zone_that_is_named() -> None:
    now = datetime.fromisoformat("2026-11-24T12:00:00Z")
    found = next_time("07:00", now, "Asia/Tokyo")
    assert found == datetime.fromisoformat("2026-11-24T22:00:00Z")
    assert f"{found:%H:%M}" == "07:00"  # as it is told when it has come
    due = datetime.fromisoformat("2026-11-24T17:00:00Z")  # two o'clock there
    woken = due + timedelta(hours=7)
    assert end_of_night("07:00", due, due, "Asia/Tokyo") == found
    assert end_of_night("07:00", due, woken, "Asia/Tokyo") == woken + timedelta(hours=5)
    with pytest.raises(InputError, match="did you mean Europe/Berlin"):
        next_time("07:00", now, "Europe/Berln")


def test_it_is_within_a_day() -> None:
    now = datetime(2026, 5, 5, 12, tzinfo=UTC)
    assert now < next_time("23:59", now) <= now + timedelta(days=1)


@pytest.mark.parametrize("text", ["", "7", "24:00", "07:60", "7.00", "tomorrow", "07:00:00"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 07:00"):
        next_time(text, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_night_ends_when_it_should_or_is_as_long_as_it_would_have_been() -> None:
    due = datetime.fromisoformat("2026-03-10 02:00").astimezone()
    on_time = end_of_night("07:00", due, due + timedelta(seconds=20))
    assert on_time == datetime.fromisoformat("2026-03-10 07:00").astimezone()
    assert end_of_night("07:00", due, due + timedelta(hours=4)) == on_time
    woken = datetime.fromisoformat("2026-03-12 09:30").astimezone()
    assert end_of_night("07:00", due, woken) == woken + timedelta(hours=5)
    assert end_of_night("01:00", due, due) == due + timedelta(hours=23)
