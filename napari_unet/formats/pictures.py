"""What lies in a PNG, JPEG, BMP or GIF."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.formats.raw import Raw, head
from napari_unet.run import BadInput

MAX_PIXELS = 10**9

_PICTURES = ("PNG", "JPEG", "BMP", "DIB", "GIF")  # Pillow opens more, Ghostscript among them
_ANIMATED = ("PNG", "GIF")
_PILLOW = threading.Lock()


def read_picture(path: Path, as_mask: bool) -> Raw:
    """Read a picture; as a mask, one with a palette gives its indices."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _no_pixel_limit(), Image.open(path, formats=_PICTURES) as picture:
            _check_picture(picture, path)
            data = _deep_png(path) if _is_deep_png(path) else _pixels(picture, as_mask)
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} is not an image of a kind read here: save it as TIFF, PNG, npy or zarr."
        ) from error
    return Raw(data, "YXS"[: data.ndim], lossy=picture.format in ("JPEG", "MPO"))


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is global, while ours holds."""
    from PIL import Image

    with _PILLOW:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_picture(picture: Any, path: Path) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"{path} claims {width} x {height} pixels, too many to load whole: "
            "save it as a tiled TIFF or zarr."
        )
    frames = getattr(picture, "n_frames", 1)
    if picture.format in _ANIMATED and frames > 1:
        raise BadInput(
            f"{path} is an animation of {frames} frames: save it as a TIFF stack or one file each."
        )


def _pixels(picture: Any, as_mask: bool) -> np.ndarray:
    # EXIF orientation is not applied: a mask carries none and would no longer lie on its image.
    mode = picture.mode
    if mode in ("P", "PA"):
        return _indices(picture) if as_mask else _palette_colors(picture)
    if mode in ("LA", "La"):
        picture = picture.convert("L")
    elif mode not in ("1", "L", "I", "F", "RGB") and not mode.startswith("I;"):
        picture = picture.convert("RGB")
    return np.array(picture)


def _indices(picture: Any) -> np.ndarray:
    data = np.array(picture)
    return data if data.ndim == 2 else data[..., 0]


def _palette_colors(picture: Any) -> np.ndarray:
    colors = np.array(picture.convert("RGB"))
    return colors[..., 0] if bool((colors == colors[..., :1]).all()) else colors


def _is_deep_png(path: Path) -> bool:
    """Whether Pillow would cut 16 bits to 8, as it does with all PNGs but plain grey ones."""
    start = head(path, 26)
    return start.startswith(b"\x89PNG") and len(start) == 26 and start[24] == 16 and start[25] != 0


def _deep_png(path: Path) -> np.ndarray:
    import imagecodecs

    data = imagecodecs.png_decode(path.read_bytes())
    colors = data.shape[-1] - (data.shape[-1] in (2, 4))
    return data[..., 0] if colors == 1 else data[..., :colors]
