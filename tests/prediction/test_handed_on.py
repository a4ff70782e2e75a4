"""What is handed on runs elsewhere, says what it is, and is refused where it was changed."""

import copy
import io
import json
import shutil
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers.made_up_runs import write_run
from helpers.trained_runs import CLASSES, write_pair

from hep2.errors import HEp2Error
from hep2.evaluation.results import group_runs, summarise_group
from hep2.prediction import export as exporting
from hep2.prediction.exporting import bioimageio, hub, onnx, pt2
from hep2.prediction.exporting.card import Terms, make_card
from hep2.prediction.exporting.onnx import onnx_model
from hep2.prediction.exporting.traced import trace
from hep2.prediction.loaded import load_exported
from hep2.prediction.models import load_ensemble
from hep2.rundir.result import read_run

LACKS = "pip install 'hep2[export]'"


def finished(runs, fold=0, **changes):
    """A run with networks, a result and predictions; returns its directory."""
    path, _ = write_pair(runs, fold)
    fields = {"classes": CLASSES, "data": "toy", "protocol": "specimen", **changes}
    made, *_ = write_run(runs / "made-up", fold=fold, **fields)
    (path / "predictions.csv").write_bytes((made / "predictions.csv").read_bytes())
    (path / "result.json").write_bytes((made / "result.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An ensemble, what it gives for some cells, and what was written of it. Read only."""
    for package in ("onnxruntime", "onnxscript", "bioimageio.spec", "safetensors"):
        pytest.importorskip(package, reason=LACKS)
    root = tmp_path_factory.mktemp("handed on")
    finished(root / "runs")
    ensemble = load_ensemble("default", root / "runs")
    traced = trace(ensemble)
    cells = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        probabilities = ensemble.network(cells, 1)[0].numpy()
    model = onnx_model(traced)
    with pytest.MonkeyPatch.context() as patch:
        for module in (hub, bioimageio):  # traced by torch once, which takes seconds
            patch.setattr(module, "onnx_model", lambda _: copy.deepcopy(model))
        hub.write_hub(root / "folder", traced, make_card(ensemble, Terms(), "hub"))
        card = make_card(ensemble, Terms(), "bioimageio")
        bioimageio.write_bioimageio(root / "model.zip", traced, card)
    return SimpleNamespace(
        root=root, ensemble=ensemble, traced=traced, cells=cells.numpy(),
        probabilities=probabilities, folder=root / "folder", zip=root / "model.zip",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["folder", "zip"])
def test_it_gives_the_probabilities_of_its_runs(made, name):
    model = load_exported(getattr(made, name))
    assert model.classes == tuple(CLASSES) and (model.image_size, model.full_scale) == (16, 255)
    np.testing.assert_allclose(model(made.cells), made.probabilities, atol=1e-5)
    with pytest.raises(HEp2Error, match=r"shape \(1, 1, 8, 8\) do not fit: .* \(B, 1, 16, 16\)"):
        model(np.zeros((1, 1, 8, 8)))


def test_weights_lie_in_safetensors_under_their_names(made):
    from safetensors.numpy import load_file

    stored = load_file(made.folder / "model.safetensors")
    own = made.ensemble.network.state_dict()
    (name,) = [name for name in stored if name.endswith("encoder.levels.4.weight")]
    assert np.array_equal(stored[name], own[name.removeprefix("network.")].numpy())


def test_bioimageio_finds_nothing_wrong(made):
    from bioimageio.spec import load_description
    from bioimageio.spec.model.v0_5 import ModelDescr

    model = load_description(made.zip)
    assert isinstance(model, ModelDescr), model.validation_summary
    assert model.license == "MIT" and [author.name for author in model.authors] == [
        "The hep2 developers"
    ]
    assert list(model.outputs[0].axes[1].channel_names) == CLASSES
    assert model.description.startswith("SIMULATED CELLS")


def test_bioimageio_core_runs_it(made):
    core = pytest.importorskip("bioimageio.core", reason="pip install bioimageio.core")
    assert core.test_model(made.zip).status == "passed"
    found = core.predict(model=made.zip, inputs={"cells": made.cells * np.float32(255)})
    np.testing.assert_allclose(found.members["probabilities"].data, made.probabilities, atol=1e-5)


def test_nothing_tells_where_it_was_made(made):
    files = [*made.folder.iterdir()]
    with zipfile.ZipFile(made.zip) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    for content in (*contents, *(file.read_bytes() for file in files)):
        assert str(made.root).encode() not in content and b"/hep2/prediction" not in content


# --- changed since


def replaced(path, changes):
    """An archive with some of its files changed."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, changes.get(name, lambda data: data)(data))


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_folder_with_another_graph_or_weights_is_refused(made, tmp_path, name):
    folder = tmp_path / "folder"
    shutil.copytree(made.folder, folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(HEp2Error, match=f"{name} is damaged or foreign: it is not the file"):
        load_exported(folder)
    (folder / name).unlink()
    with pytest.raises(HEp2Error, match=f"{name} is damaged or foreign: it is not the file"):
        load_exported(folder)


@pytest.mark.parametrize("place", [0.5, 0.9, -40])
def test_an_onnx_file_that_was_changed_is_refused(made, tmp_path, monkeypatch, place):
    path, graph = tmp_path / "model.onnx", onnx_of(made)
    monkeypatch.setattr(onnx, "onnx_model", lambda _: graph)
    onnx.write_onnx(path, made.traced)
    np.testing.assert_allclose(load_exported(path)(made.cells), made.probabilities, atol=1e-5)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if place > 0 else place] ^= 1
    path.write_bytes(content)
    with pytest.raises(HEp2Error, match="not as it was written, by the digest that it ends with"):
        load_exported(path)
    path.write_bytes(graph.SerializeToString())  # as of earlier versions
    np.testing.assert_allclose(load_exported(path)(made.cells), made.probabilities, atol=1e-5)


def test_a_pt2_that_was_changed_is_refused(made, tmp_path):
    path = tmp_path / "model.pt2"
    pt2.write_pt2(path, made.traced)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(HEp2Error, match=r"damaged or foreign: torch says ValueError .* is damaged"):
        load_exported(path)


def test_a_package_with_another_graph_is_refused(made, tmp_path):
    from bioimageio.spec import InvalidDescr, load_description

    path = tmp_path / "model.zip"
    shutil.copy(made.zip, path)
    replaced(path, {"model.onnx": lambda data: data[:-1] + bytes([data[-1] ^ 1])})
    with pytest.raises(HEp2Error, match="its graph is not the one that its description names"):
        load_exported(path)
    assert isinstance(load_description(path), InvalidDescr)


def test_a_pt2_that_would_run_code_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(pt2, "check_archive", lambda path: None)  # as if torch had written it
    path = tmp_path / "model.pt2"
    pt2.write_pt2(path, made.traced)
    config = "model/data/weights/model_weights_config.json"
    with zipfile.ZipFile(path) as archive:
        weights = json.loads(archive.read(config))["config"]
        assert archive.read(config)
    first = next(iter(weights.values()))

    class Evil:
        def __reduce__(self):
            return exec, ("import sys; sys.modules['evil_code_ran'] = sys",)

    evil = io.BytesIO()
    torch.save(Evil(), evil)
    first["use_pickle"] = True
    replaced(path, {
        config: lambda _: json.dumps({"config": weights}).encode(),
        f"model/data/weights/{first['path_name']}": lambda _: evil.getvalue(),
    })  # fmt: skip
    with pytest.raises(HEp2Error, match=r"model\.pt2 is damaged or foreign: torch says"):
        load_exported(path)
    assert "evil_code_ran" not in sys.modules


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.onnx", b"no graph", "damaged or foreign: ONNX Runtime says"),
        ("m.pt2", b"no archive", "damaged or foreign: torch says"),
        ("m.zip", b"no archive", "no package of ours"),
        ("m.h5", b"", "no exported model"),
        ("m.onnx", None, "there is no"),
    ],
)
def test_what_is_no_exported_model_is_refused(tmp_path, name, content, says):
    pytest.importorskip("onnxruntime", reason=LACKS)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HEp2Error, match=says):
        load_exported(tmp_path / name)


# --- the card


def card_of(tmp_path, format="hub", terms=None, **changes):
    finished(tmp_path, **changes)
    return make_card(load_ensemble("default", tmp_path), terms or Terms(), format)


def test_the_card_of_a_leaky_protocol_says_so_first(tmp_path):
    terms = Terms(("A. Reader", "B. Writer"), "CC-BY-NC-4.0")
    card = card_of(tmp_path, "hub", terms, leaky=True, synthetic=False, protocol="random")
    front, text = card.text.split("---\n\n", 1)
    assert text.startswith("**LEAKY PROTOCOL (random-leaky): cells of one specimen")
    facts = yaml.safe_load(front.removeprefix("---\n"))
    assert facts["license"] == "cc-by-nc-4.0"
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"][0]["name"] == "mca, protocol random-leaky"
    assert "A. Reader, B. Writer under CC-BY-NC-4.0" in text
    assert "SIMULATED" not in text


def test_the_card_has_the_figures_of_the_report(tmp_path):
    text = card_of(tmp_path).text
    (path,) = load_ensemble("default", tmp_path).runs
    (group,) = group_runs([read_run(path)])
    shown = [f"{100 * value:.2f}" for value in summarise_group(group).pooled["mca"]]
    assert f"| MCA % | {shown[0]} | {shown[0]} [{shown[1]}, {shown[2]}] |" in text
    assert "| 0 | 0 | 362 | 15 | 90 | 72 | 20 |" in text  # cells and specimens of each side
    assert "must not be used to diagnose anybody" in text
    assert "torch 2" in text and "Any real cell." in text
    assert "the mean itself was not tested" not in text


def test_the_card_of_several_folds_says_that_their_mean_was_not_tested(tmp_path):
    finished(tmp_path, fold=1)
    text = card_of(tmp_path, "bioimageio").text
    assert text.startswith("**SIMULATED CELLS: ")
    assert "mean probability of 2 runs" in text and "the mean itself was not tested" in text
    assert text.count("| 0 | 362 | 15 | 90 | 72 | 20 |") == 2


def test_the_licence_of_what_learned_from_real_cells_is_asked_for(tmp_path):
    with pytest.raises(HEp2Error, match=r"the terms of toy may bind .* license=<SPDX identifier>"):
        card_of(tmp_path, synthetic=False)


def test_a_licence_that_is_none_is_refused(made, tmp_path):
    card = make_card(made.ensemble, Terms(license="whatever"), "bioimageio")
    with pytest.MonkeyPatch.context() as patch:
        graph = onnx_of(made)
        patch.setattr(bioimageio, "onnx_model", lambda _: graph)
        with pytest.raises(HEp2Error, match=r"bioimageio\.spec refuses the model: .*license"):
            bioimageio.write_bioimageio(tmp_path / "model.zip", made.traced, card)


def onnx_of(made):
    import onnx

    return onnx.load(made.folder / "model.onnx")


# --- where to


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"format": "keras", "out": "m.h5"}, "format=keras is unknown: choose one of onnx, pt2"),
        ({"format": "bioimageio", "out": "m.onnx"}, r"a file that ends in \.zip"),
        ({"format": "hub", "out": None}, "must name a folder for format=hub"),
    ],
)
def test_formats_that_do_not_fit_are_refused(tmp_path, asked, says):
    with pytest.raises(HEp2Error, match=says):
        exporting.export("default", tmp_path, asked["out"], None, asked["format"])


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(HEp2Error, match="holds other files"):
        exporting.export("default", tmp_path, str(tmp_path), None, "hub")


# --- the hub


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs; keeps what it was sent."""

    sent: dict[str, bytes]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.sent[self.path] = body
        url = f"http://{self.headers['Host']}/user/name"
        answer = {"url": url, "name": "user/name"}
        if "preupload" in self.path:
            files = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            answer = {"files": [{"path": file["path"], **plain} for file in files]}
        elif "commit" in self.path:
            answer = {"commitUrl": f"{url}/commit/1", "commitOid": "1", "success": True}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_at(monkeypatch, tmp_path):
    """Sends the hub's library somewhere else; nobody is logged in until told so."""
    pytest.importorskip("huggingface_hub", reason=LACKS)
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))

    def at(port, token="hf_made_up"):
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")

    return at


def test_nobody_who_is_not_logged_in_pushes(hub_at, tmp_path):
    with pytest.raises(
        HEp2Error, match=r"nobody is logged in to the hub: run hf auth login; .*try"
    ):
        hub.push(tmp_path, "user/name")


def test_a_lost_network_is_one_sentence(hub_at, tmp_path):
    hub_at(port=9)  # where nothing listens
    with pytest.raises(
        HEp2Error, match=r"the hub did not take user/name: .* is complete"
    ) as caught:
        hub.push(tmp_path, "user/name")
    assert "\n" not in str(caught.value)
    with pytest.raises(HEp2Error, match="push=user/name/more names no repository"):
        hub.push(tmp_path, "user/name/more")


def test_push_sends_every_file(hub_at, made):
    Hub.sent = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub_at(server.server_port)
        hub.push(made.folder, "user/name")
        server.shutdown()
    lines = Hub.sent["/api/models/user/name/commit/main"].decode().splitlines()
    sent = {line["value"]["path"] for line in map(json.loads, lines) if line["key"] == "file"}
    assert sent == {file.name for file in made.folder.iterdir()}
