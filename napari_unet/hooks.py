"""What napari asks for by name in the manifest: the sample images, as plain layer data."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_unet import samples

LayerData = tuple[np.ndarray, dict[str, Any], str]


def _layers(
    name: str, image_and_mask: tuple[np.ndarray, np.ndarray], **image: Any
) -> list[LayerData]:
    """Lay an image's true mask over it."""
    pixels, mask = image_and_mask
    return [
        (pixels, {"name": name, **image}, "image"),
        (mask, {"name": f"{name} mask", "opacity": 0.5}, "labels"),
    ]


def sample_cells() -> list[LayerData]:
    """Generate cells in one grey plane."""
    return _layers("cells", samples.cells(seed=0, size=256))


def sample_tissue() -> list[LayerData]:
    """Generate stained tissue in colour."""
    return _layers("tissue", samples.tissue(seed=0, size=256), rgb=True)


def sample_volume() -> list[LayerData]:
    """Generate a grey volume."""
    return _layers("volume", samples.volume(seed=0, shape=(32, 128, 128)))
