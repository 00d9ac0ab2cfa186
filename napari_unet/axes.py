"""Which axis of an array is which: said by its file, given by the user, guessed only if clear."""

from __future__ import annotations

from napari_unet.run import BadInput

ORDER = "CTZYX"
UNNAMED = "?"

_NUMBERS = "biuf"
_RGB_OR_RGBA = (3, 4)
_A_FEW = range(2, 5)
_IMAGE_EDGE = 16


def resolve_axes(
    shape: tuple[int, ...], said: str | None, given: str | None, where: str, mask: bool = False
) -> str:
    """Name the axes of an array in its own order with letters of T, C, Z, Y, X, or refuse.

    `said` comes from the file, "?" standing for an axis it does not name, and is None if it names
    none; `given` comes from the user and wins.
    """
    if given is not None or (said is not None and UNNAMED not in said):
        return _checked(given or said or "", shape, where)
    if said is not None and "".join(sorted(said)) == "?SXY":  # a stack of colour pictures
        return _checked(said.replace(UNNAMED, "Z"), shape, where)
    unclear = said is not None and set(said) - {UNNAMED, "Y", "X"}
    guess = None if unclear else (_guess_mask(shape) if mask else _guess(shape))
    if guess is None:
        raise BadInput(
            f"{where} has the shape {shape}, which can be read in more than one way: "
            'give its axes, e.g. `--axes ZYX`, in Python `axes="ZYX"`; in napari, drop it onto the '
            "canvas."
        )
    return guess


def check_array(shape: tuple[int, ...], kind: str, where: str) -> None:
    """Refuse what cannot be an image whatever its axes are."""
    if kind not in _NUMBERS:
        raise BadInput(f"{where} does not hold real numbers: give an array of integers or floats.")
    if not 2 <= len(shape) <= len(ORDER):
        raise BadInput(f"{where} has the shape {shape}: give an array of 2 to 5 axes, such as ZYX.")
    if 0 in shape:
        raise BadInput(f"{where} is empty, its shape is {shape}: give an image with pixels.")


def _checked(axes: str, shape: tuple[int, ...], where: str) -> str:
    named = axes.upper().replace("S", "C")
    if len(named) != len(shape):
        raise BadInput(
            f"{where} has the shape {shape}, but the axes {axes} are {len(axes)}: "
            f"give {len(shape)} letters, e.g. `--axes ZYX`."
        )
    valid = set(named) <= set(ORDER) and len(set(named)) == len(named) and {"Y", "X"} <= set(named)
    if not valid:
        raise BadInput(
            f"{where} cannot have the axes {axes}: "
            "use each of the letters T, C, Z, Y, X at most once, Y and X always."
        )
    return named


def _guess(shape: tuple[int, ...]) -> str | None:
    """Read an array without names as an image; None where that could be wrong."""
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3:
        return _guess_three(*shape)
    if len(shape) == 4 and shape[3] in _RGB_OR_RGBA and shape[0] not in _RGB_OR_RGBA:
        return "ZYXC"
    return None


def _guess_three(first: int, middle: int, last: int) -> str | None:
    if last in _RGB_OR_RGBA:
        return None if first in _A_FEW else "YXC"
    if first == 1:
        return "CYX"
    if last == 1:
        return "YXC"
    if first in _A_FEW and min(middle, last) >= _IMAGE_EDGE:
        return "CYX"
    return None


def _guess_mask(shape: tuple[int, ...]) -> str | None:
    """Read an array without names as a mask, whose only channels are those of colours.

    Whether a stack is in depth or in time makes no difference to its order.
    """
    if len(shape) in (3, 4) and shape[-1] in _RGB_OR_RGBA:
        return _guess(shape)
    return {2: "YX", 3: "ZYX", 4: "TZYX"}.get(len(shape))
