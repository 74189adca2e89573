"""Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Places of the points that no other one beats, where less is better in every number, by their numbers. Of equal
    points all stay."""
    found = []
    for place, point in enumerate(points):
        beaten = any(
            other != point and all(theirs <= mine for theirs, mine in zip(other, point, strict=True))
            for other in points
        )
        if not beaten:
            found.append(place)
    return sorted(found, key=lambda place: points[place])
