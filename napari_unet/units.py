"""Units of length: what they are called here and elsewhere, and how long they are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

PIXEL = "pixel"  # where no unit is known

# By their full names: as fractions, so that numbers stay what they are from one unit to another.
METERS = {
    "picometer": Fraction(1, 10**12),
    "angstrom": Fraction(1, 10**10),
    "nanometer": Fraction(1, 10**9),
    "micrometer": Fraction(1, 10**6),
    "millimeter": Fraction(1, 10**3),
    "centimeter": Fraction(1, 10**2),
    "inch": Fraction(254, 10**4),
    "decimeter": Fraction(1, 10),
    "meter": Fraction(1),
    "kilometer": Fraction(10**3),
}
# As OME writes them.
SYMBOLS = {
    "picometer": "pm",
    "angstrom": "\u00c5",
    "nanometer": "nm",
    "micrometer": "\u00b5m",
    "millimeter": "mm",
    "centimeter": "cm",
    "inch": "in",
    "decimeter": "dm",
    "meter": "m",
    "kilometer": "km",
}
_OTHERS = {
    "\u212b": "angstrom",
    "um": "micrometer",
    "\u03bcm": "micrometer",  # the Greek letter, not the sign
    "\\u00b5m": "micrometer",  # as ImageJ escapes it
    "\\u03bcm": "micrometer",
    "micron": "micrometer",
    "inches": "inch",
    '"': "inch",
}
_NAMES = {symbol: name for name, symbol in SYMBOLS.items()} | {n: n for n in METERS} | _OTHERS


def full_name(said: Any) -> str:
    """The full name of a unit, whatever way a file writes it; "pixel" if it is none of length."""
    name = str(said or "").strip()
    if name in _NAMES:
        return _NAMES[name]
    plain = name.lower().replace("metre", "meter").removesuffix("s")
    # A symbol means something else in capitals: Mm are not mm.
    return _NAMES.get(plain, PIXEL) if plain not in SYMBOLS.values() else PIXEL


def factor(unit: str, into: str) -> float:
    """How many of a unit one of another is, both by their full names."""
    return float(METERS[unit] / METERS[into])


def in_one_unit(sizes: dict[str, float], said: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Sizes along axes whose units may differ, in that of the last one, and its full name."""
    units = {axis: full_name(said.get(axis)) for axis in sizes}
    unit = next(reversed(units.values()), PIXEL)
    if PIXEL in units.values():
        return sizes, unit
    alike = {a: sizes[a] if u == unit else sizes[a] * factor(u, unit) for a, u in units.items()}
    return alike, unit
