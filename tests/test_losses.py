"""The loss sees what is labelled and nothing else."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.losses import border_weights, class_weights, hint_loss, segmentation_loss

KINDS = ["both", "cross-entropy", "dice"]


def annotation(seed, n_classes, share, size=(2, 9, 11)):
    rng = np.random.default_rng(seed)
    values = rng.choice([*range(1, n_classes + 1), 255], size)
    return torch.from_numpy(np.where(rng.random(size) < share, values, 0).astype(np.uint8))


def slow_loss(logits, target, kind, weights=None):
    """The definition, pixel by pixel, of the labelled pixels only."""
    logits = logits.double()
    if logits.shape[1] == 1:
        logits = torch.cat((torch.zeros_like(logits), logits), 1)
    n = logits.shape[1]
    known = target != 0
    p = logits.softmax(1).movedim(1, -1)[known]  # (pixels, n)
    true = target[known].long()
    true[true == 255] = 0
    if not len(true):
        return 0.0
    w = torch.ones(n).double() if weights is None else weights.double()
    entropy = -(w[true] * p[range(len(true)), true].log()).sum() / w[true].sum()
    losses = []
    for c in range(1, n):
        hit = (true == c).double()
        if hit.any():
            losses.append(1 - (2 * (p[:, c] * hit).sum() + 1) / (p[:, c].sum() + hit.sum() + 1))
    dice = sum(losses) / max(1, len(losses))
    return float({"both": entropy + dice, "cross-entropy": entropy, "dice": dice}[kind])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    kind=st.sampled_from(KINDS),
    weighted=st.booleans(),
)
def test_equals_the_definition(seed, n_classes, share, kind, weighted):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, 1 if n_classes == 1 else n_classes + 1, 9, 11)
    target = annotation(seed, n_classes, share)
    weights = torch.rand(n_classes + 1) + 0.1 if weighted else None
    loss = segmentation_loss(logits, target, kind=kind, class_weights=weights)
    assert float(loss) == pytest.approx(slow_loss(logits, target, kind, weights), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_classes", [1, 3])
class TestMask:
    def test_unlabelled_pixels_have_no_gradient(self, n_classes, kind):
        channels = 1 if n_classes == 1 else n_classes + 1
        logits = torch.randn(2, channels, 9, 11, requires_grad=True)
        target = annotation(0, n_classes, 0.3)
        segmentation_loss(logits, target, kind=kind).backward()
        grad = logits.grad.movedim(1, -1)
        assert (grad[target == 0] == 0).all()
        assert (grad[target != 0] != 0).any()

    def test_nothing_labelled_is_no_loss(self, n_classes, kind):
        channels = 1 if n_classes == 1 else n_classes + 1
        logits = torch.randn(2, channels, 4, 4, requires_grad=True)
        loss = segmentation_loss(logits, torch.zeros(2, 4, 4, dtype=torch.uint8), kind=kind)
        loss.backward()
        assert float(loss.detach()) == 0
        assert (logits.grad == 0).all()

    def test_a_perfect_prediction_of_few_labels_is_no_loss(self, n_classes, kind):
        target = annotation(1, n_classes, 0.01, (1, 100, 100))
        true = torch.where(target == 255, 0, target).long()
        one_hot = torch.nn.functional.one_hot(true, n_classes + 1).movedim(-1, 1).float()
        logits = 40 * (one_hot[:, 1:] - 0.5 if n_classes == 1 else one_hot)
        assert float(segmentation_loss(logits, target, kind=kind)) < 1e-4

    def test_only_background_is_finite(self, n_classes, kind):
        channels = 1 if n_classes == 1 else n_classes + 1
        target = torch.full((1, 3, 3, 3), 255)
        loss = segmentation_loss(torch.zeros(1, channels, 3, 3, 3), target, kind=kind)
        expected = 0 if kind == "dice" else log(channels if channels > 1 else 2)
        assert float(loss) == pytest.approx(expected)


def test_values_worked_out_by_hand():
    logits = torch.tensor([0.0, 0.0, 5.0]).view(1, 1, 1, 3)
    target = torch.tensor([1, 255, 0]).view(1, 1, 3)
    assert float(segmentation_loss(logits, target, kind="cross-entropy")) == pytest.approx(log(2))
    # Overlap 0.5, predicted 1, true 1: Dice (1 + 1) / (2 + 1).
    assert float(segmentation_loss(logits, target, kind="dice")) == pytest.approx(1 / 3)


def test_pixel_weights_move_the_cross_entropy():
    logits, target = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2), torch.tensor([[[1, 1]]])
    weights = torch.tensor([[[1.0, 3.0]]])
    loss = segmentation_loss(logits, target, kind="cross-entropy", pixel_weights=weights)
    assert float(loss) == pytest.approx((log(2) + 3 * log(1 + exp(-2))) / 4)


def test_heads_count_half_as_much_each():
    target = annotation(0, 2, 0.5)
    heads = [torch.randn(2, 3, 9, 11) for _ in range(3)]
    a, b, c = (float(segmentation_loss(head, target)) for head in heads)
    expected = (4 * a + 2 * b + c) / 7
    assert float(segmentation_loss(heads, target)) == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_half_precision_logits_are_computed_in_float32(channels):
    logits, target = torch.randn(2, channels, 9, 11).bfloat16(), annotation(0, 1, 0.5)
    loss = segmentation_loss(logits, target)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(segmentation_loss(logits.float(), target)))


class TestHintLoss:
    @pytest.mark.parametrize("n_classes", [1, 3])
    def test_certain_hints_count_as_labels(self, n_classes):
        labels = annotation(0, n_classes, 1.0)
        true = torch.where(labels == 255, 0, labels).long()
        hints = torch.nn.functional.one_hot(true, n_classes + 1).movedim(-1, 1).float()
        logits = torch.randn(2, 1 if n_classes == 1 else n_classes + 1, 9, 11)
        found = hint_loss(logits, torch.zeros_like(labels), hints)
        expected = segmentation_loss(logits, labels, kind="cross-entropy")
        assert float(found) == pytest.approx(float(expected), rel=1e-5)

    def test_is_least_where_the_net_agrees(self):
        hints = torch.rand(1, 1, 6, 6)
        target = torch.zeros(1, 6, 6, dtype=torch.uint8)
        both = torch.cat([1 - hints, hints], 1)
        agreeing = hint_loss(torch.logit(hints), target, both)
        assert agreeing < hint_loss(torch.logit(hints) + 0.5, target, both)
        assert agreeing < hint_loss(torch.logit(hints) - 0.5, target, both)

    @pytest.mark.parametrize("n_classes", [1, 3])
    def test_counts_as_much_as_it_is_sure(self, n_classes):
        kinds = n_classes + 1
        target, logits = torch.zeros(1, 1, 3, dtype=torch.uint8), torch.randn(1, kinds, 1, 3)
        other = 1 / kinds
        half = torch.tensor([(1 + other) / 2, *[other / 2] * n_classes])
        sure = torch.eye(kinds)[0]
        blank = torch.full((kinds,), other)
        hints = torch.stack([sure, half, blank], 1)[None, :, None]
        each = -(hints * logits.log_softmax(1)).sum(1).flatten()
        expected = (each[0] + each[1] / 2) / 1.5
        assert float(hint_loss(logits, target, hints)) == pytest.approx(float(expected), rel=1e-5)

    def test_of_several_heads_each_counts_half_as_much_as_the_one_before(self):
        hints, target = torch.rand(1, 2, 6, 6), torch.zeros(1, 6, 6, dtype=torch.uint8)
        heads = [torch.randn(1, 1, 6, 6) for _ in range(3)]
        one, two, three = (float(hint_loss(h, target, hints)) for h in heads)
        expected = (one + two / 2 + three / 4) / 1.75
        assert float(hint_loss(heads, target, hints)) == pytest.approx(expected, rel=1e-5)

    def test_says_nothing_of_what_is_labelled_nor_where_there_is_no_hint(self):
        target = torch.zeros(1, 4, 4, dtype=torch.uint8)
        target[:, :2] = 1
        hints = torch.tensor([0.7, 0.3]).view(1, 2, 1, 1).repeat(1, 1, 4, 4)
        hints[..., 2:] = 0
        logits = torch.randn(1, 1, 4, 4, requires_grad=True)
        hint_loss(logits, target, hints).backward()
        assert logits.grad is not None
        seen = logits.grad[0, 0] != 0
        assert seen[2:, :2].all()
        assert not seen[:2].any()
        assert not seen[:, 2:].any()
        assert float(hint_loss(logits.detach(), target, hints * 0)) == 0


class TestClassWeights:
    def test_the_inverse_square_root(self):
        weights = class_weights([400, 100, 25])
        assert float(weights.mean()) == pytest.approx(1)
        assert float(weights[1] / weights[0]) == pytest.approx(2)
        assert float(weights[2] / weights[0]) == pytest.approx(4)

    def test_absent_classes_change_nothing(self):
        torch.testing.assert_close(class_weights([400, 0, 100])[[0, 2]], class_weights([400, 100]))
        assert float(class_weights([400, 0, 100])[1]) == 1
        assert class_weights([0, 0]).tolist() == [1, 1]

    def test_a_single_pixel_does_not_rule(self):
        weights = class_weights([10**8, 10**8, 1])
        assert float(weights.max() / weights.min()) <= 100


def slow_border(instances, strength, width):
    objects = [i for i in np.unique(instances) if i]
    distances = np.sort([ndimage.distance_transform_edt(instances != i) for i in objects], axis=0)
    weights = 1 + strength * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * width**2))
    return np.where(instances == 0, weights, 1)


class TestBorderWeights:
    @pytest.mark.parametrize("shape", [(40, 50), (12, 20, 24)])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_equals_one_distance_transform_per_object(self, shape, seed):
        rng = np.random.default_rng(seed)
        instances = np.zeros(shape, np.int32)
        for i in range(1, 25):
            corner = [int(rng.integers(0, n - 3)) for n in shape]
            instances[tuple(slice(c, c + 3) for c in corner)] = 7 * i
        weights = border_weights(instances, 10, 4)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, slow_border(instances, 10, 4), atol=1e-3)

    def test_peaks_between_objects(self):
        instances = np.zeros((5, 9), np.uint8)
        instances[:, :4], instances[:, 5:] = 1, 2
        weights = border_weights(instances, 10)
        assert weights[2, 4] == pytest.approx(1 + 10 * exp(-4 / 50))
        assert (weights[:, :4] == 1).all()

    @pytest.mark.parametrize("objects", [0, 1])
    def test_fewer_than_two_objects_have_no_border(self, objects):
        instances = np.zeros((4, 4), np.uint8)
        instances[1, 1] = objects
        assert (border_weights(instances, 10) == 1).all()

    def test_objects_may_fill_the_image(self):
        assert (border_weights(np.array([[1, 2], [1, 2]]), 10) == 1).all()
