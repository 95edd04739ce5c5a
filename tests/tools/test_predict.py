import csv
from pathlib import Path

from conftest import CLI

from mnist_lit.mnist import read


def test_each_test_image_has_a_prediction_in_a_file_or_in_the_output(cli: CLI, data_dir: Path) -> None:
    result = cli("predict", "--ckpt_path=pretrained", "--output=predictions.csv")
    assert (result.status, result.out) == (0, "")
    lines = Path("predictions.csv").read_text().splitlines()
    assert lines[0].startswith("image,digit,probability,p0,")
    rows = list(csv.DictReader(lines))
    assert [int(row["image"]) for row in rows] == list(range(10_000))
    assert all(row["digit"] in "0123456789" and 0.1 <= float(row["probability"]) <= 1 for row in rows)
    labels = read(data_dir / "MNIST" / "raw", "t10k")[1]
    right = [int(row["digit"]) == label for row, label in zip(rows, labels.tolist(), strict=True)]
    assert sum(right) > 9900
    printed = cli("predict", "--ckpt_path=pretrained", "--trainer.limit_predict_batches=1")
    assert (printed.status, printed.out.splitlines()) == (0, lines[: 1 + 100])
    none = cli("predict", "--ckpt_path=pretrained", "--trainer.limit_predict_batches=0")
    assert (none.status, none.out) == (1, "")
    assert "error: there are no predictions: --trainer.limit_predict_batches is 0" in none.err
