"""Models reach other programs with the same predictions, and those of ours come back."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from copy import deepcopy
from io import BytesIO

import numpy as np
import pytest
import torch
from test_library import make, same

import napari_unet
from napari_unet.cards import Card, library_folder
from napari_unet.cli import main
from napari_unet.config import NetConfig, class_table
from napari_unet.inference import PredictConfig
from napari_unet.inference import predict as predict_events
from napari_unet.library import Model, import_model, load_model
from napari_unet.models import ARCHITECTURES, build
from napari_unet.normalise import Stats, measure
from napari_unet.run import BadInput, Predicted
from napari_unet.sharing import export_model
from napari_unet.sharing.onnx import describe_tensors
from napari_unet.sharing.source import network_source

# The most that a probability may differ from ours; measured 8e-6 and less.
CLOSE = 2e-5


@pytest.fixture(autouse=True)
def _own_library(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


def made(**net) -> Model:
    """A small model that tells something apart, as a trained one does."""
    torch.manual_seed(0)
    built = build(NetConfig(**{"width": 4} | net)).eval()
    config = built.config
    with torch.no_grad():
        logits = built(torch.randn(1, config.in_channels, *(4 * s for s in built.stride)))
        for layer in built.last if config.arch == "nested" else [built.last]:
            layer.bias -= logits.mean(dim=(0, *range(2, logits.ndim)))
            for parameter in layer.parameters():
                parameter /= logits.std()
    card = Card(
        name="cells",
        net=config,
        classes=class_table(config.n_classes),
        axes="CYX" if config.ndim == 2 else "CZYX",
        seen=(Stats(low=(10.0,) * config.in_channels, high=(900.0,) * config.in_channels),),
    )
    return Model(card, built.state_dict())


def predicted(model: Model, image: np.ndarray) -> np.ndarray:
    """The probabilities that this package gives, on the CPU in float32."""
    config = PredictConfig(probabilities=True, device="cpu", precision="float32")
    *_, last = predict_events(model, image, config)
    assert isinstance(last, Predicted)
    return last.probabilities


NETS = [
    {},
    *({"arch": arch, "ndim": 3} for arch in ARCHITECTURES),
    *({"arch": arch, "in_channels": 3, "n_classes": 3} for arch in ARCHITECTURES),
    {"attention": True, "residual": True, "n_classes": 2},
    {"ndim": 3, "spacing": (4.0, 1.0, 1.0), "n_classes": 2},
    {"pixels": 0.5, "in_channels": 3},
    {"pixels": 1.0, "n_classes": 2},
    {"pixels": 0.5, "ndim": 3},
    {"grain": 2, "pixels": 0.5},
    {"grain": 2, "ndim": 3},
    {"grain": 2, "ndim": 3, "spacing": (4.0, 1.0, 1.0), "n_classes": 2},
]


# ---- ONNX


@pytest.mark.parametrize("net", NETS, ids=lambda net: "-".join(map(str, net.values())))
def test_an_onnx_file_predicts_as_we_do_at_any_size(net, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = made(**net)

    path = export_model(model, tmp_path / "cells.onnx")

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    # The last is more than a classifier of pixels reads at once.
    for multiple in (1, 2, 3, *((24,) if net == {"pixels": 1.0, "n_classes": 2} else ())):
        size = [multiple * step for step in model.net.stride]
        image = random.gamma(2, 100, (model.card.net.in_channels, *size)).astype(np.float32)
        (found,) = session.run(None, {"input": measure(image).apply(image)[None]})
        ours = predicted(model, image)
        assert np.abs(found[0][-len(ours) :] - ours).max() < CLOSE
        assert np.ptp(ours) > 100 * CLOSE  # else anything would agree


def test_an_onnx_file_says_what_it_reads_and_holds_its_card(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    model = make()

    file = onnx.load(export_model(model, tmp_path / "cells.onnx"))

    onnx.checker.check_model(file)
    assert "percentile 1 is -1" in file.doc_string
    assert "background, cell, débris" in file.doc_string
    assert Card.model_validate_json(file.metadata_props[0].value) == model.card
    assert [d.dim_param for d in file.graph.input[0].type.tensor_type.shape.dim][::2] == [
        "batch",
        "4*steps0",
    ]


def test_a_model_of_objects_gives_their_rims_to_others_as_well(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = made(n_classes=2)
    model.card = model.card.model_copy(update={"classes": class_table(1), "rims": True})
    image = np.random.default_rng(0).integers(0, 900, (1, 32, 32)).astype(np.float32)

    file = export_model(model, tmp_path / "cells.onnx")

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": measure(image).apply(image)[None]})[0]
    assert found.shape == (3, 32, 32)
    assert np.abs(found[1:].sum(0) - predicted(model, image)[0]).max() < CLOSE
    assert "background, foreground, rim of foreground" in describe_tensors(model.card)


def test_an_export_leaves_the_model_as_it_was(tmp_path):
    pytest.importorskip("onnxscript")
    model = make()
    x = torch.rand(1, 1, 16, 16)
    before, card = model.net(x), model.card

    export_model(model, tmp_path / "cells.onnx")

    assert torch.equal(model.net(x), before)
    assert model.card is card


# ---- bioimage.io


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """A model and the package of it."""
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxscript")
    model = make(n_classes=2)
    path = tmp_path_factory.mktemp("zoo") / "cells.bioimageio.zip"
    napari_unet.export_model(
        model, path, authors=["Ada Lovelace"], license="CC-BY-4.0", cite=["10.1000/182"]
    )
    return model, path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what bioimageio's own libraries warn of
@pytest.mark.parametrize(
    "net",
    [
        {},
        {"in_channels": 3, "n_classes": 3, "arch": "upsample"},
        {"ndim": 3, "spacing": (4.0, 1.0, 1.0), "depth": 2},
        {"arch": "nested", "depth": 2},
        {"pixels": 0.5},
    ],
    ids=str,
)
def test_a_package_passes_the_official_test_without_network(net, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    core = pytest.importorskip("bioimageio.core")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("socket.getaddrinfo", None)
    monkeypatch.setattr("socket.socket.connect", None)
    path = export_model(made(**net), tmp_path / "cells.bioimageio.zip")

    summary = core.test_model(path)

    assert summary.status == "passed", summary.format_md()
    tested = [detail.name for detail in summary.details]
    assert "Reproduce test outputs from test inputs (onnx)" in tested
    assert "Reproduce test outputs from test inputs (pytorch_state_dict)" in tested


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what bioimageio's own libraries warn of
@pytest.mark.parametrize("weights", ["pytorch_state_dict", "onnx"])
def test_another_program_reads_images_and_tiles_of_any_size_as_we_do(weights, tmp_path):
    pytest.importorskip("onnxscript")
    core = pytest.importorskip("bioimageio.core")
    pytest.importorskip("onnxruntime")
    model = made(arch="upsample", n_classes=2)
    image = np.random.default_rng(3).gamma(2, 100, (1, 160, 200)).astype(np.float32)
    description = core.load_description(export_model(model, tmp_path / "cells.bioimageio.zip"))
    sample = core.digest_spec.create_sample_for_model(description, inputs={"input": image[None]})
    halo = description.outputs[0].axes[-1].halo
    block = {"input": {"batch": 1, "channel": 1, "y": 96, "x": 104}}

    with core.create_prediction_pipeline(description, weight_format=weights) as pipeline:
        whole = pipeline.predict_sample_without_blocking(
            deepcopy(sample), skip_input_padding=True, skip_output_cropping=True
        )
        tiled = pipeline.predict_sample_with_fixed_blocking(deepcopy(sample), block)

    ours = predicted(model, image)
    whole, tiled = (s.members["probabilities"].data.to_numpy()[0, 1:] for s in (whole, tiled))
    inside = (slice(None), *(slice(halo, -halo),) * 2)  # it mirrors what lies beyond the border
    assert np.abs(whole - ours).max() < CLOSE
    assert np.abs(tiled - ours)[inside].max() < CLOSE


def test_the_test_output_of_a_package_is_our_prediction(packaged):
    model, path = packaged
    with zipfile.ZipFile(path) as archive:
        image, answer = (
            np.load(BytesIO(archive.read(f"test-{which}.npy"))) for which in ("input", "output")
        )

    assert np.abs(answer[0, 1:] - predicted(model, image[0])).max() < CLOSE
    assert measure(image[0]).low == pytest.approx(model.card.seen[0].low, rel=1e-4)


def test_a_package_names_who_made_it_and_says_what_it_cannot_promise(packaged):
    _, path = packaged
    with zipfile.ZipFile(path) as archive:
        text = archive.read("bioimageio.yaml").decode()
        readme = archive.read("README.md").decode()

    for part in ("name: Ada Lovelace", "license: CC-BY-4.0", "doi: 10.1000/182", "scale: 0.25"):
        assert part in text
    assert "## Validation" in readme
    assert "statistics from the whole image" in readme


def test_a_package_comes_back_as_exactly_our_model(packaged, capsys):
    model, path = packaged

    assert main(["models", "import", str(path), "--name", "back"]) == 0

    back = load_model("back")
    assert same(back, model)
    assert back.card.classes == model.card.classes
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(back.net(x), model.net(x))


def test_the_network_of_a_package_needs_only_torch(packaged, tmp_path):
    model, path = packaged
    with zipfile.ZipFile(path) as archive:
        for name in ("network.py", "weights.pt"):
            archive.extract(name, tmp_path)
    (tmp_path / "settings.json").write_text(model.card.net.model_dump_json())
    script = """
import json, sys
import torch
sys.modules["napari_unet"] = None  # whoever imports it fails
import network
net = network.network(**json.load(open("settings.json"))).eval()
net.load_state_dict(torch.load("weights.pt", weights_only=True))
print(float(net(torch.ones(1, 1, 16, 16)).sum()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert float(done.stdout) == pytest.approx(256)  # probabilities sum to 1


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    "more",
    [{}, {"attention": True, "residual": True, "pixels": 0.5}, {"grain": 2}],
    ids=["", "options", "grain"],
)
def test_the_source_given_away_makes_the_same_networks(arch, more):
    net = build(NetConfig(arch=arch, width=4, n_classes=2, **more)).eval()
    there: dict = {"__name__": "a module nobody has listed"}
    exec(compile(network_source(), "network.py", "exec", dont_inherit=True), there)
    x = torch.rand(1, 1, 33, 40)

    other = there["network"](**json.loads(net.config.model_dump_json())).eval()
    other.load_state_dict(net.state_dict())

    assert torch.equal(other(x), net(x).softmax(1))


@pytest.mark.parametrize(
    ("name", "kept"),
    [("b", "b U-Net"), ("Zellkerne/äußere: 2", "Zellkerne u ere 2"), ("核", "U-Net")],
)
def test_any_name_becomes_one_that_the_zoo_takes(name, kept, tmp_path):
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxscript")
    model = make()
    model.card = model.card.named(name)

    path = export_model(model, tmp_path / "x.bioimageio.zip")

    with zipfile.ZipFile(path) as archive:
        assert f"name: {kept}\n" in archive.read("bioimageio.yaml").decode()
    assert load_model(path).card.name == name


@pytest.mark.parametrize(
    ("credits", "said"),
    [
        ({"license": "mine"}, "does not take 'mine'"),
        ({"cite": ["a book"]}, "does not take 'a book'"),
        ({"authors": ["Ada", "a/b"]}, "does not take 'a/b'"),
        ({"authors": "Ada"}, "authors Ada: input should be a valid tuple"),
    ],
    ids=str,
)
def test_credits_that_the_zoo_does_not_take_are_refused(credits, said, tmp_path):
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxscript")

    with pytest.raises(BadInput, match=said):
        napari_unet.export_model(make(), tmp_path / "cells.bioimageio.zip", **credits)

    assert list(tmp_path.iterdir()) == []


# ---- from and to the command line


def test_the_command_line_exports_by_the_name_of_the_file(tmp_path, capsys):
    pytest.importorskip("onnxscript")
    make().save(library_folder() / "cells")

    assert main(["models", "export", "cells", str(tmp_path / "cells.onnx")]) == 0
    assert "cells.onnx" in capsys.readouterr().err
    assert main(["models", "export", "cells", str(tmp_path / "cells.onnx")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["models", "export", "cells", str(tmp_path / "c.zip"), "--author", "Ada"]) == 2
    assert "end its name in .bioimageio.zip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("credits", "asked"), [([], True), (["--author", "Ada", "--license", "MIT"], False)]
)
def test_the_command_line_asks_who_made_a_model(credits, asked, tmp_path, capsys):
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxscript")
    make().save(library_folder() / "cells")

    assert main(["models", "export", "cells", str(tmp_path / "c.bioimageio.zip"), *credits]) == 0

    assert ("asks who made a model" in capsys.readouterr().err) == asked


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "bioimageio.spec"])
def test_a_library_that_is_missing_is_asked_for(module, tmp_path, monkeypatch):
    if module == "onnxscript":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, module, None)
    name = "c.bioimageio.zip" if module == "bioimageio.spec" else "c.onnx"

    with pytest.raises(BadInput, match=rf'needs {module}: pip install "napari-unet\[models\]"\.'):
        export_model(make(), tmp_path / name)

    assert list(tmp_path.iterdir()) == []


# ---- packages of others


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("description", ["rdf.yaml", "bioimageio.yaml", "model/rdf.yaml"])
@pytest.mark.parametrize("weights", ["weights.pt", "weights.onnx"])
def test_a_package_of_another_program_is_refused_and_not_executed(description, weights, tmp_path):
    path = tmp_path / "foreign.zip"
    torch.save(Trap(), tmp_path / "weights")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(description, "type: model\nweights: !!python/object/apply:exit []\n")
        archive.writestr("network.py", "raise SystemExit('executed')")
        archive.write(tmp_path / "weights", weights)

    with pytest.raises(BadInput, match="only by running code from the package") as refusal:
        import_model(path)

    assert "\n" not in str(refusal.value)
    assert not library_folder().exists()
