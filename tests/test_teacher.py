"""Distillation, on real digits."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import CLI, Images, assert_one_sentence

from mnist_lit import MNISTClassifier
from mnist_lit.module import PRETRAINED
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
        for name in "best", "last":
            path = tmp_path / f"version_{number}" / "checkpoints" / f"{name}.ckpt"
            path.parent.mkdir(parents=True, exist_ok=True)
            hparams = dict(teacher.hparams)
            state_dict = {key: value * (name == "best") for key, value in teacher.state_dict().items()}
            torch.save({"hyper_parameters": hparams, "state_dict": state_dict}, path)
    logits = MNISTClassifier()(images).detach()
    ours = Teacher(tmp_path).loss(logits, images, 3.0).detach()
    taught = (sum(teacher(images) for teacher in teachers) / 2 / 3).softmax(dim=1)
    cross_entropy = -(taught * (logits / 3).log_softmax(dim=1)).sum(dim=1).mean()
    entropy = -(taught * taught.log()).sum(dim=1).mean()
    assert float(ours) == pytest.approx(9 * float(cross_entropy - entropy), rel=1e-4)
    assert float(Teacher(PRETRAINED).loss(teachers[1](images), images, 1.0).detach()) == pytest.approx(0, abs=1e-6)


def test_a_teacher_without_weight_changes_nothing(cli: CLI) -> None:
    accuracy(cli, "--trainer.max_epochs=1")
    accuracy(cli, "--trainer.max_epochs=1", TAUGHT, "--model.teacher_weight=0")
    accuracy(cli, "--trainer.max_epochs=1", TAUGHT, "--model.teacher_weight=0.5")
    labels, unheard, heard = map(weights, range(3))
    assert all(torch.equal(labels[name], unheard[name]) for name in labels)
    assert not all(torch.equal(labels[name], heard[name]) for name in labels)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_the_teacher_has_the_precision_of_the_network(cli: CLI, precision: str) -> None:
    assert accuracy(cli, TAUGHT, "--model.lr=0.1", f"--trainer.precision={precision}") > 90


def test_of_the_teacher_a_checkpoint_keeps_name_and_checksum_alone(cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "teachers"
    teachers = f"--model.teacher={folder}"
    for seed in 1, 2:
        teach = ("--model.hidden_sizes=[20]", f"--seed_everything={seed}", f"--trainer.default_root_dir={folder}")
        accuracy(cli, *teach, "--trainer.max_epochs=1")
    short = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=5", "--model.schedule=constant")
    accuracy(cli, *short, teachers, "--trainer.max_epochs=3")
    accuracy(cli, *short, teachers)
    path = tmp_path / "lightning_logs" / "version_1" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path)
    assert checkpoint["hyper_parameters"]["teacher"] == str(folder)
    assert [len(checksum) for checksum in checkpoint["teacher"]] == [64, 64]
    assert checkpoint["state_dict"].keys() == MNISTClassifier().state_dict().keys()

    # Without its teacher it is tested, but not trained.
    moved = folder.rename(tmp_path / "moved")
    assert cli("test", "--ckpt_path=last").status == 0
    continued = (*FEW, *short, "--trainer.max_epochs=3", f"--ckpt_path={path}")
    assert_one_sentence(cli(*continued), f"--model.teacher {folder}", "train it first")
    # Where the teacher lies is for the user to say; which one it is, is not.
    other = moved / "lightning_logs" / "version_0"
    for wrong in f"--model.teacher={other}", TAUGHT:
        assert_one_sentence(cli(*continued, wrong), "not the one that this training began with")
    assert cli(*continued, f"--model.teacher={moved}").status == 0
    whole, parts = weights(0), weights(1)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    shutil.rmtree(moved)
    assert cli("predict", "--trainer.limit_predict_batches=1").status == 0
