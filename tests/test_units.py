"""Units of length: their names, however they are written, and how many of one are in another."""

from __future__ import annotations

import pytest

from napari_unet.units import METERS, SYMBOLS, factor, full_name, in_one_unit


@pytest.mark.parametrize(
    ("said", "name"),
    [
        *((name, name) for name in METERS),
        *((symbol, name) for name, symbol in SYMBOLS.items()),
        ("um", "micrometer"),
        ("\u03bcm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("microns", "micrometer"),
        ("Micrometres", "micrometer"),
        (" millimetre ", "millimeter"),
        ("inches", "inch"),
        ("Mm", "pixel"),
        ("ms", "pixel"),
        ("pixels", "pixel"),
        ("furlong", "pixel"),
        ("", "pixel"),
        (None, "pixel"),
    ],
)
def test_a_unit_has_one_name_here(said, name):
    assert full_name(said) == name


def test_each_unit_has_a_symbol():
    assert list(SYMBOLS) == list(METERS)


@pytest.mark.parametrize(
    ("unit", "into", "times"),
    [
        ("nanometer", "millimeter", 1e-6),
        ("micrometer", "millimeter", 1e-3),
        ("centimeter", "micrometer", 1e4),
        ("meter", "meter", 1.0),
    ],
)
def test_factors_are_exact(unit, into, times):
    assert factor(unit, into) == times


@pytest.mark.parametrize(
    ("sizes", "said", "result"),
    [
        ({"Z": 2.0, "X": 5.0}, {"Z": "um", "X": "nm"}, ({"Z": 2000.0, "X": 5.0}, "nanometer")),
        ({"Z": 2.0, "X": 0.1}, {"Z": "mm", "X": "mm"}, ({"Z": 2.0, "X": 0.1}, "millimeter")),
        ({"Z": 2.0, "X": 0.1}, {"X": "mm"}, ({"Z": 2.0, "X": 0.1}, "millimeter")),
        ({}, {"X": "mm"}, ({}, "pixel")),
    ],
)
def test_sizes_are_brought_to_one_unit(sizes, said, result):
    assert in_one_unit(sizes, said) == result
