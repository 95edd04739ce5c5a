"""Distillation, on real digits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLI, Images, assert_one_sentence
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset

from mnist_lit import MNISTClassifier
from mnist_lit.errors import UserError
from mnist_lit.files import PRETRAINED
from mnist_lit.teacher import Teacher

FEW = ("fit", "--data.val_size=50000", "--trainer.limit_val_batches=5", "--model.activation=silu")
TAUGHT = "--model.teacher=pretrained"


def accuracy(cli: CLI, *options: str) -> float:
    said = cli(*FEW, *options)
    assert (said.status, said.err) == (0, "")
    return float(said.out.split("Best validation accuracy: ")[1].split()[0])


def weights(run: int, name: str = "last") -> dict[str, torch.Tensor]:
    path = Path("lightning_logs", f"version_{run}", "checkpoints", f"{name}.ckpt")
    return MNISTClassifier.load_from_checkpoint(path, map_location="cpu").state_dict()


def test_a_teacher_tells_more_than_labels_do(cli: CLI) -> None:
    assert accuracy(cli, "--trainer.max_epochs=8", TAUGHT) > accuracy(cli, "--trainer.max_epochs=8") + 0.5


def test_the_loss_is_the_divergence_from_the_mean_of_the_teachers(test_images: Images, tmp_path: Path) -> None:
    images = test_images[0][:100]
    teachers = [
        MNISTClassifier(hidden_sizes=(8,)).requires_grad_(False),
        MNISTClassifier.from_pretrained().requires_grad_(False),
    ]
    for number, teacher in enumerate(teachers):
        checkpoint = {"hyper_parameters": dict(teacher.hparams), "state_dict": teacher.state_dict()}
        torch.save(checkpoint, tmp_path / f"{number}.ckpt")
    logits = MNISTClassifier()(images).detach()
    ours = Teacher([tmp_path / "0.ckpt", tmp_path / "1.ckpt"]).loss(logits, images, 3.0).detach()
    taught = (sum(teacher(images) for teacher in teachers) / 2 / 3).softmax(dim=1)
    cross_entropy = -(taught * (logits / 3).log_softmax(dim=1)).sum(dim=1).mean()
    entropy = -(taught * taught.log()).sum(dim=1).mean()
    assert float(ours) == pytest.approx(9 * float(cross_entropy - entropy), rel=1e-4)
    assert float(Teacher([PRETRAINED]).loss(teachers[1](images), images, 1.0).detach()) == pytest.approx(0, abs=1e-6)


@pytest.fixture
def data(test_images: Images) -> DataLoader[Any]:
    """Give two batches of 100."""
    images, labels = test_images
    return DataLoader(TensorDataset(images[:200], labels[:200]), batch_size=100)


def test_the_labels_have_the_rest_of_the_weight(data: DataLoader[Any]) -> None:
    losses = []
    none: dict[str, Any] = {}
    for options in none, {"teacher": PRETRAINED}, {"teacher": [PRETRAINED], "teacher_weight": 0.25}:
        torch.manual_seed(0)
        trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.fit(MNISTClassifier(**options), data, data)
        losses.append(float(trainer.callback_metrics["train_loss"]))
    assert losses[2] == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)
    assert losses[0] != losses[1]


def test_in_python_a_training_goes_on_with_its_own_teacher_or_without_one(
    data: DataLoader[Any], tmp_path: Path
) -> None:
    path = tmp_path / "taught.ckpt"

    def classifier(teacher: Any = None) -> MNISTClassifier:
        return MNISTClassifier(teacher=teacher, schedule="constant")

    def train(model: MNISTClassifier, epochs: int, continued: Path | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        trainer = Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.fit(model, data, data, ckpt_path=continued)
        trainer.save_checkpoint(path)
        trainer.test(model, data, ckpt_path=PRETRAINED, verbose=False)  # of another training
        model.load_state_dict(torch.load(path)["state_dict"])
        return model.state_dict()

    untaught = train(classifier(), 1)
    model = classifier(PRETRAINED)
    taught = train(model, 1)
    assert not torch.equal(taught["network.layers.1.weight"], untaught["network.layers.1.weight"])
    assert MNISTClassifier.load_from_checkpoint(path).teacher == str(PRETRAINED)
    for other in None, path:
        with pytest.raises(UserError, match="began with"):
            train(classifier(other), 2, continued=path)
    train(classifier("pretrained"), 2, continued=path)
    model.teacher = None
    assert torch.equal(train(model, 1)["network.layers.1.weight"], untaught["network.layers.1.weight"])


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_the_teacher_has_the_precision_of_the_network(cli: CLI, precision: str) -> None:
    assert accuracy(cli, TAUGHT, "--model.lr=0.1", f"--trainer.precision={precision}") > 90


def test_of_the_teacher_a_checkpoint_keeps_name_and_checksum_alone(cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "teachers"
    for seed in 1, 2:
        teach = ("--model.hidden_sizes=[20]", f"--seed_everything={seed}", f"--trainer.default_root_dir={folder}")
        accuracy(cli, *teach, "--trainer.max_epochs=1")
    paths = [str(path) for path in sorted(folder.rglob("best.ckpt"))]
    teachers = f"--model.teacher={json.dumps(paths)}"
    short = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=5", "--model.schedule=constant")
    accuracy(cli, *short, teachers, "--trainer.max_epochs=3")
    accuracy(cli, *short, teachers)
    path = tmp_path / "lightning_logs" / "version_1" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path)
    assert checkpoint["hyper_parameters"]["teacher"] == paths
    assert [len(checksum) for checksum in checkpoint["teacher"]] == [64, 64]
    assert checkpoint["state_dict"].keys() == MNISTClassifier().state_dict().keys()

    # Without its teacher it is tested, but not trained.
    moved = folder.rename(tmp_path / "moved")
    assert cli("test", "--ckpt_path=last").status == 0
    continued = (*FEW, *short, "--trainer.max_epochs=3", f"--ckpt_path={path}")
    assert_one_sentence(cli(*continued), f"teacher {paths[0]}", "train it first")
    # Where the teacher lies is for the user to say; which one it is, is not.
    paths = [str(path) for path in sorted(moved.rglob("best.ckpt"))]
    for wrong in f"--model.teacher={paths[0]}", TAUGHT:
        assert_one_sentence(cli(*continued, wrong), "what this training began with")
    assert_one_sentence(
        cli(*continued, "--model.teacher=null"), "was trained with", paths[0].replace("moved", "teachers")
    )
    assert cli(*continued, f"--model.teacher={json.dumps(paths)}").status == 0
    whole, parts = weights(0), weights(1)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    shutil.rmtree(moved)
    assert cli("predict", "--trainer.limit_predict_batches=1").status == 0
