"""Models come back from disk as they went there, with every earlier version."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile

import pytest
import torch

from napari_unet.cards import (
    PNG,
    PREVIEW_BYTES,
    Card,
    Version,
    library_folder,
    list_models,
    now,
    read_card,
)
from napari_unet.config import NetConfig, TrainConfig, class_table
from napari_unet.library import (
    KEPT_VERSIONS,
    Model,
    check_place,
    import_model,
    load_model,
)
from napari_unet.models import ARCHITECTURES, build
from napari_unet.normalise import Stats
from napari_unet.run import BadInput
from napari_unet.sharing import export_model


@pytest.fixture(autouse=True)
def _own_library(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


def make(seed: int = 0, dice: float | None = 0.5, **net) -> Model:
    torch.manual_seed(seed)
    config = NetConfig(**{"width": 4, "depth": 2, "n_classes": 2} | net)
    built = build(config)
    card = Card(
        name="cells",
        net=built.config,
        classes=class_table(["cell", "débris"]),
        axes="CYX",
        spacing=(0.5, 0.25),
        unit="micrometer",
        seen=(Stats(low=(1.5,), high=(9.25,)),),
        images={"a": "0" * 64},
        labelled=(5, 6, 7),
        training=TrainConfig(steps=7, rate=0.003).model_dump(),
        numerics="float32 on cpu",
        software={"torch": torch.__version__},
        curve=((20, 0.25), (40, 0.5)),
        versions=(Version(number=1, created=now(), steps=7, seconds=1.25, dice=dice),),
    )
    return Model(card, built.state_dict())


def same(a: Model, b: Model) -> bool:
    return a.weights.keys() == b.weights.keys() and all(
        torch.equal(a.weights[k], b.weights[k]) for k in a.weights
    )


@pytest.mark.parametrize("place", ["model", "model.zip", "new/folder/model.ZIP"])
@pytest.mark.parametrize("arch", ["compact", "upsample"])
def test_a_model_comes_back_bit_by_bit(place, arch, tmp_path):
    model = make(arch=arch)

    path = model.save(tmp_path / place)
    back = load_model(path)

    assert path == tmp_path / place
    assert same(back, model)
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(back.net(x), model.net(x))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_the_layout_its_card_promises(arch, tmp_path):
    model = make(arch=arch, depth=3, attention=arch == "compact", residual=arch == "simple")

    assert same(load_model(model.save(tmp_path / "model")), model)


@pytest.mark.parametrize("place", ["model", "model.zip"])
def test_the_card_comes_back(place, tmp_path):
    model = make()

    back = load_model(model.save(tmp_path / place)).card

    assert len(back.versions[-1].sha256) == 64
    version = back.versions[-1].model_copy(update={"sha256": ""})
    assert back.model_copy(update={"versions": (version,)}) == make().card.model_copy(
        update={"versions": (version,)}
    )


def test_the_folder_holds_nothing_but_open_formats(tmp_path):
    path = make().save(tmp_path / "model")

    assert sorted(f.name for f in path.iterdir()) == [
        "README.md",
        "model.json",
        "weights.safetensors",
    ]
    assert json.loads((path / "model.json").read_text(encoding="utf-8"))["name"] == "cells"
    text = (path / "README.md").read_text(encoding="utf-8")
    assert "1 cell, 2 débris" in text
    assert "held-out Dice: 0.500" in text
    assert "0.5 x 0.25 micrometer" in text


def test_a_model_without_a_score_says_so():
    assert "not judged" in make(dice=None).card.describe()


def test_saving_again_keeps_the_older_versions(tmp_path):
    models = [make(seed) for seed in range(3)]
    for model in models:
        model.save(tmp_path / "model")

    newest = load_model(tmp_path / "model")
    assert [v.number for v in newest.card.versions] == [1, 2, 3]
    assert same(newest, models[2])
    for number, model in enumerate(models, 1):
        back = load_model(tmp_path / "model", version=number)
        assert same(back, model)
        assert back.card.current.number == number


def test_saving_the_same_weights_again_makes_no_version(tmp_path):
    make(0).save(tmp_path / "model")
    model = make(1)
    for _ in range(3):
        model.save(tmp_path / "model")

    assert [v.number for v in read_card(tmp_path / "model").versions] == [1, 2]
    assert same(load_model(tmp_path / "model", version=1), make(0))


def test_a_copy_elsewhere_does_not_make_a_model_forget_its_versions(tmp_path):
    make(0).save(tmp_path / "model")
    make(1).save(tmp_path / "model")
    model = load_model(tmp_path / "model")

    model.save(tmp_path / "copy.zip")
    model.save(tmp_path / "copy")
    model.save(tmp_path / "model")

    assert [v.number for v in read_card(tmp_path / "model").versions] == [1, 2]
    assert same(load_model(tmp_path / "copy.zip"), model)


def test_an_older_version_saved_again_is_the_newest(tmp_path):
    make(0).save(tmp_path / "model")
    make(1).save(tmp_path / "model")

    load_model(tmp_path / "model", version=1).save(tmp_path / "model")

    assert [v.number for v in read_card(tmp_path / "model").versions] == [1, 2, 3]
    assert same(load_model(tmp_path / "model"), make(0))
    assert same(load_model(tmp_path / "model", version=2), make(1))


def test_only_so_many_versions_are_kept(tmp_path):
    for seed in range(KEPT_VERSIONS + 3):
        make(seed).save(tmp_path / "model")

    numbers = [v.number for v in read_card(tmp_path / "model").versions]
    assert numbers == list(range(3, KEPT_VERSIONS + 4))
    assert same(load_model(tmp_path / "model", version=3), make(2))
    assert len(list((tmp_path / "model/versions").iterdir())) == KEPT_VERSIONS


def test_a_version_whose_weights_were_deleted_does_not_hinder_saving(tmp_path):
    for seed in range(3):
        make(seed).save(tmp_path / "model")
    (tmp_path / "model/versions/0001.safetensors").unlink()

    make(3).save(tmp_path / "model")

    assert [v.number for v in read_card(tmp_path / "model").versions] == [2, 3, 4]


def test_a_version_that_is_not_there(tmp_path):
    for place in ("model", "model.zip"):
        with pytest.raises(BadInput, match=r"has no version 7; choose from 1\."):
            load_model(make().save(tmp_path / place), version=7)


def test_a_save_that_fails_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    make(0).save(tmp_path / "model")

    def fsync(_handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_unet.atomic.os.fsync", fsync)
        for place in ("model", "model.zip"):
            with pytest.raises(BadInput, match="the disk is full"):
                make(1).save(tmp_path / place)

    assert same(load_model(tmp_path / "model"), make(0))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_only_models_are_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    check_place(tmp_path / "data")
    (tmp_path / "data/photo.png").touch()
    (tmp_path / "file").touch()
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.png", b"")
    (tmp_path / "folder.zip").mkdir()
    broken = make().save(tmp_path / "broken")
    (broken / "model.json").write_text("{")

    for name in ("data", "file", "photos.zip", "folder.zip"):
        with pytest.raises(BadInput, match=f"{name} exists and is no model; choose another"):
            make().save(tmp_path / name)
    with pytest.raises(BadInput, match="not JSON"):
        make().save(broken)
    make(1).save(make(0).save(tmp_path / "model.zip"))
    assert same(load_model(tmp_path / "model.zip"), make(1))


# ---- zips


def test_a_zip_made_by_hand_around_the_folder_works(tmp_path):
    folder = make().save(tmp_path / "model")
    hand_made = shutil.make_archive(str(tmp_path / "hand"), "zip", tmp_path, folder.name)

    assert same(load_model(hand_made), make())


@pytest.mark.parametrize(
    "packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_works_however_it_is_packed(packing, tmp_path):
    folder = make().save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "small.zip", "w", packing) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)

    assert same(load_model(tmp_path / "small.zip"), make())


def peak_of_refusing(path, sentence: str) -> int:
    tracemalloc.start()
    with pytest.raises(BadInput, match=sentence):
        load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    ("claim", "sentence"), [(2**26, "too large to be one"), (1000, "nor a sound zip")]
)
def test_a_bomb_is_unpacked_no_further_than_it_may_be(packing, claim, sentence, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", packing) as archive:
        archive.writestr("model.json", bytes(2**26))
        archive.getinfo("model.json").file_size = claim

    assert peak_of_refusing(tmp_path / "bomb.zip", sentence) < 2**25


def test_weights_that_claim_to_be_packed_by_a_thousand_are_not_unpacked(tmp_path):
    card = make().card
    huge = card.model_copy(update={"net": card.net.model_copy(update={"width": 512, "depth": 8})})
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", huge.model_dump_json())
        archive.writestr("weights.safetensors", bytes(2**26))

    assert peak_of_refusing(tmp_path / "bomb.zip", r"weights\.safetensors too large") < 2**25


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x"])
def test_a_zip_that_climbs_is_refused(name, tmp_path):
    path = make().save(tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")

    with pytest.raises(BadInput, match="would climb out of its folder"):
        load_model(path)


def test_loading_a_zip_writes_nothing(tmp_path):
    path = make().save(tmp_path / "model.zip")

    load_model(path)

    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"]


@pytest.mark.parametrize("where", ["card", "weights"])
def test_every_damage_to_a_zip_is_told(where, tmp_path):
    path = make().save(tmp_path / "model.zip")
    data = bytearray(path.read_bytes())
    place = data.find(b'"cells"' if where == "card" else b"down.0") + 3
    data[place] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(BadInput, match="neither a model folder nor a sound zip"):
        load_model(path)


def test_an_encrypted_zip_is_told(tmp_path):
    path = make().save(tmp_path / "model.zip")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 1)
    path.write_bytes(data)

    with pytest.raises(BadInput, match="neither a model folder nor a sound zip"):
        load_model(path)


def test_weights_of_another_number_format_are_refused(tmp_path):
    model = make()
    card = model.card.model_copy(update={"versions": ()})
    other = Model(card, {k: v.double() for k, v in model.weights.items()})

    with pytest.raises(BadInput, match="do not fit the net on its card"):
        load_model(other.save(tmp_path / "model"))


# ---- the library


def test_the_library_lists_what_was_imported(tmp_path):
    path = make().save(tmp_path / "elsewhere")

    assert list_models() == {}
    first = import_model(path)
    second = import_model(make(1).save(tmp_path / "other.zip"), "Cells of 2024 (b)")

    assert first == library_folder() / "cells"
    assert second == library_folder() / "Cells of 2024 (b)"
    assert list(list_models()) == ["Cells of 2024 (b)", "cells"]
    assert same(load_model("cells"), make())
    assert same(load_model("Cells of 2024 (b)"), make(1))


def test_a_name_is_taken_once(tmp_path):
    path = make().save(tmp_path / "elsewhere")
    import_model(path)

    with pytest.raises(BadInput, match="has a model named 'cells' already; give another name"):
        import_model(path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/x", "C:x", ".x", "x.", "x ", "x.zip", "x" * 99]
)
def test_names_that_could_lead_elsewhere_are_refused(name, tmp_path):
    path = make().save(tmp_path / "elsewhere")

    with pytest.raises(BadInput, match="cannot be a name in the library; give one of letters"):
        import_model(path, name)


def test_a_card_cannot_choose_its_place(tmp_path):
    model = make()
    model.card = model.card.model_copy(update={"name": "../../evil"})

    with pytest.raises(BadInput, match="cannot be a name in the library"):
        import_model(model.save(tmp_path / "elsewhere"))


@pytest.mark.parametrize("name", ["", "\0", "x" * 999, "../home/models/cells/..", "~"])
def test_what_is_no_model_is_told(name, tmp_path):
    import_model(make().save(tmp_path / "elsewhere"))

    with pytest.raises(BadInput, match="no model"):
        load_model(name)


def test_the_card_of_an_imported_model_says_the_name_it_has_here(tmp_path):
    path = import_model(make().save(tmp_path / "elsewhere"), "nuclei")

    assert read_card(path).name == "nuclei"
    assert load_model(path).card.name == "nuclei"


def test_a_model_is_imported_beside_one_of_its_name(tmp_path):
    path = make().save(tmp_path / "elsewhere")

    names = [import_model(path, numbered=True).name for _ in range(3)]

    assert names == ["cells", "cells 2", "cells 3"]


def test_an_impossible_name_is_made_possible_if_wanted(tmp_path):
    model = make()
    model.card = model.card.named("../../evil")

    path = import_model(model.save(tmp_path / "elsewhere"), numbered=True)

    assert path == library_folder() / "evil"


# ---- giving models away


def test_a_model_is_exported_as_it_is_or_was(tmp_path):
    for seed in range(2):
        make(seed).save(library_folder() / "cells")

    newest = export_model("cells", tmp_path / "newest.zip")
    first = export_model("cells", tmp_path / "first", version=1)

    assert same(load_model(newest), make(1))
    assert same(load_model(first), make(0))


def test_an_export_replaces_a_model_only_if_that_is_wanted(tmp_path):
    make(1).save(library_folder() / "cells")
    path = make(0).save(tmp_path / "cells.zip")

    with pytest.raises(BadInput, match=r"cells\.zip exists already; give another place\."):
        export_model("cells", path)
    assert same(load_model(path), make(0))

    export_model("cells", path, overwrite=True)
    assert same(load_model(path), make(1))


def test_what_is_not_there_is_not_exported(tmp_path):
    with pytest.raises(BadInput, match="There is no model at nobody"):
        export_model("nobody", tmp_path / "nobody.zip")

    assert list(tmp_path.iterdir()) == []


# ---- the preview


@pytest.mark.parametrize("place", ["model", "model.zip"])
def test_the_preview_comes_back(place, tmp_path):
    model = make()
    model.preview = PNG + b"picture"

    back = load_model(model.save(tmp_path / place))

    assert back.preview == PNG + b"picture"


def test_a_preview_stays_when_the_model_is_saved_again_or_elsewhere(tmp_path):
    model = make()
    model.preview = PNG + b"picture"
    model.save(tmp_path / "model")

    load_model(tmp_path / "model").save(tmp_path / "copy.zip")
    make(1).save(tmp_path / "model")  # trained further by a program that makes no preview

    assert load_model(tmp_path / "copy.zip").preview == PNG + b"picture"
    assert load_model(tmp_path / "model").preview == PNG + b"picture"
    assert load_model(tmp_path / "model").card.current.number == 2


@pytest.mark.parametrize("preview", [b"", b"GIF89a", PNG + b"x" * PREVIEW_BYTES])
@pytest.mark.parametrize("place", ["model", "model.zip"])
def test_what_is_no_small_png_is_no_preview(place, preview, tmp_path):
    model = make()
    model.preview = preview
    saved = model.save(tmp_path / "saved")
    assert not (saved / "preview.png").exists()

    if place == "model":
        (saved / "preview.png").write_bytes(preview)
    else:
        saved = make().save(tmp_path / place)
        with zipfile.ZipFile(saved, "a") as archive:
            archive.writestr("preview.png", preview)

    assert load_model(saved).preview is None
