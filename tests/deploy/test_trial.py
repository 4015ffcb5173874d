"""What the trial of two replicas counts as answered, refused and lost."""

from __future__ import annotations

from deploy.trial import Asked, _count

MOMENT = 10.0
BEFORE, ACROSS, AFTER = (1.0, 2.0), (9.0, 11.0), (12.0, 13.0)


def counts(*log: tuple[tuple[float, float], str]) -> dict[str, object]:
    """Of requests by when they began and ended, and how."""
    return _count("kill", [Asked(*when, outcome) for when, outcome in log], MOMENT)


def test_a_refusal_of_what_was_in_flight_is_counted_apart() -> None:
    """It may have been accepted; one that ended before the event or began after it was not."""
    found = counts(
        (BEFORE, "refused"), (ACROSS, "refused"), (ACROSS, "ok"), (AFTER, "refused"), (AFTER, "ok")
    )  # fmt: skip
    assert found == {
        "phase": "kill", "ok": 2, "ok_begun_after": 1, "refused": 2, "in_flight_at_event": 2,
        "refused_in_flight": 1, "lost_in_flight": 0, "lost_later": 0, "lost_as": {},
    }  # fmt: skip


def test_the_lost_are_told_by_when_they_began() -> None:
    found = counts((ACROSS, "cut off"), (AFTER, "ReadError"), (AFTER, "cut off"), (BEFORE, "ok"))
    assert (found["lost_in_flight"], found["lost_later"]) == (1, 2)
    assert found["lost_as"] == {"cut off": 2, "ReadError": 1}
    assert (found["refused"], found["refused_in_flight"], found["in_flight_at_event"]) == (0, 0, 1)
