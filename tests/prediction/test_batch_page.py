"""The page of a batch: what needs an eye is on top, everything is said, nothing is loaded."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_fields import write_fields
from helpers.small_sets import write_image
from helpers.trained_runs import write_pair

from hep2.calls.calibration import Calibration, Limits
from hep2.prediction.calls import Opinion, opinion
from hep2.prediction.gathered import SHOWN, Named, Shown, Strip
from hep2.prediction.predict import predict

CLASSES = ("one", "two", "three")


def said(
    *rows: tuple[int, list[float]],
    unlike: int = 0,
    without: int = 0,
    known: Calibration | None = None,
) -> Opinion:
    """Of so many cells of each row of probabilities, the first ones unlike training."""
    cells = np.array([row for count, row in rows for _ in range(count)]).reshape(-1, 3)
    return opinion(cells, np.arange(len(cells)) < unlike, without, CLASSES, known)


ONE, TWO, SURE_TWO = [0.9, 0.05, 0.05], [0.2, 0.75, 0.05], [0, 1, 0]
BARELY = [0.45, 0.4, 0.15]


def test_a_clear_specimen_has_no_doubts() -> None:
    found = said((19, ONE), (1, TWO), without=1)
    assert (found.call.pattern, found.majority, found.call.cells, found.doubts) == (0, 0, 20, ())
    assert found.call.said and found.needed == 2
    np.testing.assert_allclose(found.mean, [0.865, 0.085, 0.05])
    np.testing.assert_allclose(found.call.shares, [0.95, 0.05, 0])


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (said(without=4), "no cell could be named"),
        (said((11, BARELY), (9, SURE_TWO)), "most cells are called one"),
        (said((15, ONE), (5, TWO)), "25 % of its cells are called two: a second pattern?"),
        (said((20, ONE), unlike=3), "15 % of its cells are unlike the training cells"),
        (said((20, BARELY)), "the second pattern is only 5 points behind"),
        (said((9, ONE)), "only 9 cells"),
        (said((20, ONE), without=21), "21 of 41 cells are without a call"),
    ],
)
def test_doubts_have_reasons(found: Opinion, doubt: str) -> None:
    assert found.doubts[:1] == (doubt,)


LIMITS = Limits(0.1, np.full(3, 0.5), np.array([0.5, 0.3, 0.3]), np.zeros(3, dtype=np.bool_))
KNOWN = Calibration(1.0, "made up", 20, 400, (LIMITS,), 0.4, 15)


@pytest.mark.parametrize(
    ("found", "reason", "doubts"),
    [
        (said((20, ONE), known=KNOWN), "", ()),
        (said((15, ONE), (5, TWO), known=KNOWN), "", ()),  # a quarter is less than 40 %
        (said((9, ONE), known=KNOWN), "too few cells", ("only 9 cells",)),
        (
            said((11, ONE), (9, SURE_TWO), known=KNOWN),
            "mixed",
            ("mixed: 45 % of its cells are called two", "unsure: no pattern is sure enough"),
        ),
        (said((20, BARELY), known=KNOWN), "unsure", ("unsure: no pattern is sure enough",)),
    ],
)
def test_what_was_learned_of_held_out_specimens_takes_the_place_of_rules_of_thumb(
    found: Opinion, reason: str, doubts: tuple[str, ...]
) -> None:
    assert (found.call.reason, found.doubts) == (reason, doubts)


def test_what_needs_an_eye_comes_first() -> None:
    nothing, doubtful = said(without=1), said((11, BARELY), (9, SURE_TWO))
    second, sure, surer = said((15, ONE), (5, TWO)), said((18, ONE), (2, TWO)), said((20, ONE))
    order = [surer, second, nothing, sure, doubtful]
    wanted = [nothing, doubtful, second, sure, surer]
    assert sorted(order, key=lambda found: found.urgency) == wanted


def test_a_strip_keeps_the_best() -> None:
    strip, image = Strip(), np.zeros((2, 2), np.uint8)
    scores = np.random.default_rng(0).permutation(50) // 2
    for place, score in enumerate(scores):
        if strip.wants(score):
            strip.add(score, Shown(Named(str(place), 0, float(score), np.nan), image, None))
    kept = [shown.cell.probability for shown in strip.cells()]
    assert kept == sorted(scores, reverse=True)[:SHOWN]


class Reader(HTMLParser):
    """What a page holds, for those who see it and those who hear it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in == "h2" and data.strip():
            self.headings.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(root: Path, **asked: Any) -> tuple[str, Reader]:
    out = root / "out.csv"
    summary = predict("default", root / "runs", out=str(out), orientations=1, **asked)
    assert summary.files[-1] == root / "out.html"
    text = summary.files[-1].read_text(encoding="utf-8")
    return text, Reader(text)


@pytest.fixture
def of_fields(tmp_path: Path) -> tuple[str, Reader]:
    write_pair(tmp_path / "runs", limit=0.1)
    fields, masks = write_fields(tmp_path, "s1/a", "s1/b", "<i>s2/c")
    (masks / "<i>s2/c_cp_masks.png").unlink()
    return page_of(tmp_path, images=str(fields), masks=str(masks))


def test_the_page_says_what_it_is_and_what_it_shows(of_fields: tuple[str, Reader]) -> None:
    text, page = of_fields
    assert "This is no diagnosis" in text
    assert "has learned from simulated cells" in text
    assert page.headings[2:] == ["<i>s2", "s1"]  # the one without a call first
    assert "AC-3" in text and "AC-1" in text
    assert "One of 2 fields" in re.sub(r"\s+", " ", text)


def test_outlines_are_those_of_the_cells(of_fields: tuple[str, Reader]) -> None:
    text, page = of_fields
    assert len(page.of("polygon")) == 5
    kinds = [group["class"] for group in page.of("g")]
    assert kinds.count("none") == 2
    assert set(kinds) <= {"none", "like", "unlike"}
    (picture,) = page.of("svg")
    assert picture["viewbox"] == "0 0 90 60"
    told = [words for words in re.findall(r"<title>(.*?)</title><polygon", text)]
    assert len(told) == 5 and re.findall(r"<li>(\d+: .*?)</li>", text) == told, (
        "read, not only seen"
    )


def test_unlike_cells_stand_beside_their_error(of_fields: tuple[str, Reader]) -> None:
    text, page = of_fields
    unlike = [one for one in page.of("img") if "unlike" in str(one["alt"])]
    errors = [one for one in page.of("img") if one["alt"] == "where it was not drawn again"]
    assert len(unlike) == len(errors) == 6
    assert "Unlike the training cells" in text


def test_nothing_is_loaded_and_everything_has_a_name(of_fields: tuple[str, Reader]) -> None:
    text, page = of_fields
    assert "://" not in text and "<script" not in text and "<i>s2" not in text
    assert all(str(one["src"]).startswith("data:image/") for one in page.of("img"))
    assert all(one["alt"] for one in page.of("img"))
    assert page.of("html") == [{"lang": "en"}]
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    targets = {str(one["href"]).removeprefix("#") for one in page.of("a")}
    assert targets <= set(ids)


def test_ready_made_cells_have_a_page_without_fields(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    for place in range(6):
        write_image(tmp_path / f"{place}.png", side=16)
    rows = [f"{place}.png,{'ab'[place % 2]}" for place in range(6)]
    (tmp_path / "cells.csv").write_text("\n".join(["image,specimen", *rows]))
    own = tmp_path / "names.yaml"
    own.write_text("centromere: {codes: [AC-9], name: <b>mine</b>}")
    text, page = page_of(tmp_path, images=str(tmp_path / "cells.csv"), names=str(own))
    assert sorted(page.headings[2:]) == ["a", "b"]
    assert not page.of("svg")
    assert "AC-9 &lt;b&gt;mine&lt;/b&gt;" in text


def test_cells_without_specimens_have_no_page(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    write_image(tmp_path / "images/1.png", side=16)
    out = tmp_path / "out.csv"
    summary = predict("default", tmp_path / "runs", str(tmp_path / "images"), str(out), 1)
    assert summary.files == [out]
    assert not list(tmp_path.glob("*.html"))
