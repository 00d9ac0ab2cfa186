"""Touching nuclei told apart: a net that learned rims, and a mask of nuclei parted in other ways.

python benchmarks/objects.py --data DIR [--seconds 60] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import Target, plain, read, table, write_report
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

import napari_unet as nu
from napari_unet.config import PredictConfig
from napari_unet.instances import split_objects
from napari_unet.library import Model
from napari_unet.pictures import Picture
from napari_unet.run import Control
from napari_unet.segmenting import ObjectConfig, Result, Task, new_result, segment

SET, LEARNED, UNSEEN = "dsb2018_fluo", 5, 24
APART, SMOOTH = 5, 2.0  # pixels, of the watershed that was given a chance
OURS, NECKS = "ours: rims learned", "ours: mask, parted at necks"
PLAIN, GENTLE = "mask, watershed as in its gallery", "mask, watershed, smoothed, peaks apart"
PIECES = "mask, connected pieces"
METHODS = (OURS, NECKS, GENTLE, PLAIN, PIECES)
SCORES = ("AP at IoU 0.5", "AP at IoU 0.7", "count error")


def load(data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and the numbers of their nuclei."""
    masks = {path.stem: path for path in (data / SET / "masks").iterdir()}
    files = sorted((data / SET / "images").iterdir())
    return [(plain(read(file)), read(masks[file.stem]).astype(np.int64)) for file in files]


def segmented(model: Model, image: np.ndarray) -> Result:
    result = new_result(Picture("image", image[None]))
    settings, objects = PredictConfig(probabilities=True), ObjectConfig()
    list(segment(model, [Task(result)], settings, Control(), objects))
    return result


def flooded(mask: np.ndarray, smooth: float = 0.0, **peaks: int) -> np.ndarray:
    """The watershed of the distances to the background, as scikit-image's gallery has it."""
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), smooth)
    places = peak_local_max(
        distance, footprint=np.ones((3, 3)), labels=ndimage.label(mask)[0], **peaks
    )
    seeds = np.zeros(mask.shape, int)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    return watershed(-distance, seeds, mask=mask)


PARTED: dict[str, Callable[[Result], np.ndarray]] = {
    NECKS: lambda result: result.objects,
    PLAIN: lambda result: flooded(result.labels > 0),
    GENTLE: lambda result: flooded(result.labels > 0, SMOOTH, min_distance=APART),
    PIECES: lambda result: split_objects(result.labels, split=False),
}


def scores(found: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """Average precision, TP / (TP + FP + FN), at two overlaps, and the relative error in number."""
    both = np.zeros((int(truth.max()) + 1, int(found.max()) + 1))
    np.add.at(both, (truth.ravel(), found.ravel().astype(np.int64)), 1)
    sizes = both.sum(1, keepdims=True) + both.sum(0, keepdims=True)
    iou = (both / np.maximum(sizes - both, 1))[1:, 1:]
    n_true, n_found = (int((both.sum(axis)[1:] > 0).sum()) for axis in (1, 0))
    hits = [int((iou > least).sum()) for least in (0.5, 0.7)]
    precision = (n / max(1, n_true + n_found - n) for n in hits)
    return (*precision, abs(n_found - n_true) / max(1, n_true))


def run(items: list[tuple[np.ndarray, np.ndarray]], seed: int, seconds: float) -> dict[str, list]:
    """Learn from five, and score each way on the same unseen images."""
    order = np.random.default_rng(seed).permutation(len(items))
    learned = [items[i] for i in order[:LEARNED]]
    unseen = [items[i] for i in order[LEARNED : LEARNED + UNSEEN]]
    images = [image for image, _ in learned]
    same = {"seconds": seconds, "seed": seed}
    of_rims = nu.train(images, [m for _, m in learned], objects=True, **same)
    of_masks = nu.train(images, [m > 0 for _, m in learned], **same)
    found: dict[str, list] = {method: [] for method in METHODS}
    for image, truth in unseen:
        found[OURS].append(scores(segmented(of_rims, image).objects, truth))
        result = segmented(of_masks, image)
        for method, parted in PARTED.items():
            found[method].append(scores(parted(result), truth))
    print(seed, {m: np.round(np.mean(v, 0), 3).tolist() for m, v in found.items()}, flush=True)
    return {method: np.mean(values, 0).tolist() for method, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--seconds", type=float, default=60, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    items = load(options.data)
    runs = [run(items, seed, options.seconds) for seed in range(options.seeds)]
    mean = {m: [statistics.mean(r[m][i] for r in runs) for i in range(3)] for m in METHODS}
    rows = [(method, *(f"{value:.3f}" for value in mean[method])) for method in METHODS]
    gains = [mean[OURS][i] - max(mean[PLAIN][i], mean[GENTLE][i]) for i in range(2)]
    write_report(
        "objects",
        f"Touching nuclei: {LEARNED} annotated images, {options.seconds:g} s, "
        f"{UNSEEN} unseen, {options.seeds} seeds",
        table(("", *SCORES), rows),
        {"mean": mean, "runs": json.loads(json.dumps(runs))},
        [
            Target("AP at IoU 0.5, over the better watershed", gains[0], 0.02),
            Target("AP at IoU 0.7, over the better watershed", gains[1], 0.02),
        ],
    )


if __name__ == "__main__":
    main()
