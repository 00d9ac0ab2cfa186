"""The smaller levels of large masks: every second pixel of the level before, so labels stay."""

from __future__ import annotations

_SMALL = 1024  # pixels along the longer edge of a level that needs no smaller one


def level_count(shape: tuple[int, ...]) -> int:
    """How many levels a mask has, the mask itself counted."""
    count, edge = 1, max(shape[-2:])
    while edge > _SMALL:
        count, edge = count + 1, -(-edge // 2)
    return count


def level_shape(shape: tuple[int, ...], level: int) -> tuple[int, ...]:
    """The shape of a level; planes and times are kept."""
    return (*shape[:-2], *(-(-n // 2**level) for n in shape[-2:]))
