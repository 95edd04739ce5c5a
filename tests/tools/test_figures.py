import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from conftest import CLI, Images, curves
from lightning.pytorch.cli import LightningCLI
from own import OwnCNN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.functional.classification import multiclass_calibration_error

from mnist_lit import MLP, MNISTClassifier, MNISTDataModule, RandomDistortion, make_trainer
from mnist_lit.config import SaveConfig
from mnist_lit.tools.figures import (
    draw_curves,
    draw_distortions,
    draw_first_layer,
    draw_mistakes,
    last_hidden,
    signed_colours,
)

RUN = Path("lightning_logs/version_0")


def images(run: Path) -> dict[str, list[int]]:
    """Return the steps of each picture that TensorBoard shows."""
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    tags = {tag.removeprefix("pictures/"): tag for tag in events.Tags()["images"]}
    return {name: [event.step for event in events.Images(tag)] for name, tag in tags.items()}


def test_tensorboard_shows_the_pictures_and_scores_of_a_run(cli: CLI, run: Path, test_images: Images) -> None:
    pytest.importorskip("matplotlib", reason="torchmetrics' plots come with the extra 'plots'")
    assert images(RUN) == {
        "distorted_training_digits": [0],
        "first_layer": [119],
        "val_confusion_matrix": [119],
        "val_mistakes": [119],
    }
    points = curves(RUN)
    by_digit = [points[f"val_acc_by_digit/{digit}"] for digit in range(10)]
    for epoch, (step, val_acc) in enumerate(points["val_acc"]):
        assert {digit[epoch][0] for digit in by_digit} == {step}
        assert min(digit[epoch][1] for digit in by_digit) < val_acc < max(digit[epoch][1] for digit in by_digit)

    tested = cli("test")
    assert "\nPictures: tensorboard --logdir lightning_logs/version_0/test/version_0\n" in tested.out
    test_run = RUN / "test" / "version_0"
    assert set(images(test_run)) == {"first_layer", "test_confusion_matrix", "test_mistakes"}
    model = MNISTClassifier.load_from_checkpoint(RUN / "checkpoints" / "best.ckpt").eval()
    with torch.inference_mode():
        logits, labels = model(test_images[0]), test_images[1]
        hidden = last_hidden(model.network, test_images[0][:1000])
    right = (logits.argmax(dim=1) == labels).float()
    points = curves(test_run)
    for digit in range(10):
        expected = float(right[labels == digit].mean())
        assert points[f"test_acc_by_digit/{digit}"][0][1] == pytest.approx(expected, abs=1e-6)
    expected = float(multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=10, n_bins=10))
    assert points["test_calibration_error"][0][1] == pytest.approx(expected, abs=1e-5)
    projected = next(test_run.rglob("tensors.tsv"))
    rows = [[float(value) for value in line.split("\t")] for line in projected.read_text().splitlines()]
    assert torch.allclose(torch.tensor(rows), hidden, atol=1e-4)
    assert projected.with_name("metadata.tsv").read_text().split() == [str(int(label)) for label in labels[:1000]]

    # Each test and validation has its own folder.
    assert "version_0/test/version_1\n" in cli("test").out
    assert "version_0/validate/version_0\n" in cli("validate").out
    assert set(images(RUN / "validate" / "version_0")) == {"first_layer", "val_confusion_matrix", "val_mistakes"}


def test_a_test_of_a_checkpoint_outside_any_run_gets_its_own_folder(cli: CLI) -> None:
    assert "tensorboard --logdir lightning_logs/test/version_0\n" in cli("test", "--ckpt_path=pretrained").out
    assert "test_mistakes" in images(Path("lightning_logs/test/version_0"))
    assert "no checkpoint" in cli("test").err
    assert "Pictures" not in cli("test", "--ckpt_path=pretrained", "--trainer.logger=false").out


def test_a_run_without_validation_shows_its_first_layer(cli: CLI) -> None:
    short = ("fit", "--trainer.max_epochs=2", "--trainer.limit_train_batches=20", "--data.val_size=0")
    assert cli(*short).status == 0
    assert images(RUN) == {"first_layer": [39]}
    assert cli("fit", "--trainer.max_steps=30").status == 0  # it ends before its first validation
    assert images(RUN.with_name("version_1")) == {"first_layer": [29]}


def test_the_most_confident_mistakes_come_first(test_images: Images) -> None:
    some, labels = test_images[0][:3], test_images[1][:3]
    probabilities = torch.full((3, 10), 0.01)
    probabilities[[0, 1, 2], [3, 4, 5]] = torch.tensor([0.5, 0.9, 0.7])
    picture = draw_mistakes(some, probabilities, labels, count=2).float() / 255
    assert picture.shape == (3, 134, 8 * 116)
    for place, mistake in enumerate((1, 2)):
        shown = picture[0, 18:130, 116 * place + 2 : 116 * place + 114]
        assert torch.allclose(shown, some[mistake, 0].repeat_interleave(4, 0).repeat_interleave(4, 1), atol=0.004)
        assert float(picture[0, :18, 116 * place : 116 * place + 116].min()) < 0.5  # a line of text
    assert float(picture[:, :, 2 * 116 :].min()) == 1  # there is no third mistake


def test_positive_weights_are_red_and_negative_weights_are_blue() -> None:
    network = MLP()
    weights = network.layers[1].get_parameter("weight")
    with torch.no_grad():
        weights.zero_()
        weights[0, 0], weights[0, 783], weights[17, 0] = 2.0, -2.0, -0.1
    picture = draw_first_layer(network)
    assert picture.shape == (3, 8 * 29 + 1, 16 * 29 + 1)
    assert picture[:, 1, 1].tolist() == [1, 0, 0]  # unit 0, its first pixel
    assert picture[:, 28, 28].tolist() == [0, 0, 1]  # and its last
    assert picture[:, 2, 2].tolist() == [1, 1, 1]
    assert picture[:, 30, 30].tolist() == [0, 0, 1]  # unit 17: each unit has its own scale
    assert signed_colours(torch.zeros(28, 28)).min() == 1


def test_each_drawn_distortion_is_different(data_dir: Path) -> None:
    datamodule = MNISTDataModule(data_dir, augment=RandomDistortion(rotation=10))
    datamodule.setup("fit")
    picture = draw_distortions(datamodule)
    digits = picture[0].unfold(0, 58, 58).unfold(1, 58, 58).flatten(2)
    assert digits.shape[:2] == (7, 10)
    for digit in range(10):
        assert len(digits[:, digit].unique(dim=0)) == 7


def test_curves_are_drawn_in_the_order_of_steps_whatever_the_clock_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'plots'")
    for clock, step in (2_000_000_000, 10), (1_000_000_000, 20):  # set back before the run was continued
        with patch("time.time", lambda now=clock: now), SummaryWriter(str(tmp_path)) as writer:
            writer.add_scalar("train_loss", 1 / step, step)
    (line, *_) = draw_curves(tmp_path).axes[0].lines
    assert torch.as_tensor(line.get_xdata()).tolist() == [10, 20]


def test_a_model_without_a_learning_rate_has_a_config(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["fit", f"--data.data_dir={data_dir}", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]
    monkeypatch.setattr(sys, "argv", ["mnist_lit", *options])
    seen = LightningCLI(OwnCNN, MNISTDataModule, save_config_callback=SaveConfig, trainer_class=make_trainer, run=True)
    assert seen.trainer.global_step == 2
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["model"] == {"schedule": "none"}
