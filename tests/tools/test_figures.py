from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import CLI, Images, curves
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.functional.classification import multiclass_calibration_error

from mnist_lit import MLP, MNISTClassifier, MNISTDataModule, RandomDistortion
from mnist_lit.tools.figures import draw_confusion_matrix, draw_curves, draw_distortions, draw_first_layer, read_curves

RUN = Path("lightning_logs/version_0")


def images(run: Path) -> dict[str, list[int]]:
    """Return the steps of each picture that TensorBoard shows."""
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_tensorboard_shows_the_pictures_and_scores_of_a_run(cli: CLI, run: Path, test_images: Images) -> None:
    pytest.importorskip("matplotlib", reason="the confusion matrix comes with the extra 'plots'")
    assert images(RUN) == {"val_confusion_matrix": [119]}
    points = curves(RUN)
    by_digit = [points[f"val_acc_by_digit/{digit}"] for digit in range(10)]
    for epoch, (step, val_acc) in enumerate(points["val_acc"]):
        assert {digit[epoch][0] for digit in by_digit} == {step}
        assert min(digit[epoch][1] for digit in by_digit) < val_acc < max(digit[epoch][1] for digit in by_digit)

    tested = cli("test")
    assert "Pictures: tensorboard --logdir lightning_logs/version_0/test/version_0\n" in tested.out
    test_run = RUN / "test" / "version_0"
    assert images(test_run) == {"test_confusion_matrix": [120]}  # the checkpoint's step
    model = MNISTClassifier.load_from_checkpoint(RUN / "checkpoints" / "best.ckpt").eval()
    with torch.inference_mode():
        logits, labels = model(test_images[0]), test_images[1]
        hidden = model.network.layers[:-1](model.network.upright(test_images[0][:1000]))
    right = (logits.argmax(dim=1) == labels).float()
    scores = {f"test_acc_by_digit/{digit}": float(right[labels == digit].mean()) for digit in range(10)}
    scores["test_acc"] = float(right.mean())
    scores["test_calibration_error"] = float(multiclass_calibration_error(logits.softmax(dim=1), labels, 10, n_bins=10))
    points = curves(test_run)
    for name, score in scores.items():
        assert points[name] == [pytest.approx((120, score), abs=1e-5)]
    projected = next(test_run.rglob("tensors.tsv"))
    rows = [[float(value) for value in line.split("\t")] for line in projected.read_text().splitlines()]
    assert torch.allclose(torch.tensor(rows), hidden, atol=1e-4)
    assert projected.with_name("metadata.tsv").read_text().split() == [str(int(label)) for label in labels[:1000]]

    # Each test and validation has its own folder.
    assert "version_0/test/version_1\n" in cli("test").out
    assert "version_0/validate/version_0\n" in cli("validate").out
    assert images(RUN / "validate" / "version_0") == {"val_confusion_matrix": [120]}


def test_a_confusion_matrix_shows_mistakes_on_a_scale_of_their_own() -> None:
    pytest.importorskip("matplotlib", reason="the confusion matrix comes with the extra 'plots'")
    confusion = 1000 * torch.eye(2, dtype=torch.int64)
    without = np.asarray(draw_confusion_matrix(confusion), dtype=int)
    confusion[0, 1] = 3
    with_three = np.asarray(draw_confusion_matrix(confusion), dtype=int)
    rows, columns = np.nonzero((with_three != without).any(axis=2))
    assert columns.min() > 0.45 * without.shape[1]  # the upper right cell, and the accuracy at its right
    assert rows.max() < 0.5 * without.shape[0]
    red, green, blue = with_three[rows, columns].mean(axis=0)
    assert red > green + 50 > blue + 50


def test_positive_weights_are_red_and_negative_weights_are_blue() -> None:
    network = MLP()
    weights = network.layers[1].get_parameter("weight")
    with torch.no_grad():
        weights.zero_()
        weights[0, 0], weights[0, 783], weights[17, 0] = 2.0, -2.0, -0.1
    picture = draw_first_layer(network)
    assert picture.size == (2 * (16 * 29 + 1), 2 * (8 * 29 + 1))
    assert picture.getpixel((2, 2)) == (255, 0, 0)  # unit 0, its first pixel
    assert picture.getpixel((56, 56)) == (0, 0, 255)  # and its last
    assert picture.getpixel((4, 4)) == (255, 255, 255)
    assert picture.getpixel((60, 60)) == (0, 0, 255)  # unit 17: each unit has its own scale


def test_each_drawn_distortion_is_different(data_dir: Path) -> None:
    datamodule = MNISTDataModule(data_dir, augment=RandomDistortion(rotation=10))
    datamodule.setup("fit")
    picture = torch.from_numpy(np.array(draw_distortions(datamodule)))[:, :, 0]
    digits = picture.unfold(0, 58, 58).unfold(1, 58, 58).flatten(2)
    assert digits.shape[:2] == (7, 10)
    for digit in range(10):
        assert len(digits[:, digit].unique(dim=0)) == 7


def test_curves_are_by_epoch_in_the_order_of_steps_whatever_the_clock_says(tmp_path: Path) -> None:
    for clock, epoch in (2_000_000_000, 0), (1_000_000_000, 1):  # set back before the run was resumed
        with patch("time.time", lambda now=clock: now), SummaryWriter(str(tmp_path)) as writer:
            writer.add_scalar("train_loss", 1 / (epoch + 1), 10 * epoch + 9)
            writer.add_scalar("epoch", epoch, 10 * epoch + 9)
    read = read_curves(tmp_path)
    assert read == {"loss (cross-entropy)": {"training": ([1, 2], [1, 0.5])}}  # no panel without data
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'plots'")
    assert draw_curves(read).size == (640, 480)
