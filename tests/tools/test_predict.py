from pathlib import Path

from conftest import CLI

PRETRAINED = ("predict", "--ckpt_path=pretrained")


def test_the_predictions_of_the_test_images_go_to_a_file(cli: CLI) -> None:
    result = cli(*PRETRAINED, "--output=predictions.csv")
    assert (result.status, result.out) == (0, "")
    lines = Path("predictions.csv").read_text().splitlines()
    assert lines[0].startswith("image,digit,probability,p0,")
    assert len(lines) == 10_001
    assert lines[1].startswith("0,7,")
    Path("folder").mkdir()
    failed = cli(*PRETRAINED, "--output=folder")
    assert (failed.status, failed.out) == (1, "")
    assert failed.err.splitlines()[-1].startswith("error: --output folder: a folder has that name")
    limited = cli(*PRETRAINED, "--trainer.limit_predict_batches=1")
    assert (limited.status, len(limited.out.splitlines())) == (0, 1 + 100)
