"""The demo and the self-test: the whole loop on generated images, and how fast this machine is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_unet.annotation import TrainingSet
from napari_unet.api import finish, finish_prediction, make_settings
from napari_unet.atomic import atomic_file, refuse_unwritable
from napari_unet.config import BACKGROUND, SegClass, TrainConfig, class_table
from napari_unet.export import export_labels
from napari_unet.inference import predict
from napari_unet.library import Model
from napari_unet.metrics import dense_dice, mean
from napari_unet.run import BadInput, Control, Event
from napari_unet.samples import cells
from napari_unet.training import train

SIZE = 512
PAINTED, UNSEEN = (0, 1), (2, 3)  # seeds of the generated images
STROKES = 24

Say = Callable[[str], None]


def run_demo(
    out: Path,
    seconds: float,
    headless: bool,
    control: Control,
    watch: Callable[[Event], None],
    say: Say,
) -> None:
    """Paint strokes, learn them, segment: in napari, or without a window on two images each.

    Without a window, masks, overlay pictures and the model are left in a folder.
    """
    config = make_settings(TrainConfig, {"seconds": seconds}, "--")
    if not headless and has_display() and _opens_window(say):
        return
    _claim(out)
    say(f"Two generated images with {STROKES} strokes of cell and background each:")
    training_set = TrainingSet(class_table(["cell"]))
    for seed in PAINTED:
        image, truth = cells(seed, SIZE)
        training_set.add(f"cells {seed}", image[None], scribble(truth, seed))
    model = finish(train(config, training_set, control, name="demo"), control, watch)
    model.save(out / "model")
    scores = [_segment(model, seed, out) for seed in UNSEEN]
    say(f"Dice on two unseen images: {', '.join(f'{s:.3f}' for s in scores)}")
    say(f"Masks, overlay pictures and the model are in {out.resolve()}")


def _claim(out: Path) -> None:
    """Make the folder of the results, unless something else is there."""
    used = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if used and not (out / "model" / "model.json").is_file():
        raise BadInput(f"{out} exists and is not a demo's folder; give another with --out.")
    refuse_unwritable(out / "model")


def scribble(truth: np.ndarray, seed: int) -> np.ndarray:
    """Short strokes inside the objects and in the background, as a hasty person paints them."""
    rng = np.random.default_rng(seed)
    out = np.zeros(truth.shape, np.uint8)
    for value, painted in ((1, 1), (0, BACKGROUND)):
        inside = np.argwhere(truth == value)
        for start in rng.choice(inside, STROKES):
            angle = rng.uniform(0, 2 * np.pi)
            along = np.arange(24)[:, None] * [np.sin(angle), np.cos(angle)]
            path = (start + along).astype(int)
            path = path[((path >= 1) & (path < np.array(truth.shape) - 1)).all(1)]
            for y, x in path:
                brush = (slice(y - 1, y + 2), slice(x - 1, x + 2))
                if (truth[brush] != value).any():  # a person stops at the edge
                    break
                out[brush] = painted
    return out


def _segment(model: Model, seed: int, out: Path) -> float:
    image, truth = cells(seed, SIZE)
    mask = finish_prediction(predict(model, image[None]), None).labels
    name = f"cells-{seed}"
    export_labels(out / f"{name}-mask.png", mask, classes=model.card.classes, overwrite=True)
    _picture(image, mask, model.card.classes, out / f"{name}-overlay.png")
    return mean(dense_dice(mask, truth, 1)) or 0.0


def _picture(
    image: np.ndarray, mask: np.ndarray, classes: tuple[SegClass, ...], path: Path
) -> None:
    """The image, and beside it the image with the mask drawn over it in the class colours."""
    from PIL import Image as Picture
    from skimage.segmentation import find_boundaries

    low, high = np.percentile(image, [1, 99.8])
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)[..., None] * np.full(3, 255.0)
    drawn = grey.copy()
    for number, seg_class in enumerate(classes, 1):
        color = np.array([int(seg_class.color[i : i + 2], 16) for i in (1, 3, 5)])
        inside = mask == number
        drawn[inside] = 0.75 * drawn[inside] + 0.25 * color
        drawn[find_boundaries(inside, mode="inner")] = color
    both = np.concatenate([grey, np.full((len(image), 8, 3), 255.0), drawn], 1)
    with atomic_file(path, overwrite=True) as temporary:
        Picture.fromarray(both.astype(np.uint8)).save(temporary)


def has_display() -> bool:
    """Whether a window could open here."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _opens_window(say: Say) -> bool:
    """Show the loop in napari: strokes painted, training under way; whether napari is there."""
    try:
        from napari_unet.gui.column import show_demo
    except ImportError:
        say('For the demo in a window: pip install "napari-unet[all]"')
        return False
    say("In napari: training starts on strokes that are painted already; go on painting.")
    image, truth = cells(PAINTED[0], SIZE)
    show_demo(image, scribble(truth, PAINTED[0]))
    return True
