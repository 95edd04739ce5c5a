import csv
from pathlib import Path

import numpy as np
import photos
import pytest
import scenes
import torch
from conftest import CLI, Images
from PIL import Image
from torch import Tensor

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.network import MLP
from mnist_lit.tools.detect import detect_digits
from mnist_lit.tools.preprocess import NoDigitError
from mnist_lit.tools.rejection import Rejector

PREDICT = ("predict", "--ckpt_path=pretrained", "--images")


@pytest.fixture(scope="module")
def network() -> MLP:
    return MNISTClassifier.from_pretrained().network


def choose(test_images: Images, *indices: int) -> list[Tensor]:
    return [(255 * test_images[0][index, 0]).round().byte() for index in indices]


def read(picture: Image.Image, network: MLP) -> list[str]:
    """Return the lines of digits in a picture."""
    lines: dict[int, str] = {}
    for detection in detect_digits(picture, network):
        with torch.inference_mode():
            digit = int(network(detection.image[None]).argmax())
        lines[detection.line] = lines.get(detection.line, "") + str(digit)
    return [lines[number] for number in sorted(lines)]


@pytest.mark.parametrize("kind", [*scenes.NUMBERS, *scenes.SCENES])
def test_numbers_are_read_whatever_is_around_them(test_images: Images, network: MLP, kind: str) -> None:
    scene = (scenes.NUMBERS | scenes.SCENES)[kind]
    random = np.random.default_rng(0)
    right = 0
    for start in range(8):
        indices = range(10 * start, 10 * start + (1, 2, 3, 5)[start % 4])
        picture = scenes.make_picture(scene, choose(test_images, *indices), random)
        if start % 2:  # light on dark
            picture = Image.eval(picture, lambda value: 255 - value)
        right += read(picture, network) == ["".join(str(int(test_images[1][index])) for index in indices)]
    assert right >= 7


def test_digits_are_in_the_order_in_which_one_reads(test_images: Images, network: MLP) -> None:
    page = Image.new("L", (900, 380), 255)
    for place, digit in enumerate(choose(test_images, *range(8), 15, *range(9, 14))):
        line, position = divmod(place, 7)
        page.paste(Image.fromarray(255 - digit.numpy()).resize((112, 112)), (30 + 120 * position, 30 + 120 * line))
    for angle in 0, -8, 8:
        turned = page.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
        assert read(turned, network) == ["7210414", "9590690"]
    detection = detect_digits(page, network)[8]
    assert (detection.line, detection.position) == (2, 2)
    # The second digit of the second line lies in (150, 150, 262, 262); the box is that of its ink.
    ink = np.argwhere(np.asarray(page)[150:262, 150:262] < 128)
    edges = [150 + ink[:, 1].min(), 150 + ink[:, 0].min(), 151 + ink[:, 1].max(), 151 + ink[:, 0].max()]
    assert np.abs(np.subtract(detection.box, edges)).max() <= 6


def test_a_box_is_in_pixels_of_the_upright_picture(test_images: Images, network: MLP) -> None:
    (digit,) = choose(test_images, 0)
    page = Image.new("L", (5000, 3000), 255)  # larger than what is kept
    page.paste(Image.fromarray(255 - digit.numpy()).resize((1120, 1120)), (3000, 1000))
    (detection,) = detect_digits(page, network)
    left, top, right, bottom = detection.box
    assert 3000 < left < 3560 < right < 4120
    assert 1000 < top < 1560 < bottom < 2120
    lying = page.rotate(90, expand=True)
    lying.getexif()[0x0112] = 6  # to be shown turned clockwise
    (turned,) = detect_digits(lying, network)
    assert np.abs(np.subtract(turned.box, detection.box)).max() < 10


@pytest.mark.parametrize("colours", [("white", "white"), ("navy", "navy"), ("white", "whitesmoke")])
def test_without_ink_there_is_none(network: MLP, colours: tuple[str, str]) -> None:
    picture = Image.new("RGB", (300, 200), colours[0])
    picture.paste(colours[1], (0, 0, 150, 200))
    with pytest.raises(NoDigitError, match="no ink"):
        detect_digits(picture, network)


def test_scribbles_are_refused_and_digits_are_not(test_images: Images, network: MLP, data_dir: Path) -> None:
    datamodule = MNISTDataModule(data_dir, val_size=0)
    datamodule.prepare_data()
    datamodule.setup("fit")
    rejector = Rejector(network, datamodule.train_data[0], reject=0.005)
    assert np.mean([reason != "" for reason in rejector.reasons(test_images[0])]) < 0.015
    random = np.random.default_rng(0)
    scribbles = [detect_digits(scenes.scribble(random), network)[0].image for _ in range(60)]
    assert np.mean([reason != "" for reason in rejector.reasons(torch.stack(scribbles))]) > 0.6
    turned = rejector.reasons(test_images[0][:500].rot90(1, (2, 3)))
    assert turned.count("may be turned") > 200


def test_a_picture_of_a_number_has_a_row_for_each_digit(cli: CLI, test_images: Images, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    number = scenes.make_picture(scenes.plain, choose(test_images, 0, 1, 2), random)
    number.save(tmp_path / "number.png")
    scenes.scribble(np.random.default_rng(3)).save(tmp_path / "scribble.png")
    result = cli(*PREDICT, "number.png", "scribble.png", "--output=rows.csv", "--show=seen")
    assert result.status == 0
    with Path("rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["number"], row["digit"]) for row in rows[:3]] == [
        ("number.png", "721", "7"),
        ("number.png", "721", "2"),
        ("number.png", "721", "1"),
    ]
    assert [(row["line"], row["position"]) for row in rows[:3]] == [("1", "1"), ("1", "2"), ("1", "3")]
    edges = [[int(row[edge]) for edge in ("left", "top", "right", "bottom")] for row in rows[:3]]
    assert edges[0][2] <= edges[1][0] < edges[1][2] <= edges[2][0] < edges[2][2] <= number.width
    assert rows[3]["digit"] == "?"
    table = result.out.splitlines()
    assert table[1].split()[:2] == ["number.png", "7"]
    assert table[4].endswith(("no digit", "may be turned"))
    assert {path.name for path in Path("seen").iterdir()} == {"001_number.png", "002_scribble.png"}
    # With --reject 0 the network must guess, and needs no data.
    result = cli(*PREDICT, "scribble.png", "--reject=0", "--data.data_dir=none")
    assert result.out.splitlines()[1].split()[1] in "0123456789"
    assert not Path("none").exists()


def test_the_shown_box_of_a_large_picture_is_around_its_ink(cli: CLI, test_images: Images, tmp_path: Path) -> None:
    (digit,) = choose(test_images, 0)
    page = Image.new("L", (5000, 5000), 255)  # larger than what is kept
    page.paste(Image.fromarray(255 - digit.numpy()).resize((1400, 1400)), (2500, 2500))
    page.save(tmp_path / "large.png")
    assert cli(*PREDICT, "large.png", "--show=seen", "--reject=0").status == 0
    shown = np.asarray(Image.open("seen/001_large.png").convert("RGB"), dtype=int)[:, :280]
    red, dark = shown[..., 0] - shown[..., 1] > 100, shown.max(axis=2) < 60
    for axis in 0, 1:
        box, ink = (np.flatnonzero(mask.any(axis=axis)) for mask in (red, dark))
        assert 0 <= ink[0] - box[0] < 35  # the answer stands above the box
        assert 0 <= box[-1] - ink[-1] < 6


def test_a_number_that_is_not_wholly_predicted_is_left_out(cli: CLI, test_images: Images, tmp_path: Path) -> None:
    for name, indices in ("one", (0,)), ("two", (1, 2, 3)):
        digits = choose(test_images, *indices)
        photos.to_picture(scenes.plain(digits, np.random.default_rng(1))).save(tmp_path / f"{name}.png")
    limit = ("--data.batch_size=2", "--trainer.limit_predict_batches=1", "--reject=0")
    result = cli(*PREDICT, "one.png", "two.png", *limit)
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [["one.png", "7"]]


def test_the_box_of_a_small_picture_is_that_of_its_ink(test_images: Images, network: MLP) -> None:
    for digit in choose(test_images, *range(40)):
        (detection,) = detect_digits(Image.fromarray(255 - digit.numpy()), network)
        rows, columns = (np.flatnonzero((digit.numpy() > 128).any(axis=axis)) for axis in (1, 0))
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(np.subtract(detection.box, edges)).max() <= 3


@pytest.mark.parametrize("reject", ["-0.1", "1"])
def test_a_part_is_refused_that_is_none(cli: CLI, reject: str) -> None:
    result = cli(*PREDICT, "number.png", f"--reject={reject}")
    assert result.status == 1
    assert result.err.endswith(f"--reject must be at least 0 and below 1, got {float(reject)}\n")
