"""A classifier of pixels beside the net: it gives hints, a first answer, and a second opinion.

A net that has seen a few strokes and nothing else may answer anything between them; one that has
seen a single image takes much of it for the rule. Filters and a small network on them err too, but
elsewhere, and learn in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import BLOCK, Item, Region, is_sparse
from napari_unet.config import BACKGROUND, NetConfig
from napari_unet.device import Numerics
from napari_unet.losses import segmentation_loss
from napari_unet.models.pixels import COARSEST, PixelNet, as_logs, as_probabilities, features
from napari_unet.optimiser import Optimiser
from napari_unet.patches import CACHE_EDGE, BlockCache, Sampler, at_pixels, normalised
from napari_unet.run import FIRST_GUESS
from napari_unet.threads import one_thread

TOGETHER = 0.5  # its share in an answer that is the net's too
ASKED = 25  # steps until the net has a part in the answer
ALONE = 400  # and until it may answer alone, of strokes
MARGIN = 32  # pixels read around a window; what lies beyond changes little
WINDOWS = {2: 48, 3: 8}  # that are learned from; one of a plane takes some hundredths of a second
PIXELS = 40_000  # labelled ones that are learned from, as many of each window,
OF_WINDOW = 1000  # or so many where windows are many;
LEAST_OF_KIND = 32  # of each class at least so many, if there are
BATCH, RATE, DECAY = 1024, 0.03, 1e-2
# Steps, and the standard deviations of noise added to each filter's values, so that no single one
# is relied on. Strokes tell little, and what they seem to tell exactly is not so.
OF_STROKES, OF_MASKS = (60, 1.0), (130, 0.7)
EXPLAINED = 0.5  # of complete masks it was fitted to; from less it has learned nothing
CLEAR = 0.8  # of them; from so much on, brightness and colour tell what is what
EXPLAINED_STROKES = 0.25  # who corrects a mask paints what is hard
AGAIN, LATER = 20, 1.5  # steps after which it is fitted again at first, and by which factor then,
AT_LATEST = 200  # but not more
MOST_CHANNELS = 16  # of more, filters take too much memory
TRUSTED = 150  # steps after which the net learns ever less of what the classifier says


@dataclass(frozen=True)
class _Window:
    """A part of an image in which something is labelled."""

    item: Item
    place: tuple[int, ...]
    region: Region
    version: int  # of the training set when it was last painted
    kinds: frozenset[int]  # rows of the counts of what may be learned there

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        return self.item.name, self.place


class Adviser:
    """A classifier of pixels, fitted now and then to what is annotated, and its view of images."""

    def __init__(
        self,
        sampler: Sampler,
        config: NetConfig,
        numerics: Numerics,
        seed: int,
        hinting: bool = True,
        earlier: PixelNet | None = None,
    ) -> None:
        """With an earlier one, of a model that is gone on from, nothing is fitted."""
        self.net: PixelNet | None = None
        self._on = (hinting or earlier is not None) and config.in_channels <= MOST_CHANNELS
        self._hinting, self._earlier = hinting, earlier
        self._sampler, self._config, self._seed = sampler, config, seed
        self._device = numerics.device
        # By window, the version it was read at, the values of its filters, and its labels.
        self._rows: dict[tuple[str, tuple[int, ...]], tuple[int, Tensor, Tensor]] = {}
        self._views: dict[str, tuple[Item, BlockCache]] = {}
        self._hinted: frozenset[str] = frozenset()  # images of which much is unpainted
        self._first = 0  # version of the training set at the beginning
        self._fitted = (-1, 0)  # to which version of the training set, at which step
        self._kinds: frozenset[int] = frozenset()  # that it knows
        self._clear: bool | None = None

    def refresh(self, step: int, now: bool = False) -> None:
        """Fit it to the present annotation, if that has changed and some steps have gone by.

        A class that it does not know is learned at once, or it would be denied everywhere.
        """
        version, last = self._fitted
        if not self._on or version == self._sampler.version:
            return
        kinds = frozenset(np.flatnonzero(self._sampler.totals).tolist())
        wait = min(AT_LATEST, max(AGAIN, (LATER - 1) * last))
        if kinds == self._kinds and step < last + wait and not now:
            return
        if version < 0:
            self._first = self._sampler.version
        self._fitted, self._kinds = (self._sampler.version, step), kinds
        items = self._sampler.items
        # One in which nothing is painted may be painted before the next fit.
        self._hinted = frozenset(i.name for i in items if not i.labelled or is_sparse([i]))
        self._read([window for i in items if i.labelled for window in self._windows(i)])
        self.net = self._fit()
        self._forget_views()

    @property
    def sparse(self) -> bool:
        """Whether most of the annotated images is unpainted."""
        return self._sampler.sparse

    @property
    def of_objects(self) -> bool:
        """Whether the net learns the rims of objects, too."""
        return self._sampler.set.rims

    @property
    def clear(self) -> bool | None:
        """Whether of complete masks it tells nearly all; None where that would say nothing."""
        return None if self.net is None or self.sparse else self._clear

    def stop(self) -> None:
        """Say nothing any more."""
        self._on, self.net, self._rows = False, None, {}
        self._forget_views()

    def stop_hinting(self) -> bool:
        """Give no hints any more; whether there were any."""
        before = self._hinting and self.net is not None and bool(self._hinted)
        self._hinting = False
        return before

    def hints(self, item: Item) -> BlockCache | None:
        """What the unpainted rest of an image probably is, if much is unpainted."""
        return self.view(item) if self._hinting and item.name in self._hinted else None

    def view(self, item: Item) -> BlockCache | None:
        """The probabilities of background and of each class, (1 + classes, *spatial)."""
        if self.net is None:
            return None
        known = self._views.get(item.name)
        if known is None or known[0] is not item:  # another image may have come under the name
            known = self._views[item.name] = (item, BlockCache(_View(self, self.net, item)))
        return known[1]

    def _forget_views(self) -> None:
        for _, view in self._views.values():
            view.forget()
        self._views.clear()

    def _windows(self, item: Item) -> Iterable[_Window]:
        ndim = item.annotation.ndim
        edge, blocks = CACHE_EDGE[ndim], CACHE_EDGE[ndim] // BLOCK[ndim]
        open_to_all = (item.counts > 0) & ~self._sampler.closed(item)
        there = np.moveaxis(_coarser(open_to_all, blocks), 0, -1)  # (*windows, kinds)
        touched = _coarser(item.touched[None], blocks)[0]
        for place in map(tuple, np.argwhere(there.any(-1)).tolist()):
            region = tuple(
                slice(p * edge, min((p + 1) * edge, n))
                for p, n in zip(place, item.annotation.shape, strict=True)
            )
            kinds = np.flatnonzero(there[place])
            # What was painted a moment ago is not read yet, so it has to be read later.
            version = min(int(touched[place]), self._sampler.version)
            yield _Window(item, place, region, version, frozenset(kinds.tolist()))

    def _read(self, windows: Sequence[_Window]) -> None:
        """See to it that the rows are those of the windows painted last, with all kinds in them."""
        if not windows:
            self._rows = {}
            return
        windows = sorted(windows, key=self._order)
        most = WINDOWS[len(windows[0].region)]
        kinds = frozenset[int]().union(*(w.kinds for w in windows))
        chosen: dict[tuple[str, tuple[int, ...]], _Window] = {}
        for kind in sorted(kinds):
            some = [w for w in windows if kind in w.kinds]
            chosen |= {w.key: w for w in some[: max(1, most // len(kinds))]}
        for window in windows:
            if len(chosen) < most:
                chosen[window.key] = window
        pixels = max(OF_WINDOW, PIXELS // len(chosen))
        known, self._rows = self._rows, {}
        for window in chosen.values():
            version, rows, labels = known.get(window.key, (-1, None, None))
            if rows is None or labels is None or version != window.version:
                rows, labels = self._values(window, pixels)
            self._rows[window.key] = (window.version, rows[:pixels], labels[:pixels])

    def _order(self, window: _Window) -> tuple[int, int]:
        """Those painted last come first; what was there at the beginning, in any order."""
        return -max(window.version, self._first), crc32(f"{self._seed} {window.key}".encode())

    @torch.no_grad()
    def _values(self, window: _Window, most: int) -> tuple[Tensor, Tensor]:
        """Filter values and labels of pixels that may be trained on."""
        item, region = window.item, window.region
        labels = item.annotation[region].copy()  # before it is asked which of them are open
        places = [np.arange(s.start, s.stop) for s in region]
        labels[at_pixels(self._sampler.closed(item), places, item.annotation.shape)] = 0
        if labels.ndim == 3 and labels.any():  # each plane is filtered by itself
            planes = np.flatnonzero(labels.any((1, 2)))
            low, high = int(planes[0]), int(planes[-1]) + 1
            labels, first = labels[low:high], region[0].start
            region = (slice(first + low, first + high), *region[1:])
        flat = labels.ravel()
        some = _some(flat, most, np.random.default_rng(self._seed))
        x, inside = self.pixels(item, region)
        rows = features(x)[0][inside].flatten(0, -2)
        return rows[torch.from_numpy(some).to(self._device)], self._send(flat[some])

    def _fit(self) -> PixelNet | None:
        self._clear = None
        labels = [labels for _, _, labels in self._rows.values()]
        known = set(torch.cat(labels).unique().tolist()) if labels else set()
        if len(known) < 2:
            return self._earlier
        # Of a class that it has not seen it would say that it is nowhere.
        if self._earlier is None and not {kind or BACKGROUND for kind in self._kinds} <= known:
            return None
        rows, truth = torch.cat([rows for _, rows, _ in self._rows.values()]), torch.cat(labels)
        net = self._earlier
        if net is None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self._seed)  # and not those of GPUs
                net = PixelNet(self._config).to(self._device)
            random = torch.Generator(self._device).manual_seed(self._seed)
            fit(net, rows, truth, random, sparse=self.sparse)
        least = EXPLAINED_STROKES if self.sparse else EXPLAINED
        told = explained(net, rows, truth)
        self._clear = self._tells(told)
        return net if told >= least else None

    def _tells(self, told: float) -> bool | None:
        """What it says of masks that so much of them is told apart.

        Of strokes, of planes of a volume and of rims nothing is known; nor does an earlier one
        that tells little of what it was not fitted to show that no other could.
        """
        if self.sparse or self._config.ndim == 3 or self._sampler.set.rims:
            return None
        return told >= CLEAR or (None if self._earlier else False)

    def pixels(self, item: Item, region: Region) -> tuple[Tensor, Region]:
        """Normalised pixels around a region, (1, C, *spatial), and where in them it lies.

        Beyond the image there are none but those at its ends, as in a prediction.
        """
        flat = len(region) - 2  # axes along which nothing is filtered
        wanted, inside = [], []
        for axis, (part, n) in enumerate(zip(region, item.annotation.shape, strict=True)):
            margin, step = (0, 1) if axis < flat else (MARGIN, COARSEST)
            low, high = max(0, part.start - margin), min(n, part.stop + margin)
            # Up to sizes that can be halved at all scales.
            wanted.append(np.arange(low, high + (low - high) % step).clip(max=n - 1))
            inside.append(slice(part.start - low, part.stop - low))
        return self._send(normalised(item, wanted))[None], tuple(inside)

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class Say:
    """How much of the answer is the adviser's: all of the first, then half.

    From when the net is mature, what scores best: half of it where the adviser tells nearly all of
    complete masks, and nothing where it does not, unless the other is clearly better.
    """

    def __init__(self, adviser: Adviser, steps: int) -> None:
        """The net has learned for so many steps already."""
        self._adviser, self._steps = adviser, steps
        self._judged: float | None = None  # what scored best last

    def usual(self, step: int) -> float:
        """As long as nothing tells which does best."""
        if self.mature(step) and self._adviser.clear is False:
            return 0.0
        return self._most(step)

    def _most(self, step: int) -> float:
        return TOGETHER if self.shared(step) else 1.0

    def shared(self, step: int) -> bool:
        """Whether the net has its part in the answer."""
        return self._learned(step) >= ASKED

    def mature(self, step: int) -> bool:
        """Whether the net knows more than a first guess."""
        return self._learned(step) >= FIRST_GUESS

    def _learned(self, step: int) -> int:
        return self._steps + step

    def choices(self, step: int) -> tuple[float, ...]:
        """To be compared, the usual first.

        Of a few strokes too little is held out to tell; of objects, not how they are parted.
        """
        if self._adviser.net is None:
            return (0.0,)
        usual, few = self.usual(step), self._adviser.sparse and self._learned(step) < ALONE
        if few or self._adviser.of_objects:
            return (usual,)
        shares = (TOGETHER, 0.0 if self.mature(step) else 1.0)
        return shares if usual == TOGETHER else shares[::-1]

    def judge(self, best: float | None) -> None:
        self._judged = best

    def now(self, step: int) -> float:
        judged = self.usual(step) if self._judged is None else min(self._judged, self._most(step))
        return self.possible(judged)

    def possible(self, share: float) -> float:
        """There may be no adviser any more."""
        return 0.0 if self._adviser.net is None else share


def agreed(hints: Tensor, own: Tensor, step: int) -> Tensor:
    """Hints in which the net's own view has a part, at first half of it.

    Probabilities (B, 1 + classes, *spatial); where the adviser gave none, all 0, there are none.
    """
    part = TOGETHER * min(1.0, TRUSTED / step)
    logits = torch.lerp(as_logs(own), as_logs(hints), part)
    return logits.softmax(1) * hints.sum(1, keepdim=True)


@one_thread()  # its products are small
def fit(net: PixelNet, rows: Tensor, labels: Tensor, random: torch.Generator, sparse: bool) -> None:
    """Learn annotation values (n,) from the values of the filters there (n, values)."""
    steps, spread = OF_STROKES if sparse else OF_MASKS
    net.mean, net.spread = rows.mean(0), rows.std(0) + 1e-4
    rows = net.scaled(rows)
    odds = torch.ones(len(rows), device=rows.device)
    if sparse:  # how much of a class was painted does not say how much of it there is
        _, kinds, counts = labels.unique(return_inverse=True, return_counts=True)
        odds = 1 / counts[kinds].float()
    optimiser = Optimiser(net.body, RATE, DECAY)
    for step in range(steps):
        optimiser.rate = RATE * min(1, (step + 1) / 10, 2 * (steps - step) / steps)
        chosen = odds.multinomial(BATCH, replacement=True, generator=random)
        noise = torch.randn((BATCH, rows.shape[1]), generator=random, device=rows.device)
        logits = net.body(rows[chosen].addcmul_(noise, noise.new_tensor(spread)))
        optimiser.zero_grad()
        segmentation_loss(
            logits[..., None], labels[chosen][:, None], kind="cross-entropy"
        ).backward()
        optimiser.step()
    net.eval().requires_grad_(False)


@torch.no_grad()
def explained(net: PixelNet, rows: Tensor, labels: Tensor) -> float:
    """How much of its own annotation it tells apart: 1 is all of it, 0 no more than by chance."""
    found = as_probabilities(net.body(net.scaled(rows))).argmax(1)
    truth = torch.where(labels == BACKGROUND, 0, labels).long()
    kinds = truth.unique()
    right = torch.stack([(found[truth == kind] == kind).float().mean() for kind in kinds])
    return float((right.mean() * len(kinds) - 1) / (len(kinds) - 1))


def _coarser(grid: np.ndarray, blocks: int) -> np.ndarray:
    """The largest of so many by so many blocks: (n, *blocks) to (n, *windows)."""
    for axis in range(1, grid.ndim):
        grid = np.maximum.reduceat(grid, np.arange(0, grid.shape[axis], blocks), axis)
    return grid


def _some(labels: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Places of at most so many labelled pixels; the rare are not left out."""
    places = random.permutation(np.flatnonzero(labels))
    kinds = np.unique(labels[places])
    first = [places[labels[places] == kind][:LEAST_OF_KIND] for kind in kinds]
    wanted = np.concatenate([*first, places])
    _, when = np.unique(wanted, return_index=True)
    chosen: np.ndarray = wanted[np.sort(when)][:most]
    return chosen


class _View:
    """An image of probabilities that is computed where it is read."""

    def __init__(self, adviser: Adviser, net: PixelNet, item: Item) -> None:
        self.shape = (net.config.n_classes + 1, *item.annotation.shape)
        self._adviser, self._net, self._item = adviser, net, item

    @torch.no_grad()
    def __getitem__(self, place: tuple[slice, ...]) -> np.ndarray:
        pairs = zip(place[1:], self.shape[1:], strict=True)
        x, inside = self._adviser.pixels(self._item, tuple(slice(*s.indices(n)) for s, n in pairs))
        found = as_probabilities(self._net(x))[0].movedim(0, -1)[inside].movedim(-1, 0)
        return found.contiguous().cpu().numpy()
