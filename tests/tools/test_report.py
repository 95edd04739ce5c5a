import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import CLI, Images, assert_accessible
from PIL import Image

from mnist_lit import MNISTClassifier

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytest.importorskip("matplotlib", reason="the report's charts come with the extra 'plots'")


def test_a_report_says_what_was_reached_and_how(cli: CLI, run: Path, test_images: Images) -> None:
    assert re.fullmatch(r"Wrote report.html: \d+ KB, test accuracy [\d.]+ %\n", cli("report").out)
    page = Path("report.html").read_text(encoding="utf-8")
    model = MNISTClassifier.load_from_checkpoint(run / "checkpoints" / "best.ckpt").eval()
    with torch.inference_mode():
        is_right = model(test_images[0]).argmax(dim=1) == test_images[1]
    accuracy = 100 * float(is_right.double().mean())
    assert f"<h1>{accuracy:.2f} % of MNIST's test images classified correctly</h1>" in page
    low, high = map(float, re.findall(r"95 % interval: ([\d.]+) to ([\d.]+) %", page)[0])
    error = (accuracy * (100 - accuracy) / 10_000) ** 0.5  # the standard error of a share
    assert (low, high) == pytest.approx((accuracy - 1.96 * error, accuracy + 1.96 * error), abs=0.03)
    assert f"<h2>{int((~is_right).sum()):,} mistakes</h2>" in page
    confident = re.findall(r"<figcaption>(\d) read as (\d): ([\d.]+) %</figcaption>", page)
    assert len(confident) == 24
    assert all(label != guess for label, guess, _ in confident)
    assert [float(each) for *_, each in confident] == sorted((float(each) for *_, each in confident), reverse=True)
    guesses = re.findall(r'<th scope="row">0.\d to [\d.]+</th><td>([\d,]+)</td>', page)
    assert sum(int(each.replace(",", "")) for each in guesses) == 10_000
    assert re.search(r'alt="accuracy: training 0.\d+ to 0.\d+, validation 0.\d+ to 0.\d+"', page)
    assert re.search(r"109,386 parameters, checkpoint of epoch 2, \d+ seconds in all", page)
    options = re.findall(r'<th scope="row">--(.*?)</th><td>(.*?)</td>', page)
    assert dict(options) == {
        **{"model.activation": "gelu", "model.lr": "0.1", "data.augment.rotation": "7.5"},
        **{"seed_everything": "0", "trainer.max_epochs": "2"},
    }
    assert "<code>python -m mnist_lit fit --config lightning_logs/version_0/config.yaml</code>" in page
    # The mistakes, confusion matrix, three curves, distortions, first layer; and nothing is loaded from elsewhere.
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 24 + 6
    assert all(min(Image.open(BytesIO(b64decode(picture))).size) >= 28 for picture in pictures)
    assert not re.search(r"(src|href)=\"(?!data:)|https?://", page)


def test_a_report_has_no_panel_without_data_and_an_error_is_one_sentence(cli: CLI, tmp_path: Path) -> None:
    assert "no checkpoint" in cli("report").err
    said = cli("report", "--ckpt_path=pretrained", "--output=new/pretrained.html")
    assert (said.status, said.out.split(": ")[0]) == (0, "Wrote new/pretrained.html")
    page = Path("new/pretrained.html").read_text(encoding="utf-8")
    assert "--data.augment.rotation" in page
    assert all(words not in page for words in ("Curves<", "epoch", "seconds", "config.yaml"))
    failed = cli("report", "--ckpt_path=pretrained", "--output=report.txt")
    assert (failed.status, failed.out) == (1, "")
    assert failed.err.splitlines()[1].startswith("error: --output report.txt: the name")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_report_is_accessible_and_fits_a_phone(cli: CLI, run: Path, driver: "Chrome") -> None:
    assert cli("report").status == 0
    driver.get(Path("report.html").resolve().as_uri())
    for width, columns in (360, 2), (1280, 6):
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        tiles = "getComputedStyle(document.querySelector('.tiles')).gridTemplateColumns.split(' ').length"
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert driver.execute_script(f"return [{fits}, {tiles}]") == [True, columns]
        for scheme in "light", "dark":
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            assert {"image-alt", "td-headers-attr"} <= assert_accessible(driver)
            filters = driver.execute_script("return getComputedStyle(document.querySelector('.chart img')).filter")
            assert (filters != "none") == (scheme == "dark")
