import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import CLI, assert_accessible, assert_one_sentence
from PIL import Image
from torch import nn

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.tools.report import report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytest.importorskip("matplotlib", reason="the report's charts come with the extra 'plots'")


def test_a_report_contains_the_figures_and_pictures_of_a_run(cli: CLI, run: Path) -> None:
    said = cli("report")
    assert said.status == 0
    accuracy = re.search(r"Wrote report.html: \d+ KB, test accuracy ([\d.]+) %", said.out)
    assert accuracy
    assert f": {accuracy[1]} %" in cli("test").out
    page = Path("report.html").read_text(encoding="utf-8")
    assert f"{accuracy[1]} %</span> of the 10,000 test images" in page
    for name, value in ("activation", "gelu"), ("augment.rotation", "7.5"), ("epoch of the checkpoint", "2"):
        assert f"<th>{name}</th><td>{value}</td>" in page
    mistakes = re.search(r"There are ([\d,]+) mistakes in all", page)
    assert mistakes
    assert int(mistakes[1]) == round(10_000 - 100 * float(accuracy[1]))
    # Curves, distortions, first layer, confusion matrix, mistakes, calibration; and nothing is loaded from elsewhere.
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 6
    assert all(min(Image.open(BytesIO(b64decode(picture))).size) > 100 for picture in pictures)
    assert not re.search(r"(src|href)=\"(?!data:)|https?://", page)


def test_a_report_on_the_pretrained_network_has_no_curves(cli: CLI) -> None:
    said = cli("report", "--ckpt_path=pretrained", "--output=new/pretrained.html")
    assert (said.status, said.out.split(": ")[0]) == (0, "Wrote new/pretrained.html")
    page = Path("new/pretrained.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5
    assert "Curves<" not in page


def test_a_report_is_accessible_and_prints_on_two_pages(cli: CLI, run: Path, driver: "Chrome") -> None:
    assert cli("report").status == 0
    driver.get(Path("report.html").resolve().as_uri())
    for scheme in "light", "dark":
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert {"color-contrast", "image-alt"} <= assert_accessible(driver)
        filters = driver.execute_script("return getComputedStyle(document.querySelector('img.chart')).filter")
        assert (filters != "none") == (scheme == "dark")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(re.findall(rb"/Type /Page\b", b64decode(driver.print_page()))) == 2


def test_a_report_on_another_network_leaves_out_the_first_layer(data_dir: Path, tmp_path: Path) -> None:
    model = MNISTClassifier()
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    model.add_module("network", network)  # in place of the MLP
    for name in "one.html", "two.html":
        report(model, MNISTDataModule(data_dir), tmp_path / name)
    # Dropout is off during the test, and on again for training.
    assert (tmp_path / "one.html").read_text() == (tmp_path / "two.html").read_text()
    assert model.training
    assert "The first layer" not in (tmp_path / "one.html").read_text()


def test_a_report_that_cannot_be_written_gives_one_sentence(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    assert_one_sentence(cli("report"), "no checkpoint")
    for output, words in (
        ("folder.html", "folder.html: Is a directory"),
        ("report.txt", "--output report.txt: the name"),
    ):
        failed = cli("report", "--ckpt_path=pretrained", f"--output={output}")
        assert (failed.status, failed.out) == (1, "")
        assert failed.err.splitlines()[1].startswith(f"error: {words}")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]
