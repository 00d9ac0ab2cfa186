"""A user who paints and corrects while something learns: Dice over the seconds of their time.

    python benchmarks/simulated_user.py --data DIR [--sets NAME ...] [--methods ours forest monai]

The user looks at the newest mask of an image, paints a capsule inside the largest region that is
wrong, as thick as fits and never across a true border, and goes on to the next image after some
strokes. A stroke takes 0.4 s and its length at 400 px/s; so long does the method learn. What the
user, the scoring and the evaluation cost is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import chart
import numpy as np
import rivals
import torch
from common import (
    RESULTS,
    SETS,
    Item,
    Target,
    dice,
    load_set,
    machine,
    measured,
    split,
    table,
    write_report,
)

import napari_unet as nu
from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, TrainConfig, class_table
from napari_unet.device import choose_numerics
from napari_unet.run import Control, Peeked, Stepped
from napari_unet.training import train

K = 3  # images to paint on
PER_STROKE, SPEED = 0.4, 400.0  # seconds to look and move; pixels in a second
THICKEST, LONGEST, THINNEST = 12, 60, 1.5  # radius and length of a stroke, in pixels
STROKES = 6  # on one image before the next
TIMES = (5.0, 15.0, 30.0, 60.0, 120.0)
LOOK_SHARE = 0.1  # of the time, for the masks that the user looks at: the most it is in the viewer
FOREST_PIXELS = 20_000
TITLES = {
    "isbi2012_em": "EM membranes",
    "dsb2018_fluo": "fluorescent nuclei",
    "dsb2018_he": "stained tissue, nuclei",
    "usiigaci_phase": "phase contrast, cells",
    "wbc_smear": "blood smear, white cells",
    "axon_sem": "SEM, axons",
    "ham10000_derm": "skin, lesions",
}
CHART = RESULTS.parents[1] / "docs" / "images" / "simulated-user.svg"
LEAST_WRONG = 20  # pixels, below which there is nothing to correct


class Method(Protocol):
    """Something that learns from strokes."""

    def learn(self, annotations: Sequence[np.ndarray], seconds: float) -> None:
        """Learn for so long from what is painted now."""

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The mask of an image as far as it has learned; nothing at first."""


class Ours:
    """The engine with every setting at its default."""

    def __init__(
        self, images: Sequence[np.ndarray], seed: int, pace: float = 0.0, **settings: Any
    ) -> None:
        """With a pace, so many steps are a second, however long they take."""
        self.pace, self.steps = pace, 0
        self.images = [np.moveaxis(np.atleast_3d(i), -1, 0) for i in images]
        self.set = TrainingSet(class_table(1))
        for number, image in enumerate(self.images):
            self.set.add(str(number), image)
        self.control = Control()
        # It must not rest and wait for the user, who waits for it.
        self.config = TrainConfig(seed=seed, patience=10**6, **settings)
        self.events: Iterator | None = None
        self.debt = 0.0

    def learn(self, annotations: Sequence[np.ndarray], seconds: float) -> None:
        for number, annotation in enumerate(annotations):
            self.set.annotate(str(number), annotation)
        if (self.set.counts == 0).any():
            return
        if self.events is None:
            self.events = train(self.config, self.set, self.control)
        end = self._now() + (1 - LOOK_SHARE) * seconds - self.debt
        while self._now() < end:
            self.steps += isinstance(next(self.events), Stepped)
        self.debt = max(0.0, self._now() - end)

    def _now(self) -> float:
        return self.steps / self.pace if self.pace else time.perf_counter()

    def predict(self, image: np.ndarray) -> np.ndarray:
        if self.events is None:
            return np.zeros(image.shape[:2], np.uint8)
        start = self._now()
        self.control.ask()
        peeked = next(e for e in self.events if isinstance(e, Peeked))
        self.debt += self._now() - start  # it may have judged first
        return nu.predict(peeked.model, image)


class Forest:
    """A random forest on multiscale features, fitted anew as often as there is time for it."""

    def __init__(self, images: Sequence[np.ndarray], seed: int) -> None:
        self.features = [rivals.features(image) for image in images]
        self.images, self.seed = images, seed
        self.forest, self.left = None, 0.0

    def learn(self, annotations: Sequence[np.ndarray], seconds: float) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self.left += seconds
        rows = [f[a.ravel() > 0] for f, a in zip(self.features, annotations, strict=True)]
        truth = np.concatenate([a[a > 0] for a in annotations]) == 1
        if self.left <= 0 or len(np.unique(truth)) < 2:
            return
        start = time.perf_counter()
        chosen = np.random.default_rng(self.seed).permutation(len(truth))[:FOREST_PIXELS]
        forest = RandomForestClassifier(100, max_depth=20, n_jobs=-1, random_state=self.seed)
        self.forest = forest.fit(np.concatenate(rows)[chosen], truth[chosen])
        self.left = min(0.0, self.left - (time.perf_counter() - start))

    def predict(self, image: np.ndarray) -> np.ndarray:
        if self.forest is None:
            return np.zeros(image.shape[:2], np.uint8)
        known = [f for i, f in zip(self.images, self.features, strict=True) if i is image]
        rows = known[0] if known else rivals.features(image)
        return self.forest.predict(rows).reshape(image.shape[:2]).astype(np.uint8)


class Monai:
    """MONAI's BasicUNet with the common recipe, and a loss only where something is painted."""

    def __init__(self, images: Sequence[np.ndarray], seed: int) -> None:
        torch.manual_seed(seed)
        self.planes = [np.ascontiguousarray(np.moveaxis(rivals.scaled(i), -1, 0)) for i in images]
        self.net = rivals.basic_unet(self.planes[0].shape[0])
        self.optimiser = torch.optim.Adam(self.net.parameters(), 1e-3)
        self.random = np.random.default_rng(seed)
        self.debt, self.trained = 0.0, False

    def learn(self, annotations: Sequence[np.ndarray], seconds: float) -> None:
        if len({int(v) for a in annotations for v in np.unique(a)} - {0}) < 2:
            return
        end = time.perf_counter() + seconds - self.debt
        self.net.train()
        while time.perf_counter() < end:
            self._step(annotations)
        self.debt = max(0.0, time.perf_counter() - end)
        self.trained = True

    def _step(self, annotations: Sequence[np.ndarray]) -> None:
        painted = [i for i, a in enumerate(annotations) if a.any()]
        batch, truth = [], []
        for i in self.random.choice(painted, rivals.BATCH):
            y, x = self._corner(annotations[i])
            turn, flip = self.random.integers(4), 1 - 2 * self.random.integers(2)
            for source, into in ((self.planes[i], batch), (annotations[i][None], truth)):
                cut = source[:, y : y + rivals.PATCH, x : x + rivals.PATCH]
                into.append(np.rot90(cut, turn, (1, 2))[:, :, ::flip].copy())
        self.optimiser.zero_grad()
        logits = self.net(torch.from_numpy(np.stack(batch)))
        _masked_loss(logits, torch.from_numpy(np.stack(truth))[:, 0]).backward()
        self.optimiser.step()

    def _corner(self, annotation: np.ndarray) -> tuple[int, ...]:
        """A patch with something painted in it."""
        place = self.random.choice(np.argwhere(annotation))
        low = [max(0, p - rivals.PATCH + 1) for p in place]
        high = [min(p, n - rivals.PATCH) for p, n in zip(place, annotation.shape, strict=True)]
        return tuple(
            int(self.random.integers(min(a, b), b + 1)) for a, b in zip(low, high, strict=True)
        )

    def predict(self, image: np.ndarray) -> np.ndarray:
        if not self.trained:
            return np.zeros(image.shape[:2], np.uint8)
        return rivals.monai_predict(self.net.eval(), image)


def _masked_loss(logits: torch.Tensor, painted: torch.Tensor) -> torch.Tensor:
    """Dice and cross-entropy over the painted pixels alone."""
    known, truth = painted > 0, (painted == 1).long()
    entropy = torch.nn.functional.cross_entropy(logits, truth, reduction="none")[known].mean()
    p = logits.softmax(1)[:, 1][known]
    t = truth[known].float()
    return entropy + 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


METHODS = {
    "ours": Ours,
    "net alone": partial(Ours, second_opinion=False),  # from random weights, and nothing else
    "forest": Forest,
    "monai": Monai,
}


# -- the user ----------------------------------------------------------------------------------


def stroke(mask: np.ndarray, truth: np.ndarray, painted: np.ndarray) -> tuple | None:
    """Where to paint next, with what, and how long the stroke is; None if all seems right."""
    from scipy import ndimage

    best: tuple[float, np.ndarray, int] | None = None
    for label, true in ((1, truth > 0), (BACKGROUND, truth == 0)):
        wrong = true & ((mask > 0) != (truth > 0)) & (painted == 0)
        if label == BACKGROUND and not mask.any() and not (painted == BACKGROUND).any():
            wrong = true & (painted == 0)  # there is no mask yet, but background is needed
        regions, n = ndimage.label(wrong)
        if n:
            sizes = np.bincount(regions.ravel())[1:]
            largest = int(sizes.argmax()) + 1
            wanted = sizes.max() * (4.0 if not (painted == label).any() else 1.0)
            if sizes.max() >= LEAST_WRONG and (best is None or wanted > best[0]):
                best = (float(wanted), regions == largest, label)
    if best is None:
        return None
    _, region, label = best
    return _capsule(region, truth > 0 if label == 1 else truth == 0), label


def _capsule(region: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, float]:
    """A stroke through the deepest place of a region, within what it may cover; its length."""
    from scipy import ndimage

    inside = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    free = ndimage.distance_transform_edt(np.pad(allowed, 1))[1:-1, 1:-1]
    start = np.array(np.unravel_index(int(inside.argmax()), region.shape))
    radius = float(np.clip(inside.max() - 0.5, THINNEST, THICKEST))
    ends = [_walk(start, angle, radius, inside, free) for angle in np.arange(0, np.pi, np.pi / 8)]
    a, b = max(ends, key=lambda e: float(np.hypot(*(e[1] - e[0]))))
    length = float(np.hypot(*(b - a)))
    places = np.linspace(a, b, max(2, int(length)))
    line = np.ones(region.shape, bool)
    line[tuple(np.round(places).astype(int).T)] = False
    return (ndimage.distance_transform_edt(line) <= radius) & allowed, length


def _walk(
    start: np.ndarray, angle: float, radius: float, inside: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far a brush goes both ways without leaving the region or crossing a true border."""
    ends = []
    for sign in (-1, 1):
        step, place = sign * np.array([np.sin(angle), np.cos(angle)]), start.astype(float)
        for _ in range(LONGEST // 2):
            ahead = np.round(place + step).astype(int)
            if ((ahead < 0) | (ahead >= inside.shape)).any():
                break
            if inside[tuple(ahead)] <= 0 or free[tuple(ahead)] < min(radius, free[tuple(start)]):
                break
            place = place + step
        ends.append(place)
    return ends[0], ends[1]


def work(
    method: Method, seen: Sequence[Item], unseen: Sequence[Item], times: Sequence[float]
) -> list[dict]:
    """Paint and correct until the time is up; scores at each of the times."""
    annotations = [np.zeros(item.mask.shape, np.uint8) for item in seen]
    now, current, strokes, scores = 0.0, 0, 0, []
    times = list(times)
    while times:
        item, painted = seen[current], annotations[current]
        found = stroke(method.predict(item.image), item.mask, painted)
        seconds = PER_STROKE
        if found is not None:
            (where, length), label = found
            painted[where & (painted == 0)] = label
            seconds += length / SPEED
            strokes += 1
        method.learn(annotations, seconds)
        now += seconds
        if strokes >= STROKES or found is None:
            current, strokes = (current + 1) % len(seen), 0
        while times and now >= times[0]:
            scores.append(score(method, seen, unseen, annotations) | {"seconds": times.pop(0)})
    return scores


def score(
    method: Method, seen: Sequence[Item], unseen: Sequence[Item], annotations: Sequence[np.ndarray]
) -> dict[str, float]:
    """Mean Dice on unseen images, and on the painted ones where nothing is painted."""
    here = [
        dice(method.predict(item.image)[a == 0], item.mask[a == 0])
        for item, a in zip(seen, annotations, strict=True)
    ]
    there = [dice(method.predict(item.image), item.mask) for item in unseen]
    painted = sum(int((a > 0).sum()) for a in annotations)
    return {
        "painted": statistics.fmean(here),
        "unseen": statistics.fmean(there),
        "pixels": painted,
    }


# -- the report --------------------------------------------------------------------------------


def report(records: Sequence[dict]) -> None:
    values = comparable(records)
    means = {key: statistics.fmean(v.values()) for key, v in values.items()}
    sets = [s for s in SETS if any(key[0] == s for key in means)]
    methods = [m for m in METHODS if any(key[1] == m for key in means)]
    times = sorted({key[2] for key in means})
    columns = [(m, t) for t in times for m in methods]
    of_all = {
        (m, t): statistics.fmean(means[s, m, t] for s in sets)
        for m, t in columns
        if all((s, m, t) in means for s in sets)
    }
    rows = [[s, *(_cell(values.get((s, m, t), {})) for m, t in columns)] for s in sets]
    rows.append(["mean", *(f"{of_all[c]:.3f}" if c in of_all else "" for c in columns)])
    curves = {
        TITLES[s]: {
            rivals.NAMES.get(m, m): [(t, means[s, m, t]) for t in times if (s, m, t) in means]
            for m in methods
        }
        for s in sets
    }
    chart.draw(CHART, curves, "seconds of the user", "Dice, unseen images")
    write_report(
        "simulated_user",
        "Dice on unseen images over the seconds of a simulated user",
        f"{table(['set', *(f'{m}, {t:g} s' for m, t in columns)], rows)}\n\n{measured(records)}",
        {"runs": list(records)},
        [target for t in times for target in targets(means, of_all, t)],
    )


Key = tuple[str, str, float]  # set, method and seconds


def comparable(records: Sequence[dict]) -> dict[Key, dict[int, float]]:
    """Dice by seed, of the seeds that all methods have been through until then."""
    found: dict[Key, dict[int, float]] = {}
    for r in records:  # of one that was measured again, the last counts
        found.setdefault((r["set"], r["method"], r["seconds"]), {})[r["seed"]] = r["unseen"]
    for s, t in {(s, t) for s, _, t in found}:
        beside = [scores for (a, _, b), scores in found.items() if (a, b) == (s, t)]
        common = set.intersection(*map(set, beside))
        for scores in beside:
            for seed in scores.keys() - common:
                del scores[seed]
    return {key: scores for key, scores in found.items() if scores}


def targets(
    means: dict[Key, float], of_all: dict[tuple[str, float], float], t: float
) -> list[Target]:
    """What is wanted of the means after so many seconds."""
    leads = {
        s: means[s, "ours", t] - max(means[s, m, t] for m in rivals.NAMES)
        for s in SETS
        if all((s, m, t) in means for m in ("ours", *rivals.NAMES))
    }
    if not leads:
        return []
    wins = sum(lead > 0 for lead in leads.values())
    found = [
        Target(f"{t:g} s: sets ahead, of {len(leads)}", wins, 6 / 7 * len(leads)),
        Target(f"{t:g} s: worst lead", min(leads.values()), -0.01),
    ]
    if t == 30 and all((m, t) in of_all for m in ("ours", *rivals.NAMES)):
        lead = of_all["ours", t] - max(of_all[m, t] for m in rivals.NAMES)
        mean = statistics.fmean(leads.values())
        found += [
            Target("30 s: lead over the rival with the best mean", lead, 0.05),
            Target("30 s: mean lead over the best rival of each set", mean, 0.05),
        ]
    return found


def _cell(scores: dict[int, float]) -> str:
    """Of several draws their mean and spread; of one its score."""
    if len(scores) < 2:
        return "".join(f"{score:.3f}" for score in scores.values())
    each = list(scores.values())
    return f"{statistics.fmean(each):.3f} ± {statistics.stdev(each):.3f} ({len(each)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pace", type=float, help="steps of ours in a second; only shown")
    parser.add_argument("--until", type=float, default=TIMES[-1], help="seconds of the user")
    arguments = parser.parse_args()
    store = RESULTS / "simulated_user.jsonl"
    done = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    paced = {"pace": arguments.pace} if arguments.pace else {}
    if paced:
        torch.set_num_threads(1)  # or sums depend on how many there are
        arguments.methods, done = [m for m in arguments.methods if m not in rivals.NAMES], []
    known = {(r["set"], r["method"], r["seed"], r["seconds"]) for r in done}
    times = [t for t in TIMES if t <= arguments.until]
    choose_numerics(TrainConfig().device)  # once in a process, not in the first user's seconds
    for name in arguments.sets:
        items = load_set(arguments.data, name)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            seen, unseen = split(name, items, K, seed)
            for kind in arguments.methods:
                if all((name, kind, seed, t) in known for t in times):
                    continue
                method = METHODS[kind]([item.image for item in seen], seed, **paced)
                found = work(method, seen, unseen, times)
                run = {"set": name, "method": kind, "seed": seed, "machine": machine()}
                records = [run | s for s in found]
                print(name, kind, seed, [f"{r['seconds']:g} s {r['unseen']:.3f}" for r in records])
                if paced:
                    continue
                with store.open("a") as file:
                    file.writelines(json.dumps(r) + "\n" for r in records)
                done += records
    if done:
        report(done)


if __name__ == "__main__":
    main()
