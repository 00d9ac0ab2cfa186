"""A run as a script: what it says is Python and a command that repeat the run, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_unet as nu
from napari_unet.cli import main
from napari_unet.config import BACKGROUND, TrainConfig
from napari_unet.io import as_image
from napari_unet.project import create_project
from napari_unet.run import BadInput
from napari_unet.script import script_of

TINY = {"patch": 16, "batch": 1, "width": 4, "depth": 1, "device": "cpu", "precision": "float32"}


@pytest.fixture
def folder(tmp_path):
    """A project with two painted images."""
    project = create_project(tmp_path / "mine.unet")
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 50)).astype(np.uint8)
        key = project.add(as_image(pixels, name=f"im{seed}"))
        labels = np.zeros((40, 50), np.uint8)
        labels[5:20], labels[25:] = 1, BACKGROUND
        project.hold(key, labels)
        project.paint(key)
    project.close()
    return tmp_path / "mine.unet"


@pytest.mark.parametrize("settings", [{}, {"second_opinion": False, "balance": True}])
def test_the_script_gives_the_weights_of_the_run_and_so_does_its_command(
    folder, tmp_path, monkeypatch, settings
):
    monkeypatch.chdir(tmp_path)
    model = nu.train(folder, steps=4, seed=3, **TINY, **settings)
    config = TrainConfig.model_validate(model.card.training)

    text = script_of(folder, "again", config, model.card.current.steps)
    exec(compile(text, "script", "exec"), {})
    command = next(line for line in text.splitlines() if line.startswith("#     napari-unet "))
    arguments = command.replace("--out again", "--out shell").split()[2:]
    assert main(arguments) == 0

    for name in ("again", "shell"):
        found = nu.load_model(tmp_path / name)
        assert list(found.card.images) == ["im0", "im1"]
        assert all(torch.equal(w, model.weights[k]) for k, w in found.weights.items()), name


def test_a_project_is_predicted_image_by_image(folder, tmp_path):
    nu.train(folder, steps=2, **TINY).save(tmp_path / "model")

    ended = main(["predict", str(tmp_path / "model"), str(folder), "--out", str(tmp_path / "out")])

    assert ended == 0
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["im0.tif", "im1.tif"]


def test_a_project_without_strokes_is_refused(tmp_path):
    create_project(tmp_path / "empty").close()

    with pytest.raises(BadInput, match="Nothing is painted in the project"):
        nu.train(tmp_path / "empty")


def test_what_is_no_project_and_has_no_masks_is_refused(tmp_path, capsys):
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "model")]) == 2

    assert "is no project" in capsys.readouterr().err


def test_opening_what_is_no_project_is_refused(tmp_path, capsys):
    assert main(["open", str(tmp_path)]) == 2

    assert "is no project" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["C:\\Users\\me\\new.unet", 'it\'s a "project".unet'])
def test_any_place_makes_a_script_that_can_be_read(place):
    text = script_of(Path(place), "m", TrainConfig(), 3, start="before")

    compile(text, "script", "exec")
    assert "# The run went on from 'before'; this one begins with new weights." in text
