import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import CLI, Images, assert_one_sentence
from PIL import Image

import photos


@pytest.fixture
def folder(test_images: Images, tmp_path: Path) -> Path:
    """Return a folder of three photos of digits, named after them, in two folders."""
    images, labels = test_images
    random = np.random.default_rng(0)
    for index, name in enumerate(["first.jpg", "more/second.png", "third.bmp"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photos.rough((images[index, 0] * 255).byte(), random).save(path)
    assert labels[:3].tolist() == [7, 2, 1]
    return tmp_path / "photos"


PRETRAINED = ("predict", "--ckpt_path=pretrained")


def test_pictures_and_folders_of_pictures_are_predicted(cli: CLI, folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").touch()
    os.mkfifo(folder / "pipe")  # would be waited for
    files = ("photos/third.bmp", "photos", str(folder / "third.bmp"))
    result = cli(*PRETRAINED, "--images", *files, "--output=new/predictions.csv", "--show=seen")
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert [(line[0], line[1]) for line in lines[1:]] == [
        ("photos/third.bmp", "1"),
        ("photos/first.jpg", "7"),
        ("photos/more/second.png", "2"),
    ]
    with Path("new/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["digit"]) for row in rows] == [(line[0], line[1]) for line in lines[1:]]
    for row in rows:
        probabilities = [float(row[f"p{digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1, abs=0.001)
        assert float(row["probability"]) == max(probabilities) == probabilities[int(row["digit"])]
    shown = [Image.open(path) for path in sorted(Path("seen").iterdir())]
    assert len(shown) == 3
    # On the right, white ink on black in a field of 28x28.
    for picture in shown:
        seen = np.asarray(picture.convert("L"))[:, -280:].reshape(28, 10, 28, 10)
        assert seen.max() == 255
        assert (seen == seen[:, :1, :, :1]).all()
        assert 0.03 < (seen > 127).mean() < 0.3


def test_what_is_no_digit_is_named_and_the_others_are_predicted(cli: CLI, folder: Path) -> None:
    (folder / "notes.txt").write_text("seven\n")
    (folder / "empty.png").touch()
    os.mkfifo("pipe")
    whole = (folder / "first.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (300, 200), 255).save(folder / "blank.png")
    Image.new("1", (14_000, 14_000)).save(folder / "bomb.png")
    result = cli(*PRETRAINED, "--images", "photos", "missing.png", "pipe", "--output=predictions.csv")
    assert result.status == 1
    errors = result.err.splitlines()
    assert errors[1] == "Wrote predictions.csv"
    errors = errors[2:]
    for name, reason in [
        ("photos/blank.png", "no ink"),
        ("photos/bomb.png", "too large"),
        ("photos/empty.png", "empty"),
        ("photos/half.jpg", "damaged"),
        ("photos/notes.txt", "not a picture"),
        ("missing.png", "No such file"),
        ("pipe", "a pipe"),
    ]:
        error = errors.pop(0)
        assert error.startswith(f"error: {name}: ")
        assert reason in error
    assert errors == []
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["7", "2", "1"]
    assert len(Path("predictions.csv").read_text().splitlines()) == 4


def test_without_any_digit_nothing_is_written(cli: CLI, tmp_path: Path) -> None:
    result = cli(*PRETRAINED, "--images=missing.png", "--output=predictions.csv", "--show=seen")
    assert (result.status, result.out) == (1, "")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "file").touch()
    result = cli(*PRETRAINED, "--images=nothing")
    assert (result.status, result.err.splitlines()[1:]) == (1, ["error: there are no files in nothing"])
    assert_one_sentence(cli("predict", "--images=missing.png"), "no checkpoint", "pretrained")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nothing"]


def test_the_predictions_of_the_test_images_go_to_a_file(cli: CLI) -> None:
    result = cli(*PRETRAINED, "--output=predictions.csv")
    assert (result.status, result.out) == (0, "")
    lines = Path("predictions.csv").read_text().splitlines()
    assert lines[0].startswith("image,digit,probability,p0,")
    assert len(lines) == 10_001
    assert lines[1].startswith("0,7,")
    (Path("folder")).mkdir()
    failed = cli(*PRETRAINED, "--output=folder")
    assert failed.status == 1
    assert failed.err.splitlines()[-1].startswith("error: --output folder: a folder has that name")


def test_output_can_be_a_device_and_names_can_be_strange(cli: CLI, folder: Path) -> None:
    (folder / "first.jpg").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b[31m.jpg"))
    result = cli(*PRETRAINED, "--images=photos", "--output=predictions.csv")
    assert result.status == 0
    assert r"'photos/\udcff\x1b[31m.jpg'      7" in result.out
    assert len(re.findall(rb"/\xff\x1b\[31m.jpg,1,1,(?:\d+,){4}7,7,", Path("predictions.csv").read_bytes())) == 1
    assert cli(*PRETRAINED, "--images=photos", "--output=/dev/null").status == 0
    assert not Path("/dev/null").is_file()


def test_any_name_is_shown_and_folders_of_shown_pictures_are_named(cli: CLI, folder: Path) -> None:
    (folder / "first.jpg").rename(folder / f"{'é' * 125}.jpg")  # 254 bytes
    assert cli(*PRETRAINED, "--images=photos", "--show=seen").status == 0
    assert len(list(Path("seen").iterdir())) == 3
    again = cli(*PRETRAINED, "--images=seen", "--show=seen")
    assert (again.status, again.out) == (1, "")
    assert "no files in seen but those of --show seen" in again.err
    assert "a URL" in cli(*PRETRAINED, "--images=photos", "--show=s3://bucket/seen").err
    assert "a URL" in cli(*PRETRAINED, "--images=photos", "--output=s3://bucket/predictions.csv").err
    assert sorted(path.name for path in Path().iterdir()) == ["photos", "seen"]


def test_what_was_shown_is_not_predicted_the_next_time(cli: CLI, folder: Path) -> None:
    for _ in range(2):
        result = cli(*PRETRAINED, "--images=photos", "--show=photos/seen", "--output=photos/predictions.csv")
        assert (result.status, len(result.out.splitlines())) == (0, 1 + 3)
    named = cli(*PRETRAINED, "--images=photos/seen/001_first.png", "--show=photos/seen")
    assert "001_first.png is among --images" in named.err
    before = (folder / "third.bmp").read_bytes()
    lost = cli(*PRETRAINED, "--images=photos/third.bmp", "--output=photos/../photos/third.bmp")
    assert "third.bmp is among --images" in lost.err
    lost = cli(*PRETRAINED, "--images=photos", "--output=photos/third.bmp")
    assert "third.bmp is among --images" in lost.err
    Path("loop").symlink_to("loop")
    looped = cli(*PRETRAINED, "--images", "photos/third.bmp", "loop")
    assert (looped.status, len(looped.out.splitlines())) == (1, 1 + 1)
    assert looped.err.splitlines()[-1] == "error: loop: Too many levels of symbolic links"
    assert "a folder is needed" in cli(*PRETRAINED, "--images=photos", "--show=photos/third.bmp").err
    assert (folder / "third.bmp").read_bytes() == before


def test_options_of_the_trainer_limit_what_is_predicted(cli: CLI, folder: Path) -> None:
    limited = cli(*PRETRAINED, "--images=photos", "--data.batch_size=2", "--trainer.limit_predict_batches=1")
    assert (limited.status, len(limited.out.splitlines())) == (0, 1 + 2)
    nothing = cli(*PRETRAINED, "--images=photos", "--trainer.limit_predict_batches=0", "--show=seen")
    assert "limit_predict_batches" in nothing.err
    assert (nothing.status, Path("seen").exists()) == (1, False)
    nothing = cli(*PRETRAINED, "--images=photos", "--return_predictions=false")
    assert (nothing.status, nothing.out) == (1, "")
    assert "--return_predictions" in nothing.err
