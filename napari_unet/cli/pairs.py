"""Images and masks that belong together by their names, and what the values of masks mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.run import BadInput

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.io import Image
    from napari_unet.masks import Mapping


def read_pairs(images: Path, masks: Path, axes: str | None) -> list[tuple[Image, np.ndarray]]:
    """Images with their masks, matched by name."""
    from napari_unet.io import read_image
    from napari_unet.masks import read_masks

    paths = matched(images, masks)
    read = [read_image(image, axes) for image, _ in paths]
    labels = read_masks([mask for _, mask in paths], axes, [image.affine for image in read])
    return list(zip(read, labels, strict=True))


def matched(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """One image with one mask whatever their names, or those of two folders by name."""
    from napari_unet.io import list_images, match_pairs, refuse_twins

    first, second = list_images(images), list_images(masks)
    if images.exists() and masks.exists() and images.samefile(masks):
        raise BadInput(f"{images} is given twice, once as what to compare it with; give the masks.")
    if first == [images] and second == [masks]:
        return [(images, masks)]
    refuse_twins(first)
    return match_pairs(first, second)


def add_meaning(parser: argparse.ArgumentParser, of: str) -> None:
    """Offer to say what the values of masks mean."""
    parser.add_argument(
        "--map", help=f"What values of {of} mean, as 0=0,128=1,255=2 with 0 for background"
    )
    parser.add_argument("--objects", action="store_true", help=f"Values of {of} are objects")


def said_meaning(arguments: argparse.Namespace) -> Mapping | None:
    """The mapping that was given, if one was."""
    if arguments.map and arguments.objects:
        raise BadInput("--map says what values mean, --objects that each is an object; give one.")
    return parse_map(arguments.map) if arguments.map else None


def parse_map(text: str) -> Mapping:
    """The mapping that `--map` says."""
    from napari_unet.masks import Mapping

    try:
        values = {int(k): int(v) for k, v in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise BadInput(f"--map {text}: give pairs such as 0=0,255=1.") from None
    if any(not 0 <= c <= 254 for c in values.values()):
        raise BadInput(f"--map {text}: classes are 1..254 and 0 is background; give such numbers.")
    return Mapping(values)
