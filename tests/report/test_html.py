"""The report: whole, private, self-contained, and deaf to what names and settings say."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from facetl.calibration.probability import reliability
from facetl.errors import DataError, RunError
from facetl.metrics.pairs import fold_pairs
from facetl.metrics.verification import pair_distances, verify_at, verify_folds
from facetl.report.html import HeldOut, Mistake, summary, write_report
from facetl.report.tables import results_table

EVIL = '"><script>alert(1)</script><img src=http://x.test/a onerror=alert(1)>'
VOID = {"meta", "img", "br", "link", "input", "hr"}


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\x00\x80"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


class Page(HTMLParser):
    """Elements, addresses and visible text of a page; asserts that what opens is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def contents():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 5)
    rows = rng.standard_normal((6, 8))[labels] + 0.5 * rng.standard_normal((30, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = fold_pairs(labels, seed=0, folds=3)
    distances = pair_distances(rows, pairs)
    scores = verify_folds(distances, pairs.same, pairs.fold)
    return {
        "verifications": {"raw": replace(scores, accuracy=0.61, accuracy_stderr=0.02), "trained": scores},
        "curves": {"trained": (distances, pairs.same), EVIL: (distances, pairs.same)},
        "held_out": HeldOut(rows, labels, [EVIL, "Ada", "Bo", "山田", "$x$", "\udcff"]),
        "mistakes": [
            Mistake(png(), b"\xff\xd8\xff\xe0jpeg", 0.7312, False, EVIL),
            Mistake(png(), png(), 1.9, True, "Ada_L"),
        ],
        "history": pd.DataFrame({"epoch": [1, 2, 3], "loss": [0.2, 0.1, 0.05], "val_loss": [0.3, 0.2, 0.2]}),
        "settings": {"tap": "mixed2", "head": {"widths": [512, 128], EVIL: EVIL}, "crop": None},
    }


@pytest.fixture(scope="module")
def html(contents, tmp_path_factory):
    path = write_report(tmp_path_factory.mktemp("report") / "report.html", title=EVIL, **contents)
    return path.read_text("utf-8")


def test_no_name_can_run_or_fetch(html):
    page = Page(html)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("src", "href")]
    assert addresses
    assert all(value.startswith(("data:image/", "#")) for value in addresses)
    assert "url(" not in re.sub(r"url\(#[\w.-]+\)", "", html)
    assert "@import" not in html
    assert page.text.count("<script>alert(1)") >= 5, "the name itself must be shown"


def test_the_page_forbids_what_it_does_not_hold(html):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert html.index("Content-Security-Policy") < html.index("<title>")


def test_all_sections_are_there(html):
    headings = re.findall(r"<h[23]>([^<]*)", html)
    for heading in (
        "Verification",
        "Training",
        "Distances",
        "Held-out people",
        "Hardest mistakes",
        "Settings",
    ):
        assert heading in headings
    assert "Taken for one person " in headings
    assert "Not recognised " in headings


def test_facts_are_shown(html, contents):
    text = Page(html).text
    for cell in results_table(contents["verifications"])[2][2:]:
        assert cell in text
    for shown in ("0.610", "± 0.020", "0.73", "1.90", "mixed2", "512, 128", "head.widths", "Ada L", "山田"):
        assert shown in text
    negatives = contents["verifications"]["trained"].negatives
    assert "needs 1,000 neg." in text
    assert f"too few pairs of different people to see so small a FAR: here are {negatives}." in text


def test_every_rule_of_the_style_sheet_is_closed(html):
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    depths = np.cumsum([{"{": 1, "}": -1}.get(character, 0) for character in style])
    assert depths.max() == 2, "a rule in a media query; deeper, a query was left open"
    assert depths[-1] == 0


def test_identifiers_are_unique(html):
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_only_the_owner_can_read_it_whatever_the_umask(contents, tmp_path):
    before = os.umask(0)
    try:
        path = write_report(tmp_path / "r.html", title="t", verifications=contents["verifications"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_not_given_is_left_out(contents, tmp_path):
    path = write_report(tmp_path / "r.html", title="t", verifications=contents["verifications"])
    assert re.findall(r"<h2>([^<]*)", path.read_text("utf-8")) == ["Verification"]


def test_a_failure_leaves_the_old_page_and_no_crumbs(contents, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match="No space left"):
        write_report(path, title="t", verifications=contents["verifications"])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.html"]


def test_a_missing_folder_is_reported(contents, tmp_path):
    with pytest.raises(RunError, match="could not be written"):
        write_report(tmp_path / "no" / "r.html", title="t", verifications=contents["verifications"])


def test_a_thumbnail_must_be_an_image(contents, tmp_path):
    bad = Mistake(b"<svg onload=alert(1)>", png(), 1.0, True, "x")
    with pytest.raises(DataError, match="PNG or JPEG"):
        write_report(tmp_path / "r.html", title="t", verifications=contents["verifications"], mistakes=[bad])


def test_a_run_without_figures_has_a_page_that_says_so(tmp_path):
    page = write_report(tmp_path / "r.html", title="t", verifications={}).read_text()
    assert "Not measured: there were too few people" in page
    assert "<table" not in page


def test_summary_says_whether_the_head_pays():
    rng = np.random.default_rng(0)
    same = np.arange(400) < 200
    scores = verify_at(np.where(same, 0.5, 1.5) + rng.normal(0, 0.1, 400), same, threshold=1.0)
    head = replace(scores, accuracy=0.90, accuracy_stderr=0.01, folds=5)
    better = replace(scores, accuracy=0.80, accuracy_stderr=0.01)
    text = summary({"raw": replace(better, accuracy=0.7), "lda": better, "trained": head})
    assert "right on 90.0 ± 1.0 % of 400 pairs" in text
    assert "in 5 folds of people" in text
    assert "Guessing gets 50 %" in text
    assert text.endswith("PCA → LDA, gets 80.0 ± 1.0 %: 10.0 points less.")
    close = replace(scores, accuracy=0.89, accuracy_stderr=0.01)
    assert summary({"lda": close, "trained": head}).endswith("no difference beyond two standard errors.")
    ahead = replace(scores, accuracy=0.95, accuracy_stderr=0.01)
    assert summary({"lda": ahead, "trained": head}).endswith("5.0 points more.")
    assert "others" not in summary({"trained": head})


def test_results_table_by_hand():
    same = np.arange(30) < 15
    scores = verify_at(np.where(same, 0.5, 1.5), same, threshold=1.0)
    scores = replace(scores, accuracy=0.86149, accuracy_stderr=0.0061, auc=0.9395, eer=0.13)
    needs = ["needs 100 neg.", "needs 1,000 neg.", "needs 10,000 neg."]  # there are 15
    assert results_table({"lda": scores, "mine": scores}) == [
        ["Method", "Accuracy", "AUC", "EER", "TAR@FAR 1e-1", "TAR@FAR 1e-2", "TAR@FAR 1e-3", "TAR@FAR 1e-4"],
        ["PCA → LDA", "0.861 ± 0.006", "0.940", "0.130", "1.000", *needs],
        ["mine", "0.861 ± 0.006", "0.940", "0.130", "1.000", *needs],
    ]


def test_the_reliability_diagram_is_shown_with_its_error(tmp_path):
    distances, same = np.linspace(0, 1, 40), np.arange(40) < 20
    verification = verify_at(distances, same, threshold=0.5)
    probabilities = np.clip(1.1 - distances, 0, 1)
    found = reliability(probabilities, same)
    path = write_report(tmp_path / "r.html", title="r", verifications={"trained": verification}, reliability=found)
    page = Page(path.read_text())
    assert f"Expected calibration error {found.error:.3f}." in page.text
    assert "Probability" in page.text
    without = write_report(tmp_path / "w.html", title="r", verifications={"trained": verification})
    assert "Expected calibration error" not in without.read_text()
