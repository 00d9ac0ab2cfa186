"""Whether tiles show: tiled against untiled probabilities of each architecture on a real image.

python benchmarks/seams.py --data DIR
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import SETS, Target, load_set, table, write_report

from napari_unet.annotation import TrainingSet
from napari_unet.config import PredictConfig, TrainConfig, class_table
from napari_unet.inference import predict
from napari_unet.library import Model
from napari_unet.models import ARCHITECTURES
from napari_unet.run import Predicted, Tiled, Trained
from napari_unet.samples import cells
from napari_unet.training import train

EXACT = 1e-4  # nets without tile-wide statistics agree to this in float32
Cuts = tuple[set[int], set[int]]  # rows and columns at which a tile begins or ends


@dataclass(frozen=True)
class Seams:
    """What tiling changes."""

    independent: bool
    tiles: int
    spread: float  # of the probabilities, 1st to 99th percentile: in a flat map no seam can show
    largest: float  # difference of probability
    percentile: float  # the 99.9th of the differences
    flipped: float  # part of the pixels whose class changes
    tiled: float  # the mean step of probability across cuts over that elsewhere
    untiled: float  # the same, at the same places, of the prediction without tiles


def planes(image: np.ndarray) -> np.ndarray:
    """The image with its channels first."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def pictures(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """An image and its mask to learn from, another to predict, and what they are."""
    if options.data is None:
        image, mask = cells(0, 1024)
        return planes(image), mask, planes(cells(1, 1024)[0]), "generated cells"
    items = load_set(options.data, options.set)
    return planes(items[0].image), items[0].mask, planes(items[-1].image), options.set


def learn(arch: str, image: np.ndarray, mask: np.ndarray, options: argparse.Namespace) -> Model:
    """A net trained for some seconds, so that its probabilities mean something."""
    examples = TrainingSet(class_table(1))
    examples.add("image", image, mask, complete=True)
    config = TrainConfig(arch=arch, seconds=options.seconds, device=options.device)
    *_, last = train(config, examples)
    assert isinstance(last, Trained)
    return last.model


def probabilities(model: Model, image: np.ndarray, **settings: Any) -> tuple[np.ndarray, Cuts, int]:
    """The probability of class 1, where tiles were cut, and into how many."""
    cuts: Cuts = (set(), set())
    tiles, found = 0, np.empty(0)
    for event in predict(model, image, PredictConfig(probabilities=True, **settings)):
        if isinstance(event, Tiled):
            tiles += 1
            for axis, part in enumerate(event.region):
                cuts[axis].update({part.start, part.stop} - {0, image.shape[1 + axis]})
        elif isinstance(event, Predicted):
            found = event.probabilities[0]
    return found, cuts, tiles


def contrast(values: np.ndarray, cuts: Cuts) -> float:
    """The mean step between neighbours on either side of a cut, over that of all others."""
    across, elsewhere = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis))
        at = np.zeros(steps.shape[axis], bool)
        at[[cut - 1 for cut in cuts[axis]]] = True
        across.append(np.compress(at, steps, axis).ravel())
        elsewhere.append(np.compress(~at, steps, axis).ravel())
    return float(np.concatenate(across).mean() / np.concatenate(elsewhere).mean())


def compare(model: Model, image: np.ndarray, options: argparse.Namespace) -> Seams:
    """Predict with tiles and without."""
    settings = {"device": options.device, "precision": options.precision}
    tiled, cuts, tiles = probabilities(model, image, tile=options.tile, **settings)
    whole, _, pieces = probabilities(model, image, tile=max(image.shape), **settings)
    if tiles < 4 or pieces != 1:
        raise SystemExit(f"{tiles} and {pieces} tiles: choose --tile well below the image's edge")
    difference = np.abs(tiled - whole)
    return Seams(
        model.net.tile_independent,
        tiles,
        float(np.subtract(*np.percentile(whole, (99, 1)))),
        float(difference.max()),
        float(np.percentile(difference, 99.9)),
        float(((tiled > 0.5) != (whole > 0.5)).mean()),
        contrast(tiled, cuts),
        contrast(whole, cuts),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the sets; without it, generated cells")
    parser.add_argument("--set", choices=SETS, default="usiigaci_phase")
    parser.add_argument("--archs", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--seconds", type=float, default=20, help="of training each")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    image, mask, unseen, what = pictures(options)
    found = {}
    for arch in options.archs:
        found[arch] = compare(learn(arch, image, mask, options), unseen, options)
        print(arch, found[arch], flush=True)
    head = ("net", "statistics", "tiles", "spread", "largest difference", "99.9th percentile")
    head += ("pixels that change class", "step at cuts / elsewhere, tiled", "untiled")
    rows = [
        (
            arch,
            "per pixel" if s.independent else "tile-wide",
            s.tiles,
            f"{s.spread:.2f}",
            f"{s.largest:.2g}",
            f"{s.percentile:.2g}",
            f"{s.flipped:.2%}",
            f"{s.tiled:.3f}",
            f"{s.untiled:.3f}",
        )
        for arch, s in found.items()
    ]
    size = " x ".join(map(str, unseen.shape[1:]))
    write_report(
        "seams",
        f"Tiles of {options.tile} against one tile, {what}, {size}, {options.precision}",
        table(head, rows),
        {"found": {arch: vars(s) for arch, s in found.items()}},
        [t for arch, s in found.items() for t in targets(arch, s, options.precision)],
    )


def targets(arch: str, seams: Seams, precision: str) -> list[Target]:
    """Equality where the net allows it, and no visible seam."""
    found = [
        Target(f"{arch}: spread of probability", seams.spread, 0.1),
        Target(f"{arch}: step at cuts, tiled / untiled", seams.tiled / seams.untiled, 1.1, True),
    ]
    if seams.independent and precision == "float32":
        found.append(Target(f"{arch}: largest difference", seams.largest, EXACT, True))
    return found


if __name__ == "__main__":
    main()
