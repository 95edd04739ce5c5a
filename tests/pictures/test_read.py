import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import CLI, Images, assert_one_sentence, choose
from PIL import Image

import mnist_lit
import photos
import scenes
from mnist_lit.checkpoints import PRETRAINED

NUMBER = Path(__file__).parent.parent.parent / "docs" / "number.jpg"


@pytest.fixture
def folder(test_images: Images, tmp_path: Path) -> Path:
    """Return a folder with three photos of digits, one of them in a subfolder."""
    images, labels = test_images
    random = np.random.default_rng(0)
    for index, name in enumerate(["first.jpg", "more/second.png", "third.bmp"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photos.rough((images[index, 0] * 255).byte(), random).save(path)
    assert labels[:3].tolist() == [7, 2, 1]
    return tmp_path / "photos"


def read_csv(name: str) -> list[dict[str, str]]:
    with Path(name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_and_folders_of_pictures_are_read(cli: CLI, folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").touch()
    os.mkfifo(folder / "pipe")  # reading it would wait forever
    files = ("photos/third.bmp", "photos", str(folder / "third.bmp"))
    result = cli("read", *files, "--output=new/predictions.csv", "--show=seen")
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert [(line[0], line[1]) for line in lines[1:]] == [
        ("photos/third.bmp", "1"),
        ("photos/first.jpg", "7"),
        ("photos/more/second.png", "2"),
    ]
    rows = read_csv("new/predictions.csv")
    assert [(row["path"], row["digit"]) for row in rows] == [(line[0], line[1]) for line in lines[1:]]
    for row in rows:
        probabilities = [float(row[f"p{digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1, abs=0.001)
        assert float(row["probability"]) == max(probabilities) == probabilities[int(row["digit"])]
    assert len([Image.open(path) for path in Path("seen").iterdir()]) == 3


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_read(cli: CLI, folder: Path) -> None:
    (folder / "notes.txt").write_text("seven\n")
    (folder / "empty.png").touch()
    os.mkfifo("pipe")
    whole = (folder / "first.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    whole = (folder / "more/second.png").read_bytes()
    (folder / "flipped.png").write_bytes(whole[:900] + bytes([whole[900] ^ 255]) + whole[901:])
    Image.new("L", (300, 200), 255).save(folder / "blank.png")
    Image.new("1", (14_000, 14_000)).save(folder / "bomb.png")
    Image.new("L", (300, 200), 255).save(folder / "page.eps")  # Pillow would run Ghostscript
    result = cli("read", "photos", "missing.png", "pipe", "--output=predictions.csv")
    assert result.status == 1
    _, *errors, last = result.err.splitlines()
    assert last == "Wrote predictions.csv"
    rows = read_csv("predictions.csv")
    assert [f"error: {row['path']}: {row['reason']}" for row in rows if row["reason"]] == errors
    assert [(row["digit"], row["reason"]) for row in rows if row["digit"]] == [("7", ""), ("2", ""), ("1", "")]
    assert len(rows) == len(errors) + 3
    for name, reason in [
        ("photos/blank.png", "no ink"),
        ("photos/bomb.png", "too large"),
        ("photos/empty.png", "empty"),
        ("photos/flipped.png", "damaged"),
        ("photos/half.jpg", "damaged"),
        ("photos/notes.txt", "not a picture: save it as PNG"),
        ("photos/page.eps", "save it as PNG"),
        ("missing.png", "No such file"),
        ("pipe", "a pipe"),
    ]:
        error = errors.pop(0)
        assert error.startswith(f"error: {name}: ")
        assert reason in error
    assert errors == []
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["7", "2", "1"]


def test_each_picture_is_in_the_table_and_the_csv_before_the_next_is_read(
    cli: CLI, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def stop_at_the_second(path: Path) -> Image.Image:
        if path.name == "second.png":
            found.extend(read_csv("rows.csv"))
            raise KeyboardInterrupt
        return mnist_lit.read_picture(path)

    Path("rows.csv").write_text("of an earlier run\n" * 100)
    monkeypatch.setattr("mnist_lit.pictures.read.read_picture", stop_at_the_second)
    result = cli("read", "photos", "--output=rows.csv")
    assert result.status == 130
    assert [(row["path"], row["digit"]) for row in found] == [("photos/first.jpg", "7")]
    assert read_csv("rows.csv") == found
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["7"]


def test_an_earlier_csv_stays_after_a_wrong_argument(cli: CLI) -> None:
    Path("rows.csv").write_text("of an earlier run")
    assert cli("read", NUMBER, "--output=rows.csv", "--ckpt_path=missing.ckpt").status == 1
    assert cli("read", NUMBER, "--output=rows.csv", "--reject=2").status == 1
    Path("nothing").mkdir()
    assert_one_sentence(cli("read", "nothing", "--output=rows.csv"), "there are no files in nothing")
    assert Path("rows.csv").read_text() == "of an earlier run"


def test_a_dash_prints_the_csv_and_no_table(cli: CLI, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "notes.txt").write_text("seven\n")
    assert cli("read", "photos", "--output=rows.csv").status == 1
    result = cli("read", "photos", "--output", "-")
    assert (result.status, result.out) == (1, Path("rows.csv").read_text())
    assert not Path("-").exists()
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        result = cli("read", "photos", "--output=-")
    assert (result.status, result.err) == (1, f"Checkpoint: {PRETRAINED}\n")


def test_the_first_of_several_pictures_in_a_file_is_read_with_a_note(cli: CLI, test_images: Images) -> None:
    pictures = [Image.fromarray(255 - digit.numpy()).resize((280, 280)) for digit in choose(test_images, 0, 1)]
    for name in "pages.tif", "moving.gif":
        pictures[0].save(name, save_all=True, append_images=pictures[1:])
    pictures[0].save("single.gif")
    result = cli("read", "pages.tif", "moving.gif", "single.gif")
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["7", "7", "7"]
    assert result.err.splitlines()[1:] == [
        f"{name}: the first of several pictures in this file was read" for name in ("pages.tif", "moving.gif")
    ]


def test_output_can_be_a_device_and_names_can_have_any_characters(cli: CLI, folder: Path) -> None:
    (folder / "first.jpg").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b[31m.jpg"))
    result = cli("read", "photos", "--output=predictions.csv")
    assert result.status == 0
    assert r"'photos/\udcff\x1b[31m.jpg'      7" in result.out
    assert len(re.findall(rb"/\xff\x1b\[31m.jpg,1,1,(?:\d+,){4}7,7,", Path("predictions.csv").read_bytes())) == 1
    assert cli("read", "photos", "--output=/dev/null").status == 0
    assert not Path("/dev/null").is_file()


def test_a_long_name_is_shown_and_a_folder_of_shown_pictures_is_refused(cli: CLI, folder: Path) -> None:
    (folder / "first.jpg").rename(folder / f"{'é' * 125}.jpg")  # 254 bytes
    assert cli("read", "photos", "--show=seen").status == 0
    assert len(list(Path("seen").iterdir())) == 3
    again = cli("read", "seen", "--show=seen")
    assert (again.status, again.out) == (1, "")
    assert "no files in seen except those of --show seen" in again.err
    assert sorted(path.name for path in Path().iterdir()) == ["photos", "seen"]


def test_shown_pictures_are_not_read_the_next_time(cli: CLI, folder: Path) -> None:
    for _ in range(2):
        result = cli("read", "photos", "--show=photos/seen", "--output=photos/predictions.csv")
        assert (result.status, len(result.out.splitlines())) == (0, 1 + 3)
    assert "001_first.png is to be read" in cli("read", "photos/seen/001_first.png", "--show=photos/seen").err
    before = (folder / "third.bmp").read_bytes()
    for pictures, output in ("photos/third.bmp", "photos/../photos/third.bmp"), ("photos", "photos/third.bmp"):
        assert "third.bmp is to be read" in cli("read", pictures, f"--output={output}").err
    Path("loop").symlink_to("loop")
    looped = cli("read", "photos/third.bmp", "loop")
    assert (looped.status, len(looped.out.splitlines())) == (1, 1 + 1)
    assert looped.err.splitlines()[-1] == "error: loop: Too many levels of symbolic links"
    assert "a folder is needed" in cli("read", "photos", "--show=photos/third.bmp").err
    assert (folder / "third.bmp").read_bytes() == before


def test_a_picture_of_a_number_has_a_row_for_each_digit(cli: CLI, test_images: Images, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    number = scenes.make_picture(scenes.plain, choose(test_images, 0, 1, 2), random)
    number.save(tmp_path / "number.png")
    scenes.scribble(np.random.default_rng(3)).save(tmp_path / "scribble.png")
    result = cli("read", "number.png", "scribble.png", "--output=rows.csv", "--show=seen")
    assert result.status == 0
    rows = read_csv("rows.csv")
    assert [(row["path"], row["number"], row["digit"]) for row in rows[:3]] == [
        ("number.png", "721", "7"),
        ("number.png", "721", "2"),
        ("number.png", "721", "1"),
    ]
    assert [(row["line"], row["position"]) for row in rows[:3]] == [("1", "1"), ("1", "2"), ("1", "3")]
    edges = [[int(row[edge]) for edge in ("left", "top", "right", "bottom")] for row in rows[:3]]
    assert edges[0][2] <= edges[1][0] < edges[1][2] <= edges[2][0] < edges[2][2] <= number.width
    assert rows[3]["digit"] == "?"
    assert rows[3]["reason"] in ("not a digit", "may be turned")
    assert not any(rows[3][name] for name in ("probability", *(f"p{digit}" for digit in range(10))))
    table = result.out.splitlines()
    assert table[1].split()[:2] == ["number.png", "7"]
    assert table[4].endswith(rows[3]["reason"])
    assert {path.name for path in Path("seen").iterdir()} == {"001_number.png", "002_scribble.png"}
    # With --reject 0 the network must guess.
    result = cli("read", "scribble.png", "--reject=0")
    assert result.out.splitlines()[1].split()[1] in "0123456789"


def test_the_shown_box_of_a_large_picture_is_around_its_ink(cli: CLI, test_images: Images, tmp_path: Path) -> None:
    (digit,) = choose(test_images, 0)
    page = Image.new("L", (5000, 5000), 255)  # larger than the largest picture kept
    page.paste(Image.fromarray(255 - digit.numpy()).resize((1400, 1400)), (2500, 2500))
    page.save(tmp_path / "large.png")
    assert cli("read", "large.png", "--show=seen", "--reject=0").status == 0
    shown = np.asarray(Image.open("seen/001_large.png").convert("RGB"), dtype=int)[10:610, 10:610]
    red, dark = shown[..., 0] - shown[..., 1] > 100, shown.max(axis=2) < 60
    for axis in 0, 1:
        box, ink = (np.flatnonzero(mask.any(axis=axis)) for mask in (red, dark))
        assert 0 <= ink[0] - box[0] < 35  # the answer is above the box
        assert 0 <= box[-1] - ink[-1] < 6


def test_wrong_arguments_give_one_sentence(cli: CLI) -> None:
    for arguments, status, words in [
        ([], 2, "required: pictures"),
        (["number.png", "--colour=red"], 2, "--colour"),
        (["number.png", "--reject=much"], 2, "--reject"),
        (["number.png", "--reject=-0.1"], 1, "--reject must be at least 0 and below 1, got -0.1"),
        (["number.png", "--reject=1"], 1, "--reject must be at least 0 and below 1, got 1.0"),
    ]:
        result = cli("read", *arguments)
        assert_one_sentence(result, words)
        assert result.status == status


def test_the_packages_network_reads_unless_another_is_named(cli: CLI, tmp_path: Path) -> None:
    assert_one_sentence(cli("read", NUMBER, "--ckpt_path=last"), "no checkpoint in", "pretrained")
    checkpoints = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(PRETRAINED, checkpoints / "best.ckpt")
    result = cli("read", NUMBER)
    assert (result.status, result.err) == (0, f"Checkpoint: {PRETRAINED}\n")
    assert "75811" in result.out
    for name in ".", "best":
        result = cli("read", NUMBER, f"--ckpt_path={name}")
        assert result.err == "Checkpoint: lightning_logs/version_0/checkpoints/best.ckpt\n"
    (checkpoints / "best.ckpt").write_bytes(PRETRAINED.read_bytes()[:10_000])
    assert_one_sentence(cli("read", NUMBER, "--ckpt_path=best"), "best.ckpt is not a checkpoint of mnist_lit")


def test_a_picture_is_read_without_lightning(tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        from mnist_lit import MLP, preprocess, read_digits, read_picture
        picture = read_picture(Path({str(NUMBER)!r}))
        assert len(read_digits(picture, MLP())) == 5
        assert preprocess(picture).shape == (1, 28, 28)
        sys.argv = ["mnist_lit", "read", {str(NUMBER)!r}]
        from mnist_lit.__main__ import main
        main()
        slow = {{"lightning", "torchmetrics", "torchvision", "tensorboard"}}
        assert not slow & {{name.partition(".")[0] for name in sys.modules}}
    """
    environment = os.environ | {"PYTHONPATH": str(Path(mnist_lit.__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
