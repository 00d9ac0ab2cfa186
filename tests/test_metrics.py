"""Dice and IoU count what is labelled, and say None where there is nothing to count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet import metrics
from napari_unet.run import BadInput

PREDICTED = np.array([[1, 1, 0, 0, 2]])
ANNOTATION = np.array([[1, 255, 1, 0, 0]], np.uint8)


def test_counts_only_what_is_labelled():
    expected = [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.confusion(PREDICTED, ANNOTATION, 2).tolist() == expected


def test_scores_worked_out_by_hand():
    matrix = metrics.confusion(PREDICTED, ANNOTATION, 2)
    assert metrics.dice_of(matrix) == (0.5, None)
    assert metrics.iou_of(matrix) == (pytest.approx(1 / 3), None)


def test_in_a_dense_mask_zero_is_background():
    true = np.array([[1, 1, 0, 0, 0]])
    matrix = metrics.dense_confusion(PREDICTED, true, 2)
    assert metrics.dice_of(matrix) == metrics.dense_dice(PREDICTED, true, 2) == (1.0, 0.0)
    assert metrics.iou_of(matrix) == (1.0, 0.0)


def test_the_annotation_is_left_as_it_was():
    annotation = ANNOTATION.copy()
    metrics.confusion(PREDICTED, annotation, 2)
    assert (annotation == ANNOTATION).all()


def test_mean_ignores_absent_classes():
    assert metrics.mean((0.5, None, 1.0)) == 0.75
    assert metrics.mean((None,)) is None
    assert metrics.mean(()) is None


@pytest.mark.parametrize("confusion", [metrics.confusion, metrics.dense_confusion])
class TestBadInput:
    def test_shapes_must_be_equal(self, confusion):
        with pytest.raises(BadInput, match="shape"):
            confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 1)

    def test_classes_must_be_known(self, confusion):
        with pytest.raises(BadInput, match="class 3"):
            confusion(np.full((2, 2), 3), np.ones((2, 2), int), 2)


masks = arrays(np.uint8, (6, 7), elements=st.integers(0, 3))


@settings(max_examples=50, deadline=None)
@given(predicted=masks, true=masks)
def test_equals_sets_of_pixels(predicted, true):
    for c, dice, iou in zip(
        (1, 2, 3),
        metrics.dense_dice(predicted, true, 3),
        metrics.iou_of(metrics.dense_confusion(predicted, true, 3)),
        strict=True,
    ):
        a, b = predicted == c, true == c
        if not (a | b).any():
            assert dice is iou is None
        else:
            assert dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
            assert iou == pytest.approx((a & b).sum() / (a | b).sum())


@settings(max_examples=30, deadline=None)
@given(predicted=masks, true=masks)
def test_an_annotation_of_everything_is_a_dense_mask(predicted, true):
    annotation = np.where(true == 0, 255, true)
    dense = metrics.dense_confusion(predicted, true, 3)
    assert (metrics.confusion(predicted, annotation, 3) == dense).all()
