"""Every command from end to end, and what it says to people and to machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image as Pillow

from napari_unet import __version__, demo, info
from napari_unet.cards import read_card
from napari_unet.cli import main, pairs, predict
from napari_unet.cli.train import TrainReport
from napari_unet.config import class_table
from napari_unet.export import FORMATS
from napari_unet.io import as_image, read_image
from napari_unet.library import load_model
from napari_unet.masks import read_mask
from napari_unet.project import create_project, open_project
from napari_unet.records import MaskCard
from napari_unet.run import BadInput, Noticed, Rested, Tiled
from napari_unet.samples import cells

TINY = ("--width", "4", "--depth", "2", "--steps", "3", "--precision", "float32")
FAST = ("--precision", "float32")
COMMANDS = (
    "train",
    "predict",
    "evaluate",
    "models list",
    "models show",
    "models import",
    "models export",
    "info",
    "demo",
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """One thread, and a library of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))
    yield
    torch.set_num_threads(threads)


def disk(size: int = 40, shift: int = 0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return (y**2 + (x - shift) ** 2 < (size // 4) ** 2).astype(np.uint8)


def write_pairs(root: Path, n: int = 2) -> tuple[str, str]:
    """Images a, b, ... and their masks, in folders of which the paths are given."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name, shift in zip("abcdefgh"[:n], range(n), strict=True):
        noise = rng.integers(0, 60, (40, 40))
        picture = (noise + 150 * disk(shift=shift)).astype(np.uint8)
        Pillow.fromarray(picture).save(root / f"images/{name}.png")
        Pillow.fromarray(disk(shift=shift) * 255).save(root / f"masks/{name}_mask.png")
    return str(root / "images"), str(root / "masks")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with images, masks and a model of them."""
    root = tmp_path_factory.mktemp("trained")
    status = main(["train", *write_pairs(root), "--out", str(root / "model"), *TINY])
    assert status == 0
    return root


def lines_of_json(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---- help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])

    assert left.value.code == 0
    assert f"usage: napari-unet {command}".strip() in capsys.readouterr().out


def test_the_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_waits_for_nothing_heavy():
    script = (
        "import sys; from napari_unet.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', *{'torch', 'numpy', 'scipy', 'skimage', 'dask'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "loaded"


def test_help_shows_the_words_and_defaults_of_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])

    said = " ".join(capsys.readouterr().out.split())
    assert "Seed of everything random (default 0)" in said
    assert "{compact,classic,simple,upsample,nested}" in said


# ---- train


@pytest.mark.parametrize(("flags", "there"), [([], True), (["--no-second-opinion"], False)])
def test_what_is_usual_can_be_switched_off(tmp_path, flags, there):
    out = tmp_path / "model"
    assert main(["train", *write_pairs(tmp_path), "--out", str(out), *flags, *TINY]) == 0
    assert bool(load_model(out).card.net.pixels) is there


def test_training_leaves_a_model_and_says_where(tmp_path, capsys):
    status = main(["train", *write_pairs(tmp_path), "--out", str(tmp_path / "model"), *TINY])

    said = capsys.readouterr()
    assert status == 0
    assert said.out == ""
    assert "masks: 0 is background, 255 is class 1 (--map corrects this)" in said.err
    assert "a: YX read as C 1, Y 40, X 40; uint8" in said.err
    assert said.err.splitlines()[-1] == f"The model is in {(tmp_path / 'model').resolve()}"
    card = load_model(tmp_path / "model").card
    assert (card.name, card.net.width, card.training["steps"]) == ("model", 4, 3)
    assert set(card.images) == {"a", "b"}


def test_training_tells_machines_in_lines_of_json(tmp_path, capsys):
    main(["train", *write_pairs(tmp_path), "--out", str(tmp_path / "m.zip"), *TINY, "--json"])

    events = lines_of_json(capsys.readouterr().out)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-2:] == ["trained", "written"]
    assert [e["step"] for e in events if e["event"] == "stepped"] == [1, 2, 3]
    assert events[0]["images"] == 2
    assert events[-2]["reason"] == "steps"
    assert events[-1]["path"] == str((tmp_path / "m.zip").resolve())
    assert load_model(tmp_path / "m.zip").card.name == "m"


def test_one_file_each_need_not_share_a_name(tmp_path):
    images, masks = write_pairs(tmp_path)
    pair = [f"{images}/a.png", f"{masks}/b_mask.png"]

    assert main(["train", *pair, "--out", str(tmp_path / "model"), *TINY]) == 0


def test_classes_get_their_names_and_values_their_meaning(tmp_path, capsys):
    images, masks = write_pairs(tmp_path, 1)
    Pillow.fromarray(disk() * 100 + disk(20).repeat(2, 0).repeat(2, 1)).save(f"{masks}/a_mask.png")

    status = main(
        [
            "train",
            images,
            masks,
            "--out",
            str(tmp_path / "model"),
            *TINY,
            "--map",
            "0=0,1=1,100=2,101=2",
            "--classes",
            "rim, nucleus ",
        ]
    )

    assert status == 0
    assert "101 is class 2" in capsys.readouterr().err
    names = [c.name for c in load_model(tmp_path / "model").card.classes]
    assert names == ["rim", "nucleus"]


def test_colours_mean_the_same_in_all_masks(tmp_path):
    images, masks = write_pairs(tmp_path)
    red, green = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)
    Pillow.fromarray(disk()[..., None] * red + (1 - disk())[..., None] * green).save(
        f"{masks}/a_mask.png"
    )
    Pillow.fromarray(disk()[..., None] * green).save(f"{masks}/b_mask.png")

    found = pairs.read_pairs(Path(images), Path(masks), None)

    assert set(np.unique(found[0][1])) == {1, 2}
    assert set(np.unique(found[1][1])) == {0, 2}


def test_training_goes_on_from_a_model_and_keeps_it_as_a_version(tmp_path):
    arguments = ["train", *write_pairs(tmp_path), "--out", str(tmp_path / "model"), *TINY]

    main(arguments)
    status = main([*arguments, "--init", str(tmp_path / "model"), "--seed", "1"])

    assert status == 0
    assert [v.number for v in read_card(tmp_path / "model").versions] == [1, 2]


def test_training_goes_on_from_a_checkpoint(tmp_path, capsys):
    pairs = write_pairs(tmp_path)
    arguments = ["train", *pairs, "--out", str(tmp_path / "model"), *TINY]
    arguments += ["--checkpoint", str(tmp_path / "state"), "--json"]

    main(arguments)
    capsys.readouterr()
    status = main([*arguments, "--steps", "5"])

    steps = [e["step"] for e in lines_of_json(capsys.readouterr().out) if e["event"] == "stepped"]
    assert status == 0
    assert steps == [4, 5]


def test_a_checkpoint_goes_on_with_more_images_but_not_with_others(tmp_path, capsys):
    pairs, more = write_pairs(tmp_path), write_pairs(tmp_path / "more", 6)
    end = ["--out", str(tmp_path / "model"), *TINY, "--checkpoint", str(tmp_path / "state")]

    assert main(["train", *pairs, *end]) == 0
    assert main(["train", *more, *end, "--steps", "5"]) == 0
    for path in (tmp_path / "images/a.png", tmp_path / "masks/a_mask.png"):
        Pillow.fromarray(np.tile(np.asarray(Pillow.open(path)), (4, 4))).save(path)
    capsys.readouterr()
    status = main(["train", *pairs, *end, "--steps", "7"])

    assert status == 2
    said = capsys.readouterr().err
    assert "state is a checkpoint of another image 'a', of another size; give another" in said
    assert said.count("\n") == 1


def test_strokes_objects_and_slices(tmp_path):
    images, masks = write_pairs(tmp_path, 1)
    strokes = np.zeros((40, 40), np.uint8)
    strokes[10:14], strokes[30:34] = 1, 255
    Pillow.fromarray(strokes).save(f"{masks}/a_mask.png")
    sparse = ["train", images, masks, "--out", str(tmp_path / "s"), *TINY, "--sparse"]
    objects = np.arange(1600, dtype=np.uint16).reshape(40, 40) // 160
    tifffile.imwrite(tmp_path / "objects.tif", objects)
    labelled = ["train", f"{images}/a.png", str(tmp_path / "objects.tif"), *TINY]
    labelled += ["--out", str(tmp_path / "o"), "--objects", "--border", "4"]
    tifffile.imwrite(
        tmp_path / "z.tif", np.stack([disk()] * 8), metadata={"axes": "ZYX"}, imagej=True
    )
    shutil.copy(tmp_path / "z.tif", tmp_path / "z_mask.tif")
    pair = [str(tmp_path / "z.tif"), str(tmp_path / "z_mask.tif")]
    stack = ["train", *pair, "--out", str(tmp_path / "z"), *TINY]

    assert [main(a) for a in (sparse, labelled, [*stack, "--slices"])] == [0, 0, 0]

    assert load_model(tmp_path / "s").card.labelled == (160, 160)
    assert len(load_model(tmp_path / "o").card.classes) == 1
    assert load_model(tmp_path / "z").card.net.ndim == 2


def test_a_bar_on_a_terminal_keeps_lines_whole(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    report = TrainReport(5)
    report(Noticed("memory", "Memory ran out."))
    report(Rested(3))

    said = capsys.readouterr().err
    assert "Memory ran out.\n" in said
    assert "no longer improves after 3 steps\n" in said


def test_rest_ends_open_ended_training(tmp_path, capsys):
    arguments = ["train", *write_pairs(tmp_path), "--out", str(tmp_path / "model"), *TINY[:4]]

    status = main([*arguments, *FAST, "--patience", "3", "--holdout", "0"])

    assert status == 0
    assert "no longer improves after" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl-C to one process only")
def test_ctrl_c_keeps_the_best_and_says_where_it_is(tmp_path):
    model = tmp_path / "model"
    images, masks = write_pairs(tmp_path)
    command = [sys.executable, "-m", "napari_unet.cli", "train", images, masks, "--json"]
    process = subprocess.Popen(
        [*command, "--out", str(model), *TINY[:4], *FAST, "--patience", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    for line in process.stdout:
        if json.loads(line).get("step", 0) >= 5:
            break
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)

    assert process.returncode == 0, said
    assert "Stopping; the best so far is kept" in said
    assert said.splitlines()[-1] == f"The model is in {model.resolve()}"
    last = lines_of_json(out)[-2]
    assert (last["event"], last["reason"]) == ("trained", "stopped")
    assert load_model(model).card.current.steps >= 0


def test_a_second_ctrl_c_gives_up_without_a_traceback(monkeypatch, capsys):
    def listing(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_unet.cli.models._models_list", listing)

    assert main(["models", "list"]) == 130
    assert capsys.readouterr().err == "Given up; nothing more is written.\n"


# ---- predict


def read(path: Path) -> np.ndarray:
    if path.name.endswith(".zarr"):
        return zarr.open(str(path), mode="r")["0"][:]
    return np.load(path) if path.suffix == ".npy" else read_mask(path)


def test_the_formats_are_those_that_are_written():
    assert [f".{name}" for name in predict.FORMATS] == [f.suffix for f in FORMATS]


@pytest.mark.parametrize("kind", ["tif", "ome.tif", "png", "npy", "zarr", "ome.zarr"])
def test_masks_are_written_in_formats_of_pixels(kind, trained, tmp_path, capsys):
    arguments = ["predict", str(trained / "model"), str(trained / "images"), *FAST]

    status = main([*arguments, "--out", str(tmp_path / "out"), "--format", kind])

    assert status == 0
    assert capsys.readouterr().err == f"The masks are in {(tmp_path / 'out').resolve()}\n"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"a.{kind}", f"b.{kind}"}
    main([*arguments, "--out", str(tmp_path / "npy"), "--format", "npy"])
    np.testing.assert_array_equal(read(tmp_path / f"out/a.{kind}"), np.load(tmp_path / "npy/a.npy"))


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("nii.gz", "nibabel"),
        ("seg.nrrd", None),
        ("geojson", None),
        ("coco.json", None),
        ("roi.zip", "roifile"),
        ("csv", None),
    ],
)
def test_masks_are_written_in_other_formats(kind, library, trained, tmp_path):
    if library:
        pytest.importorskip(library)
    arguments = ["predict", str(trained / "model"), str(trained / "images"), *FAST]

    status = main([*arguments, "--out", str(tmp_path / "out"), "--format", kind, "--instances"])

    assert status == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"a.{kind}", f"b.{kind}"}


@pytest.mark.parametrize("name", ["mask.geojson", "mask.json", "mask.OME.tif", "mask.zarr"])
def test_the_mask_of_one_image_is_written_to_the_file_that_out_names(
    name, trained, tmp_path, capsys
):
    image, out = str(trained / "images/a.png"), tmp_path / "new" / name
    arguments = ["predict", str(trained / "model"), image, *FAST, "--out", str(out)]

    status = main([*arguments, "--probabilities"])

    assert status == 0
    said = capsys.readouterr().err.splitlines()[-2:]
    folder = out.parent.resolve() / "probabilities"
    assert said == [f"The mask is in {out.resolve()}", f"Folder of the probabilities: {folder}"]
    assert {p.name for p in out.parent.iterdir()} == {name, "probabilities"}
    assert [main(arguments), main([*arguments, "--overwrite"])] == [2, 0]


@pytest.mark.parametrize(
    ("images", "options", "sentence"),
    [
        ("images", ["--out", "m.geojson"], "m.geojson is one file, but there are 2 images"),
        ("images/a.png", ["--out", "m.csv", "--format", "png"], "is not of the format png"),
        ("images/a.png", ["--out", "m.dcm"], "needs"),
        ("images/a.png", ["--out", "m", "--format", "dcm"], "needs"),
    ],
)
def test_where_a_mask_cannot_go_is_told_before_the_work(
    images, options, sentence, trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_unet.inference.predict", lambda *_: pytest.fail("it predicted"))

    status = main(["predict", str(trained / "model"), str(trained / images), *FAST, *options])

    assert status == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_probabilities_and_uncertainty_are_written_in_folders_of_their_own(trained, tmp_path):
    status = main(
        [
            "predict",
            str(trained / "model"),
            str(trained / "images/a.png"),
            *FAST,
            "--out",
            str(tmp_path),
            "--format",
            "png",
            "--probabilities",
            "--uncertainty",
        ]
    )

    assert status == 0
    probability = tifffile.imread(tmp_path / "probabilities" / "a.tif").squeeze()
    uncertainty = tifffile.imread(tmp_path / "uncertainty" / "a.tif").squeeze()
    assert probability.dtype == uncertainty.dtype == np.float32
    assert probability.shape == uncertainty.shape == (40, 40)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), probability > 0.5)
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1


@pytest.mark.parametrize("more", [(), ("--probabilities",)])
def test_instances_are_numbered(more, trained, tmp_path, monkeypatch):
    mask = np.zeros((40, 40), np.uint8)
    mask[2:8, 2:8] = mask[20:30, 20:30] = mask[2:8, 30:36] = 1

    def predict(_model, _image, _config, _control, target, *_rest):
        target.labels[0:40, 0:40] = mask
        if target.probabilities is not None:
            target.probabilities[:, 0:40, 0:40] = mask[None]
        yield from ()

    monkeypatch.setattr("napari_unet.inference.predict", predict)

    status = main(
        [
            "predict",
            str(trained / "model"),
            str(trained / "images/a.png"),
            *FAST,
            *more,
            "--out",
            str(tmp_path),
            "--instances",
        ]
    )

    assert status == 0
    labels = read_mask(tmp_path / "a.tif")
    assert labels.max() == 3
    np.testing.assert_array_equal(labels > 0, mask > 0)


def test_predicting_tells_machines_in_lines_of_json(trained, tmp_path, capsys):
    status = main(
        [
            "predict",
            str(trained / "model"),
            str(trained / "images"),
            *FAST,
            "--json",
            "--out",
            str(tmp_path),
            "--probabilities",
            "--tile",
            "32",
        ]
    )

    events = lines_of_json(capsys.readouterr().out)
    assert status == 0
    assert [e["event"] for e in events].count("segmented") == 2
    assert [e["path"] for e in events if e["event"] == "written"] == [
        str(tmp_path / "a.tif"),
        str(tmp_path / "b.tif"),
    ]
    tiles = [(e["done"], e["total"]) for e in events if e["event"] == "tiled"]
    assert tiles[-1][0] == tiles[-1][1]


def test_an_image_of_another_range_is_told_without_a_terminal(trained, tmp_path, capsys):
    np.save(tmp_path / "bright.npy", np.full((40, 40), 60000, np.uint16))

    status = main(
        [
            "predict",
            str(trained / "model"),
            str(tmp_path / "bright.npy"),
            *FAST,
            "--out",
            str(tmp_path / "out"),
        ]
    )

    assert status == 0
    assert capsys.readouterr().err.startswith("bright: The intensities of this image")


def test_masks_are_replaced_if_asked_to(trained, tmp_path):
    arguments = ["predict", str(trained / "model"), str(trained / "images"), *FAST]
    arguments += ["--out", str(tmp_path)]

    assert [main(arguments), main(arguments), main([*arguments, "--overwrite"])] == [0, 2, 0]


def test_pixel_size_and_axes_travel_to_the_mask(trained, tmp_path):
    tifffile.imwrite(
        tmp_path / "stack.ome.tif",
        np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype(np.uint8),
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2},
    )

    main(
        [
            "predict",
            str(trained / "model"),
            str(tmp_path / "stack.ome.tif"),
            *FAST,
            "--out",
            str(tmp_path / "out"),
            "--format",
            "ome.tif",
        ]
    )

    mask = read_image(tmp_path / "out/stack.ome.tif")
    assert (mask.axes, mask.spatial_shape, mask.spacing) == ("CZYX", (3, 40, 40), (2, 0.5, 0.5))


def test_ctrl_c_while_predicting_leaves_whole_masks_only(trained, tmp_path, monkeypatch, capsys):
    show = predict._PredictReport.__call__

    def interrupt(report, event):
        show(report, event)
        if report.name == "b" and isinstance(event, Tiled):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(predict._PredictReport, "__call__", interrupt)

    status = main(
        [
            "predict",
            str(trained / "model"),
            str(trained / "images"),
            *FAST,
            "--out",
            str(tmp_path / "out"),
        ]
    )

    assert status == 130
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.tif"]
    assert f"the masks of the images before b.png are in {tmp_path}" in capsys.readouterr().err


def test_a_nested_net_is_asked_at_a_shallower_head(tmp_path):
    images, masks = write_pairs(tmp_path)
    model = str(tmp_path / "model")
    alone = ["--arch", "nested", "--no-second-opinion"]
    main(["train", images, masks, "--out", model, *TINY, *alone])

    found = []
    for head in ([], ["--head", "1"]):
        out = tmp_path / f"out{len(head)}"
        main(["predict", model, images, "--out", str(out), *FAST, "--probabilities", *head])
        found.append(tifffile.imread(out / "probabilities" / "a.tif"))
    assert not np.array_equal(*found)


# ---- evaluate


def write_masks(root: Path) -> tuple[str, str]:
    """Two predictions with their truths, whose scores are worked out by hand below."""
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]], np.uint8)
    found = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [2, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
    only_one = np.array([[1, 1], [0, 0]], np.uint8)
    for folder, masks in (("found", (found, only_one)), ("truth", (truth, only_one))):
        (root / folder).mkdir()
        for name, mask in zip("xy", masks, strict=True):
            tifffile.imwrite(root / folder / f"{name}.tif", mask)
    return str(root / "found"), str(root / "truth")


def test_scores_are_those_of_a_hand_computation(tmp_path, capsys):
    status = main(["evaluate", *write_masks(tmp_path), "--json"])

    scores = json.loads(capsys.readouterr().out)
    assert status == 0
    # x: class 1 has 4 true and 4 found pixels, 3 of them both; class 2 has 4 and 1, 1 both.
    assert scores["images"] == [
        {"image": "x", "dice": [6 / 8, 2 / 5], "iou": [3 / 5, 1 / 4]},
        {"image": "y", "dice": [1, None], "iou": [1, None]},
    ]
    assert scores["classes"] == {"dice": [0.875, 0.4], "iou": [0.8, 0.25]}
    assert scores["mean"] == pytest.approx({"dice": 0.6375, "iou": 0.525})


def test_scores_are_printed_as_a_table(tmp_path, capsys):
    main(["evaluate", *write_masks(tmp_path)])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["image", "Dice", "1", "Dice", "2", "IoU", "1", "IoU", "2"]
    assert lines[1] == ["x", "0.7500", "0.4000", "0.6000", "0.2500"]
    assert lines[2] == ["y", "1.0000", "absent", "1.0000", "absent"]
    assert lines[3] == ["mean", "0.8750", "0.4000", "0.8000", "0.2500"]
    assert lines[4][-4:] == ["Dice", "0.6375,", "IoU", "0.5250"]


def test_masks_that_number_classes_differently_are_told(tmp_path, capsys):
    Pillow.fromarray(disk()).save(tmp_path / "found.png")
    Pillow.fromarray(disk() * 255).save(tmp_path / "truth.png")

    main(["evaluate", str(tmp_path / "found.png"), str(tmp_path / "truth.png")])

    said = capsys.readouterr()
    assert "true: 0 is background, 255 is class 1" in said.err
    assert "Dice   1.0000" in said.out


def cut(mask: np.ndarray, parts: int) -> np.ndarray:
    """The mask in stripes with gaps between them, each with a number of its own."""
    stripe = np.arange(len(mask))[:, None] * parts // len(mask) + 1
    gap = np.arange(len(mask))[:, None] % (len(mask) // parts) == 0
    return np.where((mask > 0) & ~gap, stripe, 0).astype(np.uint8)


@pytest.mark.parametrize("parts", [10, 1])
def test_masks_are_compared_with_objects_as_what_is_no_background(tmp_path, capsys, parts):
    truth = cut(disk(), 10)
    Pillow.fromarray(np.minimum(truth, parts)).save(tmp_path / "found.png")
    Pillow.fromarray(truth).save(tmp_path / "truth.png")

    main(["evaluate", str(tmp_path / "found.png"), str(tmp_path / "truth.png")])

    said = capsys.readouterr()
    assert "every other value is one object of class 1" in said.err
    assert "Dice   1.0000" in said.out


def test_predicted_classes_in_one_piece_each_are_no_objects_where_the_truth_has_classes(
    tmp_path, capsys
):
    found = np.zeros((40, 40), np.uint8)
    for number in range(1, 5):
        found[number * 8 : number * 8 + 4, 4:36] = number
    truth = found.copy()
    truth[8:12, 20] = 0  # class 1 in two pieces
    for name, mask in (("found", found), ("truth", truth)):
        Pillow.fromarray(mask).save(tmp_path / f"{name}.png")

    main(["evaluate", str(tmp_path / "found.png"), str(tmp_path / "truth.png"), "--json"])

    scores = json.loads(capsys.readouterr().out)["classes"]["dice"]
    assert scores[0] == pytest.approx(2 * 31 / 63)
    assert scores[1:] == [1, 1, 1]


def test_numbered_objects_are_compared_with_a_plain_mask(tmp_path, capsys):
    Pillow.fromarray(cut(disk(), 10)).save(tmp_path / "found.png")
    Pillow.fromarray((cut(disk(), 10) > 0) * np.uint8(255)).save(tmp_path / "truth.png")

    main(["evaluate", str(tmp_path / "found.png"), str(tmp_path / "truth.png"), "--json"])

    assert json.loads(capsys.readouterr().out)["classes"]["dice"] == [1.0]


def test_many_numbered_objects_are_no_truth_of_several_classes(tmp_path, capsys):
    Pillow.fromarray(disk() * 2).save(tmp_path / "found.png")
    Pillow.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40) % 100).save(
        tmp_path / "truth.png"
    )

    assert main(["evaluate", str(tmp_path / "found.png"), str(tmp_path / "truth.png")]) == 2
    assert "say that the values are objects, or map them" in capsys.readouterr().err


def test_a_single_slice_is_compared_with_the_mask_of_its_plane(tmp_path, capsys):
    np.save(tmp_path / "found.npy", disk()[None])
    Pillow.fromarray(disk()).save(tmp_path / "truth.png")

    assert main(["evaluate", str(tmp_path / "found.npy"), str(tmp_path / "truth.png")]) == 0
    assert "Dice 1.0000" in " ".join(capsys.readouterr().out.split())


def test_codes_that_happen_to_be_missing_can_be_said(tmp_path, capsys):
    Pillow.fromarray(disk() * 2).save(tmp_path / "found.png")
    Pillow.fromarray(disk() * 255).save(tmp_path / "truth.png")
    masks = [str(tmp_path / "found.png"), str(tmp_path / "truth.png")]

    main(["evaluate", *masks, "--map", "0=0,128=1,255=2", "--json"])

    assert json.loads(capsys.readouterr().out)["classes"]["dice"] == [None, 1.0]


# ---- models


def test_the_library_from_import_to_export(trained, tmp_path, capsys):
    assert main(["models", "list"]) == 0
    assert "No models in" in capsys.readouterr().out

    assert main(["models", "import", str(trained / "model"), "--name", "disks"]) == 0
    assert str(tmp_path / "home/models/disks") in capsys.readouterr().err

    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.split()[:3] == ["disks", "compact", "2-D"]
    assert "foreground" in listed

    assert main(["models", "show", "disks"]) == 0
    assert "- network: compact, 2-D, 1 channel(s) in, width 4, depth 2" in capsys.readouterr().out
    assert main(["models", "show", "disks", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["net"]["width"] == 4

    assert main(["models", "export", "disks", str(tmp_path / "out.zip")]) == 0
    assert load_model(tmp_path / "out.zip").weights.keys()
    assert main(["models", "export", "disks", str(tmp_path / "out.zip")]) == 2
    image = str(trained / "images/a.png")
    assert main(["predict", "disks", image, "--out", str(tmp_path / "masks"), *FAST]) == 0


def test_a_damaged_model_does_not_hide_the_others(trained, tmp_path, capsys):
    for name in ("bad", "good"):
        main(["models", "import", str(trained / "model"), "--name", name])
    (tmp_path / "home/models/bad/model.json").write_text("{")

    assert main(["models", "list"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("bad ")
    assert "not JSON" in first
    assert second.startswith("good ")


# ---- info and demo


def test_info_describes_and_measures(monkeypatch, capsys):
    measure = info.measure_speed
    monkeypatch.setattr(info, "measure_speed", lambda device: measure(device, seconds=5.0))
    monkeypatch.setattr(demo, "SIZE", 64)

    assert main(["info", "--device", "cpu"]) == 0

    said = capsys.readouterr().out
    for word in ("PyTorch", "device", "library", "GPU", "arithmetic", "training", "prediction"):
        assert word in said


def test_the_demo_leaves_its_results(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "SIZE", 128)
    out = tmp_path / "demo"

    assert main(["demo", "--headless", "--seconds", "1", "--out", str(out)]) == 0

    assert {p.suffix for p in out.glob("cells-*")} == {".png"}
    assert len(list(out.glob("*-mask.png"))) == len(list(out.glob("*-overlay.png"))) == 2
    assert load_model(out / "model").card.name == "demo"
    assert capsys.readouterr().err.splitlines()[-1].endswith(str(out.resolve()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes")
def test_a_reader_that_leaves_is_no_error(trained):
    command = [sys.executable, "-m", "napari_unet.cli", "models", "show", str(trained / "model")]
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_that_its_place_no_longer_takes_is_not_lost(tmp_path, monkeypatch, capsys):
    from napari_unet import library

    real = library.Model.save

    def only_elsewhere(model, path):
        if Path(path) == tmp_path / "model":
            raise BadInput(f"{path} could not be written: the disk is full.")
        return real(model, path)

    monkeypatch.setattr(library.Model, "save", only_elsewhere)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    image, mask = cells(0, 64)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "mask.npy", mask)

    status = main(
        [
            *("train", str(tmp_path / "image.npy"), str(tmp_path / "mask.npy")),
            *("--out", str(tmp_path / "model"), "--steps", "1", "--width", "4", "--depth", "1"),
        ]
    )

    said = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert "the disk is full" in said
    assert library.load_model(said.rpartition(" kept in ")[2]).weights


def test_masks_are_evaluated_though_probabilities_lie_beside_them(trained, tmp_path):
    predicted = str(tmp_path / "predicted")
    images, masks = str(trained / "images"), str(trained / "masks")

    assert main(["predict", str(trained / "model"), images, "--out", predicted, *FAST]) == 0
    again = ["--probabilities", "--overwrite", *FAST]
    assert main(["predict", str(trained / "model"), images, "--out", predicted, *again]) == 0
    assert main(["evaluate", predicted, masks]) == 0


def test_objects_of_a_time_series_end_with_their_time(trained, tmp_path):
    series = np.stack([disk()] * 3)
    tifffile.imwrite(tmp_path / "t.tif", series, metadata={"axes": "TYX"}, imagej=True)
    out = ["--out", str(tmp_path / "out"), "--instances", *FAST]

    assert main(["predict", str(trained / "model"), str(tmp_path / "t.tif"), *out]) == 0

    labels = read_mask(tmp_path / "out" / "t.tif")
    assert labels.shape == series.shape
    assert np.array_equal(labels[0] > 0, labels[2] > 0)
    assert not set(np.unique(labels[0])) & set(np.unique(labels[2])) - {0}


# --- export ---


@pytest.fixture
def kept(tmp_path) -> Path:
    """A project with a painted image that has a mask, and one that has neither."""
    project = create_project(tmp_path / "p.unet", class_table(["cell"]))
    keys = [project.add(as_image(np.full((40, 40), n, np.uint8), name=f"im {n}")) for n in (1, 2)]
    labels = project.annotation(keys[0])
    project.hold(keys[0], labels)
    labels[:5], labels[30:] = 1, 255
    project.paint(keys[0])
    made = MaskCard(model="m", classes=class_table(["nucleus"]))
    project.keep_mask(keys[0], disk(), made, "2026-01-02")
    project.close()
    return tmp_path / "p.unet"


@pytest.mark.parametrize(("more", "values"), [((), {0, 1}), (("--painted",), {0, 1, 255})])
def test_what_a_project_holds_is_written(more, values, kept, tmp_path, capsys):
    status = main(["export", str(kept), "--out", str(tmp_path / "out"), *more])

    assert status == 0
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["im 1.tif"]
    assert set(np.unique(read_mask(tmp_path / "out" / "im 1.tif"))) == values
    assert capsys.readouterr().err == f"1 image written to {tmp_path / 'out'}\n"


@pytest.mark.parametrize(
    ("more", "labels"),
    [
        ((), {"background": 0, "nucleus": 1}),
        (("--painted",), {"background": 0, "cell": 1, "ignore": 2}),
    ],
)
def test_a_project_becomes_a_dataset_of_nnunet(more, labels, kept, tmp_path):
    pytest.importorskip("nibabel")
    out = tmp_path / "Dataset001_cells"

    assert main(["export", str(kept), "--out", str(out), "--format", "nnunet", *more]) == 0

    assert json.loads((out / "dataset.json").read_text())["labels"] == labels
    assert [f.name for f in (out / "imagesTr").iterdir()] == ["im_1_0000.nii.gz"]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("geojson", lambda text: {part.split('"')[0] for part in text.split('"name": "')[1:]}),
        ("coco.json", lambda text: {c["name"] for c in json.loads(text)["categories"]}),
        ("csv", lambda text: {line.split(",")[1] for line in text.splitlines()[1:]}),
    ],
)
def test_painted_background_is_no_class_where_each_class_is_outlined(kind, named, kept, tmp_path):
    out = tmp_path / "out"

    assert main(["export", str(kept), "--out", str(out), "--painted", "--format", kind]) == 0

    assert named((out / f"im 1.{kind}").read_text()) == {"cell"}


def test_painted_background_is_no_segment(kept, tmp_path):
    out = tmp_path / "out"

    assert main(["export", str(kept), "--out", str(out), "--painted", "--format", "seg.nrrd"]) == 0

    header = (out / "im 1.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert [line for line in header.splitlines() if "_LabelValue" in line] == [
        "Segment0_LabelValue:=1"
    ]


@pytest.fixture
def partly(kept) -> Path:
    """A project with a mask of which only the upper half was segmented, and one of a whole."""
    project = open_project(kept)
    upper = (((0, 20), (0, 25)), ((0, 20), (20, 40)))
    for key, parts in zip(project.images, (upper, None), strict=True):
        made = MaskCard(model="m", classes=class_table(["nucleus"]), parts=parts)
        project.keep_mask(key, disk(), made, "2026-01-02")
    project.close()
    return kept


def test_what_was_not_segmented_is_no_background_to_nnunet(partly, tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel")
    out = tmp_path / "Dataset001_cells"

    assert main(["export", str(partly), "--out", str(out), "--format", "nnunet"]) == 0

    labels = json.loads((out / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "nucleus": 1, "ignore": 2}
    one, other = (
        np.asarray(nibabel.load(out / f"labelsTr/im_{n}.nii.gz").dataobj)[..., 0].T for n in (1, 2)
    )
    assert np.array_equal(one[:20], disk()[:20])
    assert (one[20:] == 2).all()
    assert np.array_equal(other, disk())
    said = capsys.readouterr().err
    assert "Segmented only in part: 'im 1'; the rest is to be ignored.\n" in said


def test_what_was_segmented_only_in_part_is_told_of(partly, tmp_path, capsys):
    assert main(["export", str(partly), "--out", str(tmp_path / "out")]) == 0

    assert capsys.readouterr().err.startswith(
        "Segmented only in part: 'im 1'; the rest is left empty.\n2 images written to "
    )


@pytest.mark.parametrize("more", [(), ("--format", "nnunet")])
def test_parts_that_make_the_whole_are_no_part(more, kept, tmp_path, capsys):
    if more:
        pytest.importorskip("nibabel")
    project, parts = open_project(kept), (((0, 20), (0, 40)), ((20, 40), (0, 40)))
    made = MaskCard(model="m", classes=class_table(["nucleus"]), parts=parts)
    project.keep_mask(next(iter(project.images)), disk(), made, "2026-01-02")
    project.close()

    assert main(["export", str(kept), "--out", str(tmp_path / "out"), *more]) == 0

    assert capsys.readouterr().err == f"1 image written to {tmp_path / 'out'}\n"


def test_masks_of_different_classes_are_no_dataset(kept, tmp_path, capsys):
    pytest.importorskip("nibabel")
    project = open_project(kept)
    made = MaskCard(model="other", classes=class_table(["nucleus", "rim"]))
    project.keep_mask(list(project.images)[1], disk(), made, "2026-01-02")
    project.close()
    out = tmp_path / "out"

    assert main(["export", str(kept), "--out", str(out), "--format", "nnunet"]) == 2

    said = capsys.readouterr().err
    assert "The masks of 'im 1' and 'im 2' are of different classes: segment all" in said
    assert not out.exists()


def test_a_project_without_masks_is_refused_in_a_sentence(tmp_path, capsys):
    create_project(tmp_path / "p.unet").close()

    assert main(["export", str(tmp_path / "p.unet"), "--out", str(tmp_path / "out")]) == 2

    assert "is segmented; segment some first." in capsys.readouterr().err


def test_a_damaged_mask_is_told_of(kept, tmp_path, capsys):
    next(kept.glob("images/*/mask.tif")).write_bytes(b"gone")

    assert main(["export", str(kept), "--out", str(tmp_path / "out")]) == 2

    assert "The mask of 'im 1' is damaged; segment it again." in capsys.readouterr().err


def linked(root: Path, *names: str) -> Path:
    """A project of images in these files, each of which has a mask."""
    project = create_project(root / "linked.unet", class_table(["cell"]))
    for n, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / name, disk(shift=n) * 200)
        key = project.add(read_image(root / name))
        made = MaskCard(model="m", classes=class_table(["nucleus"]))
        project.keep_mask(key, disk(shift=n), made, "2026-01-02")
    project.close()
    return project.folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "images"), "tif is the image itself; give another folder"),
        (("--out", "images", "--painted"), "tif is the image itself; give another folder"),
        (("--out", "set", "--format", "nnunet"), "set is a folder with an image in it; give"),
    ],
)
def test_no_mask_is_written_over_an_image(options, said, tmp_path, monkeypatch, capsys):
    folder = linked(tmp_path, "images/a.tif", "images/cell.tif", "set/imagesTr/b.tif")
    project = open_project(folder)
    project.paint(list(project.images)[1])
    project.close()
    before = {file: file.read_bytes() for file in tmp_path.glob("[is]*/**/*.tif")}
    monkeypatch.chdir(tmp_path)

    assert main(["export", str(folder), "--overwrite", *options]) == 2

    assert said in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.glob("[is]*/**/*.tif")} == before


def test_no_two_images_of_a_project_share_a_file(tmp_path, capsys):
    project = create_project(tmp_path / "p.unet", class_table(["cell"]))
    for n, name in enumerate(("a:1", "a/1", "Cell", "cell")):
        key = project.add(as_image(np.full((40, 40), n, np.uint8), name=name))
        made = MaskCard(model="m", classes=class_table(["nucleus"]))
        project.keep_mask(key, disk(shift=n), made, "2026-01-02")
    project.close()
    out = tmp_path / "out"

    assert main(["export", str(project.folder), "--out", str(out)]) == 0

    assert [np.array_equal(read_mask(out / f"{name}.tif"), disk(shift=n))
            for n, name in enumerate(("a_1", "a_1 2", "Cell", "cell 2"))] == [True] * 4  # fmt: skip
    said = capsys.readouterr().err
    assert "The files of 'a/1' are called 'a_1 2'; 'a_1' is taken.\n" in said


def test_masks_that_are_there_are_found_before_the_first_is_written(tmp_path, capsys):
    folder, out = linked(tmp_path, "images/a.tif", "images/b.tif"), tmp_path / "out"
    out.mkdir()
    (out / "b.tif").write_bytes(b"mine")

    assert main(["export", str(folder), "--out", str(out)]) == 2

    assert "b.tif exists already; give --overwrite or another folder." in capsys.readouterr().err
    assert [(f.name, f.read_bytes()) for f in out.iterdir()] == [("b.tif", b"mine")]
    assert main(["export", str(folder), "--out", str(out), "--overwrite"]) == 0
    assert read_mask(out / "b.tif").any()


def test_of_several_images_those_without_a_sound_mask_are_left_out(tmp_path, capsys):
    folder, out = linked(tmp_path, "images/a.tif", "images/b.tif", "images/c.tif"), tmp_path / "out"
    sorted(folder.glob("images/*/mask.tif"))[0].write_bytes(b"gone")

    assert main(["export", str(folder), "--out", str(out)]) == 2

    said = capsys.readouterr().err
    assert "is damaged; segment it again." in said
    assert said.endswith("1 of 3 images were left out, as said above.\n")
    assert len(list(out.iterdir())) == 2


def spoil(folder: Path) -> None:
    """Make a project's own record unreadable, and take its backup away."""
    (folder / "project.json").write_text('{"name": "p",')
    (folder / "project.backup").unlink(missing_ok=True)


def test_a_damaged_project_is_exported_as_far_as_it_goes_and_told_of(kept, tmp_path, capsys):
    spoil(kept)

    assert main(["export", str(kept), "--out", str(tmp_path / "out")]) == 0

    said = capsys.readouterr().err
    assert "project.json is damaged; it is set aside when the project is opened in napari." in said
    assert "The names of the classes and the settings are lost; name them again." in said
    assert read_mask(tmp_path / "out" / "im 1.tif").any()
    assert (kept / "project.json").read_text() == '{"name": "p",'


def test_painted_parts_that_are_damaged_are_told_of_and_the_rest_is_written(kept, tmp_path, capsys):
    next(kept.glob("images/*/labels/*.tif")).write_bytes(b"gone")

    assert main(["export", str(kept), "--out", str(tmp_path / "out"), "--painted"]) == 0

    assert "0000.0000.tif is damaged. " in capsys.readouterr().err
    assert not list(kept.glob("images/*/damaged")), "the window sets it aside, and tells of it"


def test_a_damaged_project_is_refused_each_time_it_is_to_be_learned(kept, tmp_path, capsys):
    next(kept.glob("images/*/labels/*.tif")).write_bytes(b"gone")
    before = sorted(kept.rglob("*"))

    for _ in range(2):  # the first leaves nothing to the second that it would not tell of
        assert main(["train", str(kept), "--out", str(tmp_path / "m"), *TINY]) == 2
        assert "0000.0000.tif is damaged. " in capsys.readouterr().err

    assert sorted(kept.rglob("*")) == before
    assert not (tmp_path / "m").exists()


def test_a_project_is_learned_while_it_is_open_in_a_window(kept, tmp_path, capsys):
    with closing(open_project(kept)):
        assert main(["train", str(kept), "--out", str(tmp_path / "m"), *TINY]) == 0

    assert (tmp_path / "m").is_dir()


def test_the_window_mends_a_damaged_project_and_tells_of_it(kept, monkeypatch):
    told = []
    window = SimpleNamespace(show_project=lambda folder: told.extend(open_project(folder).problems))
    monkeypatch.setitem(sys.modules, "napari_unet.gui.column", window)
    spoil(kept)

    assert main(["open", str(kept)]) == 0

    assert "project.json is damaged; it is set aside." in " ".join(told)
    assert open_project(kept).problems == []


def test_the_images_of_a_project_are_predicted_as_they_are_called_and_read_in_it(
    trained, tmp_path, capsys
):
    folder, out = linked(tmp_path, "day1/img.tif", "day2/img.tif", "day3/gone.tif"), tmp_path / "o"
    project, matrix = open_project(folder), ((0.3, 0.0, 7.0), (0.0, 0.1, 5.0), (0.0, 0.0, 1.0))
    for key in project.images:
        project.change(key, matrix=matrix, unit="micrometer")
    project.close()
    (tmp_path / "day3" / "gone.tif").unlink()
    spoil(folder)

    arguments = ["predict", str(trained / "model"), str(folder), *FAST, "--out", str(out)]
    status = main([*arguments, "--format", "ome.tif"])

    assert status == 2, "one of three is gone"
    assert sorted(f.name for f in out.iterdir()) == ["img 2.ome.tif", "img.ome.tif"]
    for file in out.iterdir():
        mask = read_image(file)
        assert (mask.spacing, mask.unit) == (pytest.approx((0.3, 0.1)), "micrometer")
    said = capsys.readouterr().err
    assert "project.json is damaged; it is set aside when the project is opened" in said
    assert "gone is left out: 'gone' is no longer at " in said


def test_images_of_one_file_name_become_cases_of_one_dataset(tmp_path):
    pytest.importorskip("nibabel")
    folder, out = linked(tmp_path, "day1/img.tif", "day2/img.tif"), tmp_path / "dataset"

    assert main(["export", str(folder), "--out", str(out), "--format", "nnunet"]) == 0

    labels = sorted(f.name for f in (out / "labelsTr").iterdir())
    assert labels == ["img.nii.gz", "img_2.nii.gz"]


def test_no_mask_of_a_project_goes_onto_another_image_of_it(trained, tmp_path, capsys):
    folder = linked(tmp_path, "day1/img.tif", "day2/img.tif", "day3/img 2.tif")
    arguments = ["predict", str(trained / "model"), str(folder), *FAST, "--overwrite"]

    assert main([*arguments, "--out", str(tmp_path / "day3")]) == 2

    assert "img 2.tif is the image itself; give another folder" in capsys.readouterr().err


def test_the_axes_of_a_projects_images_are_not_said(trained, kept, tmp_path, capsys):
    arguments = ["predict", str(trained / "model"), str(kept), *FAST, "--axes", "YX"]

    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2

    assert "--axes is about images in files; a project says itself" in capsys.readouterr().err


# --- what goes wrong in the middle ---


def test_an_image_that_cannot_be_segmented_is_left_out_and_told_of(trained, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        Pillow.fromarray(disk()).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    arguments = ["predict", str(trained / "model"), str(tmp_path / "in"), *FAST]

    status = main([*arguments, "--out", str(tmp_path / "out"), "--uncertainty"])

    assert status == 2
    assert sorted(f.name for f in (tmp_path / "out").glob("*.tif")) == ["a.tif", "c.tif"]
    said = capsys.readouterr().err
    assert "b.png is left out: " in said
    assert f"Folder of the uncertainty: {tmp_path / 'out' / 'uncertainty'}" in said
    assert said.endswith("1 of 3 images were left out, as said above.\n")


def test_an_image_is_not_its_own_mask(tmp_path, capsys):
    Pillow.fromarray(disk()).save(tmp_path / "a.png")
    same = str(tmp_path / "a.png")

    assert main(["train", same, same, "--out", str(tmp_path / "m")]) == 2

    assert "is given twice" in capsys.readouterr().err


def test_training_into_a_model_says_that_the_versions_before_are_kept(tmp_path, capsys):
    arguments = ["train", *write_pairs(tmp_path), "--out", str(tmp_path / "model"), *TINY]
    main(arguments)
    assert "as version" not in capsys.readouterr().err

    main([*arguments, "--seed", "1"])

    assert "as version 2; the versions before are kept in it" in capsys.readouterr().err


def test_a_model_in_a_zip_is_not_replaced_by_the_next(tmp_path, capsys):
    arguments = ["train", *write_pairs(tmp_path), "--out", str(tmp_path / "m.zip"), *TINY]
    assert main(arguments) == 0
    before = (tmp_path / "m.zip").read_bytes()
    capsys.readouterr()

    assert main([*arguments, "--seed", "1"]) == 2

    said = capsys.readouterr().err
    assert "m.zip is a model already, and a zip keeps no earlier versions; give another" in said
    assert "held-out" not in said, "nothing was trained"
    assert (tmp_path / "m.zip").read_bytes() == before


def test_a_mask_without_any_class_is_told_of(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("napari_unet.inference.predict", lambda *_: iter(()))
    image = str(trained / "images/a.png")

    main(["predict", str(trained / "model"), image, *FAST, "--out", str(tmp_path / "out")])

    assert "a: none of the classes was found in it." in capsys.readouterr().err


def test_a_kind_of_picture_that_is_not_written_is_no_folder(trained, tmp_path, capsys):
    image, out = str(trained / "images/a.png"), str(tmp_path / "mask.jpg")

    assert main(["predict", str(trained / "model"), image, *FAST, "--out", out]) == 2

    assert "mask.jpg is of no kind written here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (("--sparse",), "--sparse is about masks in files"),
        (("--map", "0=0,1=1"), "--map is about masks in files"),
        (("--axes", "YX"), "--axes is about masks in files"),
    ],
)
def test_flags_of_masks_are_refused_for_a_project(tmp_path, capsys, flag, said):
    create_project(tmp_path / "p", class_table(1)).close()

    assert main(["train", str(tmp_path / "p"), "--out", str(tmp_path / "m"), *TINY, *flag]) != 0

    assert said in capsys.readouterr().err


def test_a_mapping_and_objects_are_not_both_taken(tmp_path, capsys):
    images, masks = write_pairs(tmp_path)
    both = ("--map", "0=0,255=1", "--objects")

    for command in (["train", images, masks, "--out", str(tmp_path / "m"), *TINY, *both],
                    ["evaluate", images, masks, *both]):  # fmt: skip
        assert main(command) != 0
        assert "--map says what values mean, --objects" in capsys.readouterr().err


def test_a_model_is_not_written_to_a_place_without_a_name(tmp_path, capsys, monkeypatch):
    images, masks = write_pairs(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    assert main(["train", images, masks, "--out", ".", *TINY]) != 0

    said = capsys.readouterr().err
    assert "without a name of its own" in said
    assert "held-out" not in said, "nothing was trained"


def test_what_was_learned_until_something_broke_is_written(tmp_path, capsys, monkeypatch):
    from napari_unet.learner import Learner

    images, masks = write_pairs(tmp_path)
    learn = Learner.learn

    def fail(self, part_of_rate):
        if self.step == 2:
            raise BadInput("The share is gone.")
        return learn(self, part_of_rate)

    monkeypatch.setattr(Learner, "learn", fail)

    assert main(["train", images, masks, "--out", str(tmp_path / "m"), *TINY]) != 0

    assert "The share is gone. What was learned until then is in" in capsys.readouterr().err
    assert read_card(tmp_path / "m").current.steps == 2
