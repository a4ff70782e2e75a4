"""The page of a report: whole, accessible, safe, and drawn from three files a run."""

import base64
import itertools
import re
import shutil
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from helpers.made_up_runs import cells_of_fold, write_reconstruction, write_run
from helpers.results import keep

from hep2 import metrics
from hep2.errors import HEp2Error
from hep2.evaluation import provenance
from hep2.evaluation import report as html
from hep2.evaluation.formats import NOTHING, escaped
from hep2.evaluation.leak import leak_gaps
from hep2.evaluation.page import Page
from hep2.evaluation.plots import confusion as figures
from hep2.evaluation.report import make_report
from hep2.evaluation.results import group_runs
from hep2.rundir.artifacts import curves_of, latents_of, mistakes_of, reconstructions_of
from hep2.rundir.result import read_run

HOSTILE = '<script>alert("x")</script> $a_b$ & =1+1'
CLASSES = ("homogeneous", HOSTILE, "centromere")


def strip(images):
    done, data = cv2.imencode(".png", images)
    assert done
    return base64.b64encode(data.tobytes()).decode()


def write_all(root):
    """Two folds of a method under both protocols on the same cells, and an autoencoder."""
    rows = [
        [(f"{name}{HOSTILE}", f"{specimen}{HOSTILE}", target) for name, specimen, target in cells]
        for cells in (cells_of_fold(fold, CLASSES) for fold in range(2))
    ]
    noise = np.random.default_rng(0).integers(0, 256, (16, 32), dtype=np.uint8)
    for fold in range(2):
        for protocol, accuracy in (("random", 0.95), ("specimen", 0.6)):
            common = {"classes": list(CLASSES), "protocol": protocol, "folds": 2, "fold": fold,
                      "leaky": protocol == "random"}  # fmt: skip
            path, *_ = write_run(root, rows=rows[fold], accuracy=accuracy, **common)
            cells = [{"id": rows[fold][i][0], "specimen": rows[fold][i][1], "target": HOSTILE,
                      "output": "centromere", "confidence": 0.9 - i / 10 - fold / 20}
                     for i in range(2)]  # fmt: skip
            audit = {"shared_specimens": 3, "cells_of_shared_specimens": 9, "identical_cells": 0,
                     "near_duplicate_cells": 1, "pairs": []}  # fmt: skip
            keep(path, audit=audit, mistakes={"cells": cells, "png": strip(noise)},
                 split_hash=f"{protocol[0].encode().hex()}{fold:014x}",
                 curves={"train/loss": [[0, 1.0], [1, 0.5]], "val/loss": [[0, 1.2]]})  # fmt: skip
    write_encoder(root, noise)


def write_encoder(root, noise):
    path = write_reconstruction(root)
    cells = [{"id": "c", "pattern": name, "kind": kind, "mse": 0.01}
             for name in CLASSES[:1] for kind in ("typical", "worst")]  # fmt: skip
    shown = {"cells": cells, "png": strip(np.concatenate([noise, 255 - noise]))}
    keep(path, reconstructions=shown, classes=list(CLASSES), protocol="specimen", folds=2)
    rows = [f"c{i},s{i % 3},homogeneous,0.01,{i},{-i},{i * i},1" for i in range(12)]
    header = "id,specimen,target,mse,pca_1,pca_2,tsne_1,tsne_2"
    (path / "predictions.csv").write_text("\n".join([header, *rows, "c99,s,homogeneous,0.1,,,,"]))
    new = root / "default" / "synthetic-specimen" / "dcae-dcae" / "fold0" / "seed0"
    new.parent.mkdir(parents=True)
    shutil.move(path, new)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    write_all(root / "runs")
    make_report("default", root / "runs", root / "reports")
    return root


class Outline(HTMLParser):
    """What a browser or a screen reader would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(written):
    return (written / "reports/default/report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_small(page):
    assert len(page.encode()) < html.LARGEST_PAGE
    outline = Outline(page)
    addresses = [attrs.get(name, "") for _, attrs in outline.tags for name in ("src", "href")]
    assert all(a == "" or a.startswith(("data:", "#")) for a in addresses)
    assert not outline.all("script") and not outline.all("iframe")
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_structure_for_screen_readers(page):
    outline = Outline(page)
    assert len(outline.all("h1")) == len(outline.all("main")) == len(outline.all("nav")) == 1
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert all(attrs["alt"] for attrs in outline.all("img")) and len(outline.all("img")) > 8
    assert all(attrs["scope"] in ("row", "col") for attrs in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table")) > 6
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in outline.all("a")}
    assert "main" in targets and targets <= set(ids)
    assert outline.all("html")[0]["lang"] == "en"


def test_hostile_names_are_text(page):
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    for uri in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page):
        svg = base64.b64decode(uri).decode()
        assert "<script" not in svg and "currentColor" in svg


def test_synthetic_is_said_everywhere(page):
    outline = Outline(page)
    assert "synthetic" in outline.texts["title"][0] and "synthetic" in outline.texts["h1"][0]
    published = ("published scores", "PUBLISHED scores")
    for tag in ("caption", "figcaption"):
        for text in outline.texts[tag]:
            assert "synthetic" in text.lower() or any(word in text for word in published), text


def test_leaky_protocols_are_marked(page):
    assert "protocol random-leaky" in page
    assert re.search(r"LEAKY: cells are dealt out", page)
    titles = [text for text in Outline(page).texts["h2"] if "protocol" in text]
    assert titles == ["synthetic, protocol specimen", "synthetic, protocol random-leaky"]


def test_every_picture_is_there_as_png_and_svg(written):
    folder = written / "reports/default/figures"
    stems = [{path.stem for path in folder.glob(f"*.{kind}")} for kind in ("png", "svg")]
    assert stems[0] == stems[1]
    for what in ("ranking", "matrix", "specimens", "reliability", "called", "mistakes",
                 "reconstructions",
                 "latents", "curves-head"):  # fmt: skip
        assert any(stem.startswith(f"{what}-synthetic") for stem in stems[0]), what
    for path in folder.glob("*.svg"):
        text = path.read_text()
        if "published-paper" not in path.stem:
            assert "SYNTHETIC" in text, path.stem
        assert "currentColor" not in text and not re.search(r'href="http', text)


def test_the_report_of_real_runs_is_drawn_from_three_files_a_run(trained, tmp_path):
    for file in trained.runs_dir.rglob("*"):
        if file.name in ("result.json", "predictions.csv", "held_out.csv"):
            copy = tmp_path / "runs" / file.relative_to(trained.runs_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    found = []
    for runs in (trained.runs_dir, tmp_path / "runs"):
        report = make_report("default", runs, tmp_path / runs.name / "reports")
        root = tmp_path / runs.name / "reports"
        found.append({file.relative_to(root): file.read_bytes() for file in report.files})
    assert found[0].keys() == found[1].keys()
    assert [file for file in found[0] if found[0][file] != found[1][file]] == []
    drawn = {file.name.split("-synthetic")[0] for file in found[0] if file.suffix == ".svg"}
    assert drawn >= {"ranking", "matrix", "specimens", "reliability", "called", "mistakes",
                     "reconstructions", "latents", "curves-dcae", "curves-head"}  # fmt: skip


def test_a_full_page_names_what_it_leaves_out(written, monkeypatch):
    monkeypatch.setattr(html, "LARGEST_PAGE", html._TEXT)
    runs = [read_run(p.parent) for p in sorted((written / "runs").rglob("result.json"))][:1]
    commands, picture = provenance.commands(runs), figures.paper_picture()
    sources = [provenance.origins(runs), commands]
    page = Page("x", "", [], [], [], provenance.audits(runs), commands, sources, "", [picture])
    text = html.page_html(page)
    assert "<img" not in text and "figures/matrix-published-paper.svg" in text


def test_what_is_odd_about_the_data_stands_below_the_audit(tmp_path):
    notes = [
        "/cells: images that appear twice (5):\n  a\n  b\n  c\n  d\n  e",
        "cells: 4095 is white",
    ]
    runs = [read_run(write_run(tmp_path, fold=fold, notes=notes)[0]) for fold in (0, 1)]
    assert provenance.audits(runs).notes[1:] == [
        "synthetic: /cells: images that appear twice (5): a; b; c; ...",
        "synthetic: cells: 4095 is white",
    ]
    odd = read_run(write_run(tmp_path, fold=2, notes={"not": "a list"})[0])
    assert len(provenance.audits([odd]).notes) == 1


@pytest.mark.parametrize(
    "chosen, shown",
    [
        (None, ""),
        ({}, ""),
        ({"C": 10, "gamma": 0.0612345, "inner_mca": None}, "C=10, gamma=0.06123, inner_mca=None"),
    ],
)
def test_what_was_chosen_stands_beside_the_command(chosen, shown, tmp_path):
    run = read_run(write_run(tmp_path, chosen=chosen)[0])
    table = provenance.commands([run])
    (row,) = table.rows
    assert row[table.heading.index("chosen on inner folds")] == (shown or NOTHING)


@pytest.mark.parametrize("chosen", [[1], "x", {"C": {"a": 1}}, {"C": {}}])
def test_what_is_no_choice_is_damage(chosen, tmp_path):
    run = read_run(write_run(tmp_path, chosen=chosen)[0])
    with pytest.raises(HEp2Error, match="key chosen"):
        provenance.commands([run])


def test_what_runs_kept_is_read_back(written):
    runs = [read_run(path.parent) for path in sorted((written / "runs").rglob("result.json"))]
    encoder = next(run for run in runs if run.stage == "dcae")
    sheet = reconstructions_of(encoder)
    assert sheet.images.shape == (2, 2, 16, 16)
    np.testing.assert_array_equal(sheet.images[0], 255 - sheet.images[1])
    latents = latents_of(encoder)
    assert latents.places.shape == (12, 4) and latents.specimens[:3].tolist() == ["s0", "s1", "s2"]
    head = next(run for run in runs if run.stage == "head")
    assert mistakes_of(head).images.shape == (1, 2, 16, 16)
    np.testing.assert_array_equal(curves_of(head)["train/loss"], [[0, 1.0], [1, 0.5]])
    assert reconstructions_of(head) is None and latents_of(head) is None


@pytest.mark.parametrize("png", ["no base64!", base64.b64encode(b"GIF89a").decode(),
                                 strip(np.zeros((16, 40), np.uint8))])  # fmt: skip
def test_damaged_pictures_are_the_file_s_fault(written, png):
    run = read_run(next((written / "runs").rglob("head-*/fold0/seed0/result.json")).parent)
    run.kept["mistakes"]["png"] = png
    with pytest.raises(HEp2Error, match=r"result\.json is damaged or foreign: key mistakes"):
        mistakes_of(run)


def test_the_leak_is_the_paired_difference_on_all_cells(written):
    runs = [read_run(path.parent) for path in sorted((written / "runs").rglob("result.json"))]
    (gap,) = leak_gaps(group_runs(runs))
    figures = {}
    for protocol in ("random", "specimen"):
        part = [run.cells for run in runs if run.predictions and run.protocol == protocol]
        confusion = sum(cells.confusion() for cells in part)
        figures[protocol] = float(metrics.mca(confusion))
    assert gap.leaky == pytest.approx(figures["random"])
    assert gap.honest == pytest.approx(figures["specimen"])
    assert gap.difference.estimate == pytest.approx(figures["random"] - figures["specimen"])
    assert gap.difference.low < gap.difference.estimate < gap.difference.high
    assert gap.cells == 2 * 3 * 3 * 8


def test_without_both_protocols_there_is_no_gap(written):
    runs = [read_run(path.parent) for path in sorted((written / "runs").rglob("result.json"))]
    assert leak_gaps(group_runs(run for run in runs if run.protocol == "random")) == []


def test_latex_is_escaped():
    assert escaped("a_b & 50 % ± 1") == r"a\_b \& 50 \% $\pm$ 1"
