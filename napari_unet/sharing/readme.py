"""What a package says of its model to people: what it needs, gives and cannot promise."""

from __future__ import annotations

from napari_unet.cards import Card
from napari_unet.models import Net
from napari_unet.sharing.onnx import describe_tensors
from napari_unet.sharing.trial import Axis


def package_readme(card: Card, net: Net, axes: list[Axis]) -> str:
    """The documentation of a package in Markdown."""
    sections = [
        card.describe().rstrip(),
        _preparation(card),
        _sizes(net, axes),
        _tiles(net),
        _validation(card),
        _way_back(),
    ]
    return "\n\n".join([*filter(None, sections), ""])


def _preparation(card: Card) -> str:
    return f"""## What goes in and what comes out

{describe_tensors(card)}

The scaling is part of this package's description (scale_range, scale_linear, clip), so programs
that follow it take the image as it is. napari-unet itself takes the percentiles of an image of
more than a million pixels from evenly spread blocks, takes those of a plane from its whole stack,
those of the rest where nearly all pixels have one value, and reads what is not a number as -1;
apart from that, both are the same.

The test image is made up: a picture of nuclei with the intensities of the first training image."""


def _sizes(net: Net, axes: list[Axis]) -> str:
    steps, least, reach, halo = (
        " x ".join(map(str, row))
        for row in (net.stride, [a.least for a in axes], net.halo, [a.halo for a in axes])
    )
    text = f"""## Sizes

The ONNX weights take sizes that are multiples of {steps} pixels, the PyTorch weights any; at
least {least} are asked for here, so that tiles can overlap by the halo.
An output pixel can see {reach} pixels far along the axes. Programs that pad images by the halo get
other results near the border than napari-unet, which does not, and slightly other ones elsewhere if
they measure the percentiles on the padded image."""
    if len(axes) == 3:
        text += f"""
The halo that is declared is less than what the network sees, {halo}, so that tiles of volumes need
not be very large: near the borders of tiles the result differs a little from that of the whole."""
    return text


def _tiles(net: Net) -> str:
    if net.tile_independent:
        return ""
    return """## Tiles

The network normalises by the mean and the spread of all that it is given at once, so the result of
a tile differs a little from that of the whole image. Predict an image whole if it fits, or in large
tiles. napari-unet takes these statistics from the whole image, and its tiles agree."""


def _validation(card: Card) -> str:
    dice = card.current.dice if card.current else None
    found = "Nothing was held out from training, so it was not judged."
    if dice is not None:
        found = f"On annotation that was held out from training, the mean Dice is {dice:.3f}."
    return f"""## Validation

{found}
To judge it on your images, draw masks of some that it was not trained on and compare:
`napari-unet evaluate PREDICTED TRUE` gives Dice and IoU for each class."""


def _way_back() -> str:
    return """## In napari-unet

`napari-unet models import` takes this package as it is; so does Import in the Models dock."""
