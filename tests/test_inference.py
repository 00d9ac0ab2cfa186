"""Prediction: tiles agree with the whole, everything that was asked for comes, stop and memory."""

from __future__ import annotations

from collections.abc import Iterator

import dask.array as da
import numpy as np
import pytest
import torch
import zarr

from napari_unet import inference
from napari_unet.cards import Card
from napari_unet.config import NetConfig, PredictConfig, class_table
from napari_unet.device import Numerics
from napari_unet.inference import Target, memory_per_pixel, predict
from napari_unet.library import Model
from napari_unet.models import ARCHITECTURES, build
from napari_unet.models.pixels import PER_CHANNEL
from napari_unet.normalise import measure
from napari_unet.run import BadInput, Control, Noticed, Predicted, Tiled

WHOLE = 4096


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(arch="compact", n_classes=1, seen=(), **net) -> Model:
    torch.manual_seed(0)
    config = NetConfig(arch=arch, n_classes=n_classes, **{"width": 4, "depth": 2} | net)
    built = build(config)
    # Random nets say the same everywhere; a larger last layer gives classes that vary.
    weights = {k: v * 8 if k.startswith("last") else v for k, v in built.state_dict().items()}
    card = Card(
        name="m", net=built.config, classes=class_table(n_classes), axes="CYX", seen=tuple(seen)
    )
    return Model(card, weights)


def picture(*shape, seed=0) -> np.ndarray:
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=shape)
    return (128 + 400 * ndimage.gaussian_filter(noise, 2)).clip(0, 255).astype(np.uint8)[None]


def result(model, image, control=None, target=None, **settings) -> Predicted:
    config = PredictConfig(**{"device": "cpu", "precision": "float32"} | settings)
    return list(predict(model, image, config, control, target))[-1]


class TestTilesAgreeWithTheWhole:
    @pytest.mark.parametrize("arch", ARCHITECTURES)
    @pytest.mark.parametrize("shape", [(150, 203), (41, 50, 45)])
    def test_to_rounding_without_tile_wide_statistics(self, arch, shape):
        model = make_model(arch, ndim=len(shape))
        if not model.net.tile_independent:
            pytest.skip(f"{arch} takes statistics over its tile: the next test is for it")
        image = picture(*shape)

        whole = result(model, image, tile=WHOLE, probabilities=True)
        tiled = result(model, image, tile=48 if len(shape) == 2 else 24, probabilities=True)

        assert np.abs(whole.probabilities - tiled.probabilities).max() < 1e-4
        assert (whole.labels != tiled.labels).mean() < 1e-4

    @pytest.mark.parametrize(("arch", "grain"), [("compact", 1), ("compact", 2), ("nested", 1)])
    def test_no_seam_shows_where_they_have_them(self, arch, grain):
        model, image = make_model(arch, grain=grain), picture(600, 600)

        whole = result(model, image, tile=WHOLE, probabilities=True).probabilities[0]
        tiled = result(model, image, tile=128, probabilities=True).probabilities[0]
        other = result(model, image, tile=208, probabilities=True).probabilities[0]

        # The statistics are those of the image: wherever the cuts are, the result is the same,
        # and it is nearly that of the whole image at once.
        assert np.abs(tiled - other).max() < 1e-4
        assert np.quantile(np.abs(tiled - whole), 0.999) < 0.05


class TestWhatComes:
    def test_probabilities_and_uncertainty_fit_the_labels(self):
        got = result(make_model(n_classes=3), picture(60, 70), probabilities=True, uncertainty=True)

        background = 1 - got.probabilities.sum(0, keepdims=True)
        assert np.array_equal(np.concatenate([background, got.probabilities]).argmax(0), got.labels)
        assert len(np.unique(got.labels)) > 1
        assert 0 <= got.uncertainty.min() <= got.uncertainty.max() <= 1
        certain = np.concatenate([background, got.probabilities]).max(0)
        assert np.corrcoef(certain.ravel(), got.uncertainty.ravel())[0, 1] < -0.5

    def test_labels_alone_are_those_with_probabilities(self):
        model, image = make_model("upsample"), picture(100, 90)

        alone = result(model, image, tile=32).labels
        beside = result(model, image, tile=32, probabilities=True).labels

        assert np.array_equal(alone, beside)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (17, 250)])
    def test_any_size(self, shape):
        assert result(make_model(), picture(*shape)).labels.shape == shape

    def test_stacks_plane_by_plane(self):
        model, image = make_model(), picture(3, 40, 44)
        stats = measure(image)

        labels = result(model, image).labels

        assert labels.shape == (3, 40, 44)
        runner = inference._Runner(
            model, inference.choose_numerics("cpu", "float32"), PredictConfig()
        )
        alone = runner.logits(runner.net, stats.apply(image[:, 1]))[0] > 0
        assert np.array_equal(labels[1], alone.numpy())

    def test_mirror_images_make_the_result_mirror_with_the_image(self):
        model, image = make_model("upsample"), picture(64, 64)

        straight = result(model, image, flips=True, probabilities=True).probabilities
        mirrored = result(model, image[..., ::-1], flips=True, probabilities=True).probabilities

        assert np.abs(straight - mirrored[..., ::-1]).max() < 1e-3

    def test_from_lazy_to_zarr(self, tmp_path):
        model, image = make_model("upsample"), picture(130, 140)
        array = zarr.create_array(
            str(tmp_path / "mask.zarr"), shape=(130, 140), chunks=(64, 64), dtype="uint8"
        )

        result(model, da.from_array(image, (1, 50, 60)), target=Target(array), tile=48)

        assert np.array_equal(array[:], result(model, image).labels)

    def test_nan_and_constant_images_give_masks(self):
        image = picture(40, 40).astype(np.float32)
        image[0, 3:9] = np.nan

        assert result(make_model(), image).labels.shape == (40, 40)
        assert result(make_model(), np.full((1, 30, 30), 7)).labels.shape == (30, 30)


def test_filters_that_need_more_memory_than_the_net_make_tiles_smaller():
    cpu = Numerics(torch.device("cpu"), torch.bfloat16, channels_last=True)
    alone, one, many = (
        memory_per_pixel(build(NetConfig(in_channels=channels, pixels=share)), cpu)
        for channels, share in ((8, 0), (1, 0.5), (8, 0.5))
    )
    assert many == 8 * PER_CHANNEL * 3 * 4 > 2 * alone
    assert one == pytest.approx(alone, rel=0.1)


def test_a_coarse_net_needs_less_memory_and_so_has_larger_tiles():
    cpu = Numerics(torch.device("cpu"), torch.float32, channels_last=True)
    fine, coarse, many = (
        memory_per_pixel(build(NetConfig(grain=grain, n_classes=classes)), cpu)
        for grain, classes in ((1, 1), (2, 1), (2, 99))
    )
    assert coarse < 0.4 * fine
    assert many > coarse + 99 * 4


class TestControl:
    def test_stops_within_a_tile_and_what_was_not_reached_is_0(self):
        model, image, control = make_model("upsample"), picture(160, 160), Control()
        model.weights["last.bias"].fill_(99.0)
        events = []
        for event in predict(model, image, PredictConfig(tile=32, device="cpu"), control):
            events.append(event)
            if len(events) == 2:
                control.stop()

        assert [type(e) for e in events] == [Tiled, Tiled, Predicted]
        assert events[-1].stopped
        assert 0 < events[-1].labels.sum() < 160 * 160

    def test_what_is_looked_at_comes_first(self):
        config = PredictConfig(tile=32, device="cpu", focus=(150, 100))

        first = next(iter(predict(make_model("upsample"), picture(160, 160), config)))

        assert first.region[0].stop > 130
        assert first.region[1].start <= 100 < first.region[1].stop

    def test_memory_that_runs_out_makes_tiles_smaller(self, monkeypatch):
        real = inference._Runner.logits

        def short_of_memory(self, net, pixels):
            if pixels[0].size > 100 * 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, net, pixels)

        model, image = make_model("upsample"), picture(200, 200)
        expected = result(model, image).labels
        monkeypatch.setattr(inference._Runner, "logits", short_of_memory)
        events = list(
            predict(model, image, PredictConfig(tile=128, device="cpu", precision="float32"))
        )

        assert [e.message for e in events if isinstance(e, Noticed)] == [
            "Memory ran out; going on with tiles of 64 pixels."
        ]
        assert np.array_equal(events[-1].labels, expected)


class TestRefusals:
    def test_wrong_channels(self):
        with pytest.raises(BadInput, match=r"3 channel\(s\) but model 'm' reads 1"):
            result(make_model(), np.repeat(picture(20, 20), 3, 0))

    def test_a_plane_for_a_volume_model(self):
        with pytest.raises(BadInput, match=r"image is a plane .* reads volumes"):
            result(make_model(ndim=3), picture(20, 20))

    def test_warns_of_intensities_never_seen(self):
        image = picture(40, 40)
        model = make_model(seen=[measure(image)])
        config = PredictConfig(device="cpu")

        usual = [e for e in predict(model, image, config) if isinstance(e, Noticed)]
        strange = [
            e
            for e in predict(model, image.astype(np.uint16) * 200, config)
            if isinstance(e, Noticed)
        ]

        assert not usual
        assert [e.kind for e in strange] == ["range"]
