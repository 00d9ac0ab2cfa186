"""Scores on what is held out: of which pieces, of which classes, and with whose advice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, NetConfig, class_table
from napari_unet.device import choose_numerics
from napari_unet.holdout import HoldOut
from napari_unet.judging import LEAST_OF_CLASS, PIECES, Judge
from napari_unet.models import build
from tests.test_training import discs, make_set

NUMERICS = choose_numerics(torch.device("cpu"), "float32", 2)


class Says:
    """A net that says the same class everywhere."""

    halo, stride = (0, 0), (1, 1)

    def __init__(self, label: int, classes: int) -> None:
        self.answer = torch.eye(1 + classes)[label]

    def __call__(self, x: Tensor) -> Tensor:
        shape = (1, len(self.answer), *x.shape[2:])
        return self.answer.reshape(1, -1, 1, 1).expand(shape)


def held_out(annotation: np.ndarray, classes: int) -> tuple[TrainingSet, HoldOut]:
    """An image that is only judged by."""
    training_set = TrainingSet(class_table(classes))
    image = np.broadcast_to(np.float32(0), (1, *annotation.shape))
    training_set.add("slide", image, annotation, role="hold out")
    holdout = HoldOut(0.2, (0, 0), 0)
    holdout.update(training_set.items)
    return training_set, holdout


class TestClasses:
    @pytest.mark.parametrize("seconds", [0, np.inf])
    @pytest.mark.parametrize("wanted", [PIECES, 8])
    def test_in_one_place_are_looked_at_there(self, wanted, seconds):
        annotation = np.full((4096, 256), BACKGROUND, np.uint8)
        annotation[:, 100] = 1
        annotation[5 * 256 + 7 :][:30, :30] = 2  # a piece that no even spread comes to
        training_set, holdout = held_out(annotation, 2)
        jury = Judge(holdout, NUMERICS, 2, 2)

        (tables,) = jury.tables(Says(2, 2), training_set.items, wanted, seconds=seconds).values()

        pieces = 1 + (PIECES if seconds == 0 else wanted)
        assert jury.pixels == pieces * 256 * 256
        assert jury.pooled(tables.values()) == (0, 2 * 900 / (jury.pixels + 900))

    def test_are_not_judged_by_a_few_pixels(self):
        annotation = np.full((4096, 256), BACKGROUND, np.uint8)
        annotation[:, 100] = 1
        annotation[5 * 256 :].flat[: LEAST_OF_CLASS - 1] = 2
        training_set, holdout = held_out(annotation, 2)
        jury = Judge(holdout, NUMERICS, 2, 2)
        _, scores = jury.score(Says(2, 2), training_set.items)
        assert scores == (0, None)
        assert jury.pixels == PIECES * 256 * 256, "and for nothing no more is looked at"

    def test_that_are_nowhere_are_not_judged_by_what_is_taken_for_them(self):
        """As little of an image as of all: without an object its score would be 0."""
        jury = Judge(HoldOut(0.2, (0, 0), 0), NUMERICS, 1, 2)
        assert jury.pooled([np.array([[9000, 1000], [0, 0]])]) == (None,)
        assert jury.pooled([np.array([[9000, 1000], [0, 1000]])]) == (2 / 3,)
        assert jury.pooled([]) == (None,)


class TestShares:
    @pytest.mark.parametrize(("net", "advice", "best"), [(1, -2, 0), (1, 1, None), (-1, 2, 0.5)])
    @pytest.mark.parametrize("usual", [0, 0.5])
    def test_the_usual_share_unless_another_is_better(self, monkeypatch, net, advice, best, usual):
        """Net and adviser see what is true, or its opposite, with so many times the certainty."""
        monkeypatch.setattr("napari_unet.judging.LEAST_OF_CLASS", 1)
        training_set = TrainingSet(class_table(1))
        for seed in range(6):
            _, mask = discs(seed)
            training_set.add(str(seed), 255 * mask[None], mask, complete=True)
        holdout = HoldOut(0.2, (0, 0), 0)
        holdout.update(training_set.items)

        class Sees:
            halo, stride = (0, 0), (1, 1)

            def __call__(self, x):
                return net * 4 * x.sign()

        def view(item):
            right = 4 * np.where(item.annotation == 1, 1.0, -1.0)
            p = torch.from_numpy(advice * np.stack([-right, right])).sigmoid()
            return p.float().numpy()

        jury = Judge(holdout, NUMERICS, 1, 2)
        share, scores = jury.score(Sees(), training_set.items, (usual, 0.5 - usual), view)
        assert share == (usual if best is None else best)
        assert scores == (1,)

    @pytest.mark.parametrize("usual", [0, 0.5])
    @pytest.mark.parametrize("lead", [0.01, 0.03])
    def test_a_small_lead_is_not_enough_for_another_share(self, monkeypatch, lead, usual):
        other = 0.5 - usual
        found = {usual: {"image": (0.8,)}, other: {"image": (0.8 + lead,)}}
        best = other if lead > 0.02 else usual
        monkeypatch.setattr(Judge, "tables", lambda *_: found)
        monkeypatch.setattr(Judge, "pooled", lambda _self, tables: next(iter(tables)))
        jury = Judge(HoldOut(0.2, (0, 0), 0), NUMERICS, 1, 2)
        assert jury.score(None, (), (usual, other)) == (best, found[best]["image"])


def test_the_last_look_at_what_is_held_out_ends_after_its_time(monkeypatch):
    looked = []
    real = Judge._confusions

    def spy(self, net, item, region, *rest):
        looked.append((item.name, region))
        return real(self, net, item, region, *rest)

    monkeypatch.setattr(Judge, "_confusions", spy)
    training_set, holdout = make_set(6), HoldOut(0.5, (0, 0), 0)
    holdout.update(training_set.items)
    judge = Judge(holdout, NUMERICS, 1, 2)
    judge.edge = 32
    net = build(NetConfig(width=4, depth=2)).eval()

    judge.tables(net, training_set.items, 1000)
    every = looked.copy()
    judge.tables(net, training_set.items, 1000, seconds=0)
    assert len(every) == len(set(map(str, every))) > 2 * PIECES
    assert looked[len(every) :] == every[: len(looked) - len(every)]
    assert PIECES <= len(looked) - len(every) < 2 * PIECES, "a sample"
    assert len({name for name, _ in every[:3]}) == 3, "any beginning is spread over all"
