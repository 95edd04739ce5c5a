import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLI, RUN, assert_one_sentence, assert_same_run, curves, hparams_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit import MNISTClassifier
from mnist_lit.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
QUICK = ("fit", "--trainer.max_epochs=2", "--trainer.limit_train_batches=20")


def accuracy_in(out: str) -> float:
    found = re.search(r"Accuracy of the network on the 10000 test images: ([\d.]+) %, loss: [\d.]+$", out, re.MULTILINE)
    assert found, out
    return float(found[1])


def test_fit_then_test_as_a_newcomer_types_them(cli: CLI, tmp_path: Path) -> None:
    fit = cli("fit")
    assert (fit.status, fit.err) == (0, "")
    lines = fit.out.splitlines()
    assert [line.split(": ")[0] for line in lines[:10]] == [f"Epoch {epoch}/10, Loss" for epoch in range(1, 11)]
    assert lines[10].startswith("Best validation accuracy: 9")
    assert lines[11:] == [
        "Run: lightning_logs/version_0",
        "Next: python -m mnist_lit test --ckpt_path lightning_logs/version_0",
    ]
    test = cli("test")
    assert (test.status, test.err) == (0, "Checkpoint: lightning_logs/version_0/checkpoints/best.ckpt\n")
    pictures, line = test.out.splitlines()
    assert pictures == "Pictures: tensorboard --logdir lightning_logs/version_0/test/version_0"
    assert accuracy_in(line) > 98.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lightning_logs"]  # test leaves nothing behind
    assert len(list((tmp_path / "lightning_logs").iterdir())) == 1


def test_the_articles_recipe_reaches_the_articles_accuracy(cli: CLI) -> None:
    fit = cli("fit", "--config", ROOT / "configs" / "article.yaml")
    lines = fit.out.splitlines()
    assert len(lines) == 12
    for epoch, line in enumerate(lines[:10], start=1):
        assert line.startswith(f"Epoch {epoch}/10, Loss: ")
    assert float(lines[0].split()[3].rstrip(",")) == pytest.approx(1.6, abs=0.1)
    test = cli("test")
    assert test.err == "Checkpoint: lightning_logs/version_0/checkpoints/last.ckpt\n"
    assert accuracy_in(test.out) == pytest.approx(91.6, abs=0.4)


def test_the_best_recipe_learns_from_distorted_images(cli: CLI) -> None:
    best = "--config", ROOT / "configs" / "best.yaml"
    fit = cli("fit", *best, "--trainer.max_epochs=2", "--data.val_size=5000")
    assert (fit.status, fit.err) == (0, "")
    assert float(fit.out.split("Best validation accuracy: ")[1].split()[0]) > 96


def test_the_same_command_gives_the_same_run_and_another_seed_another(cli: CLI, run: Path) -> None:
    torch.rand(100)
    cli(*RUN)
    assert_same_run(run, run.parent / "version_1")
    cli(*RUN, "--seed_everything=1")
    one, two = (torch.load(run.parent / f"version_{n}" / "checkpoints/last.ckpt") for n in (0, 2))
    assert one["datamodule_hyper_parameters"]["seed"] == 0
    assert two["datamodule_hyper_parameters"]["seed"] == 1
    assert not torch.equal(one["state_dict"]["network.layers.1.bias"], two["state_dict"]["network.layers.1.bias"])


def test_best_and_last_name_checkpoints_of_the_newest_run_which_say_what_its_model_is(cli: CLI, run: Path) -> None:
    cli(*QUICK, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2", "--model.hidden_sizes=[20]",
        "--model.activation=identity")  # fmt: skip
    steps = {"best": 40, "last": 60}  # the last epoch, even if validation is rare
    for options, path in [
        ((), "lightning_logs/version_1/checkpoints/best.ckpt"),
        *(((f"--ckpt_path={name}",), f"lightning_logs/version_1/checkpoints/{name}.ckpt") for name in steps),
        (("--ckpt_path", run / "checkpoints/best.ckpt"), str(run / "checkpoints/best.ckpt")),
        (("--ckpt_path=lightning_logs/version_0",), "lightning_logs/version_0/checkpoints/best.ckpt"),
        (("--ckpt_path=lightning_logs",), "lightning_logs/version_1/checkpoints/best.ckpt"),
    ]:
        result = cli("test", "--trainer.limit_test_batches=1", "--trainer.logger=false", *options)
        assert (result.status, result.err) == (0, f"Checkpoint: {path}\n")
        assert "Pictures" not in result.out
    for name, step in steps.items():
        path = f"lightning_logs/version_1/checkpoints/{name}.ckpt"
        assert torch.load(path)["global_step"] == step
        hparams = MNISTClassifier.load_from_checkpoint(path).hparams
        assert (hparams["hidden_sizes"], hparams["activation"]) == ([20], "identity")
    for option, was in [("--model.activation=relu", "identity"), ("--model.hidden_sizes=[128, 64]", "[20]"),
                        ("--data.batch_size=50", "100"), ("--data.augment.rotation=10", "0.0")]:  # fmt: skip
        result = cli("fit", "--ckpt_path=last", option)
        assert_one_sentence(result, option.replace("=", " is "), f"was trained with {was}", "last.ckpt")


def test_validate_prints_and_writes_the_accuracy_of_the_best_epoch(cli: CLI, run: Path) -> None:
    accuracies = [value for _, value in curves(run)["val_acc"]]
    best = 1 + accuracies.index(max(accuracies))
    validated = cli("validate", "--output=results.json").out
    assert f"Accuracy of the network on the 5000 validation images: {100 * max(accuracies):.2f} %, loss: " in validated
    results = json.loads(Path("results.json").read_text())
    assert results["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    assert (results["images"], results["hyperparameters"]["lr"], results["epoch"]) == (5000, 0.1, best)
    assert results["checkpoint"] == "lightning_logs/version_0/checkpoints/best.ckpt"


def test_without_a_checkpoint_or_validation_images_nothing_is_measured(cli: CLI, tmp_path: Path) -> None:
    for command in ["validate"], ["test", "--ckpt_path=best"], ["predict", "--ckpt_path=last"]:
        assert_one_sentence(cli(*command), "no checkpoint in lightning_logs", "the command 'fit'")
    assert_one_sentence(cli("test", "--ckpt_path=no.ckpt"), "no.ckpt", "no such file, and no folder of a run")
    assert list(tmp_path.iterdir()) == []
    cli(*QUICK, "--data.val_size=0")
    assert "held out no validation images" in cli("validate").err


def test_the_pretrained_network_has_the_accuracy_in_the_readme(cli: CLI, tmp_path: Path) -> None:
    said = re.search(r"pretrained\D+ ([\d.]+) % of the test images", (ROOT / "README.md").read_text())
    assert said
    test = cli("test", "--ckpt_path=pretrained")
    assert accuracy_in(test.out) == pytest.approx(float(said[1]), abs=0.015)  # machines may differ by an image
    assert "tensorboard --logdir lightning_logs/test/version_0\n" in test.out
    assert "no checkpoint" in cli("test").err
    assert_one_sentence(cli("fit", "--ckpt_path=pretrained"), "pretrained.ckpt cannot be continued")
    assert [path.name for path in tmp_path.glob("lightning_logs/*")] == ["test"]


def test_tensorboard_has_curves_charts_and_hyperparameters(cli: CLI, run: Path) -> None:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    for tag in "train_loss", "train_acc", "val_loss", "val_acc":
        assert [event.step for event in events.Scalars(tag)] == [59, 119]
    (layout,) = events.Tensors("custom_scalars__config__")
    for charted in b"train_loss", b"val_loss", b"train_acc", b"val_acc":
        assert charted in layout.tensor_proto.string_val[0]
    hparams = hparams_of(run)
    assert hparams["lr"].number_value == 0.1
    assert hparams["activation"].string_value == "gelu"
    assert hparams["augment.rotation"].number_value == 7.5
    assert hparams.keys() == {"lr", "activation", "augment.rotation", "seed", "max_epochs"}  # not the defaults
    assert "_hparams_/experiment" not in events.summary_metadata  # TensorBoard would take one run's columns for all


@pytest.mark.parametrize(
    "flags",
    [
        ["enable_checkpointing=false", "precision=bf16-mixed", "gradient_clip_val=1", "accumulate_grad_batches=2"],
        ["enable_progress_bar=false", "precision=bf16-true", "overfit_batches=10", "deterministic=true"],
        ["val_check_interval=00:00:00:01", "limit_val_batches=2"],
        ["limit_val_batches=0", "callbacks=EarlyStopping", "callbacks.monitor=train_loss", "val_check_interval=7"],
    ],
    ids=lambda flags: flags[0],
)
def test_flags_of_the_trainer_work(cli: CLI, flags: list[str]) -> None:
    result = cli(*QUICK, *(f"--trainer.{flag}" for flag in flags))
    assert (result.status, result.err) == (0, "")


def test_the_help_lists_every_command_without_importing_torch_or_lightning(tmp_path: Path) -> None:
    code = "import sys; from mnist_lit.__main__ import main\ntry: main()\n"
    code += "finally: assert not {'torch', 'lightning'} & sys.modules.keys()"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for command, sentence in COMMANDS.items():
        assert re.search(rf"\n +{command} +{sentence[:30]}", said), command
    assert set(COMMANDS) == {"fit", "validate", "test", "predict", "read", "report", "demo", "export"}
    assert all(re.fullmatch(r"[A-Z][^.]+\.", sentence) for sentence in COMMANDS.values())


def test_the_help_of_each_command_fits_on_a_screen(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        said = cli(command, "--help")
        assert said.status == 0
        assert len(said.out.splitlines()) <= (40 if command == "fit" else 25)
        assert f"Checkpoint{' to resume' * (command == 'fit')}: a file | a run's folder |" in " ".join(said.out.split())
        assert ("--model.lr 0.2 " in said.out) == (command == "fit")
        assert "gradient_clip_val" not in said.out
    assert "--trainer.gradient_clip_val" in cli("fit", "--help_all").out
    assert "--trainer.max_epochs" not in cli("test", "--help_all").out
    assert re.fullmatch(r"python -m mnist_lit [\d.]+\n", cli("--version").out)


def test_environment_variables_set_options(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "1")
    monkeypatch.setenv("PL_FIT__TRAINER__LIMIT_TRAIN_BATCHES", "5")
    with monkeypatch.context() as misspelt:
        misspelt.setenv("PL_FIT__MODEL__LRR", "3")
        assert_one_sentence(cli("fit"), "PL_FIT__MODEL__LRR: ", "did you mean --model.lr?")
    assert cli("fit").out.splitlines()[0].startswith("Epoch 1/1, Loss: ")
    assert torch.load("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 5


def test_the_config_of_a_resumed_run_repeats_it_from_its_beginning(cli: CLI) -> None:
    options = "--model.schedule=constant", "--trainer.limit_train_batches=5", "--trainer.limit_val_batches=1"
    run, again = Path("lightning_logs/version_0"), Path("lightning_logs/version_1")
    assert cli("fit", *options, "--seed_everything=3", "--trainer.max_epochs=1").status == 0
    other = cli("fit", *options, "--seed_everything=4", "--trainer.max_epochs=2", "--ckpt_path=last")
    assert_one_sentence(other, "--seed_everything is 4", "trained with 3")
    assert cli("fit", *options, "--trainer.max_epochs=2", "--ckpt_path=last").status == 0
    assert cli("fit", f"--config={run / 'config.yaml'}").status == 0
    weights, repeated = (torch.load(each / "checkpoints/last.ckpt")["state_dict"] for each in (run, again))
    assert all(torch.equal(repeated[name], value) for name, value in weights.items() if name.startswith("network"))


def test_print_config_prints_a_config_that_fit_accepts(cli: CLI, tmp_path: Path) -> None:
    printed = cli("fit", "--model.lr=0.05", "--print_config")
    assert printed.status == 0
    (tmp_path / "config.yaml").write_text(printed.out)
    assert cli("fit", "--config=config.yaml", *QUICK[1:]).status == 0
    assert torch.load(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")["hyper_parameters"]["lr"] == 0.05


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tets"], ["'tets'", "'test'"]),
        (["fit", "--nonsense=1"], ["--nonsense", "fit --help"]),
        (["fit", "--epochs=3"], ["did you mean --trainer.max_epochs?"]),
        (["fit", "--seed=3"], ["did you mean --seed_everything?"]),
        (["fit", "--max_stesp=3"], ["did you mean --trainer.max_steps?"]),
        (["test", "--model.lr=3"], ["unrecognized arguments: --model.lr=3"]),
        (["report", "--outptu=x"], ["did you mean --output?"]),
        (["predict", "picture.png"], ["picture.png", "predict --help"]),
        (["fit", "--trainer.max_epochs=abc"], ["--trainer.max_epochs: expected a whole number or null, got abc"]),
        (["fit", "--config=comments.yaml"], ["--config", "must have options"]),
        (["fit", "--config=twice.yaml"], ["line 3: the key lr is there twice"]),
        (["test", "--output=empty", "--ckpt_path=pretrained"], ["--output empty", "a file is needed"]),
        (["test", "--output=-", "--ckpt_path=pretrained"], ["--output -", "a file is needed"]),
        (["fit", "--ckpt_path="], ["--ckpt_path is empty"]),
        (["fit", "--seed_everything=-1"], ["--seed_everything must be at least 0", "got -1"]),
        (["fit", "--trainer.check_val_every_n_epoch=0"], ["check_val_every_n_epoch must be above 0, got 0"]),
        (["fit", "--trainer.accumulate_grad_batches=0"], ["accumulate_grad_batches must be above 0, got 0"]),
        (["fit", "--trainer.val_check_interval=0"], ["val_check_interval must be above 0, got 0"]),
        (["fit", "--trainer.max_steps=0"], ["number of steps", "got 0"]),
        (["fit", "--trainer.limit_train_batches=0"], ["number of steps", "limit_train_batches"]),
        (["fit", "--config=latin.yaml"], ["--config", "not UTF-8"]),
        (["fit", "--config=null.yaml"], ["--data.augment: expected options", "got None"]),
        (["fit", "--data.augment=true"], ["--data.augment: expected options", "got true"]),
        (["fit", "--trainer.callbacks=EarlyStopping"], ["--trainer.callbacks", "EarlyStopping", "required: monitor"]),
        (["fit", "--trainer.callbacks=EarlyStoping"], ["--trainer.callbacks", "EarlyStoping"]),
        (["fit", "--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1"], ["EMAWeight"]),
        (["fit", "--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:00:00:09"], ["--trainer.max_time"]),
        (["fit", "--model.lr=high"], ["--model.lr: expected a number, got high"]),
        (["fit", "--model.activation=swoosh"], ["activation: expected one of 'identity', 'relu'", "got swoosh"]),
        (["fit", "--data.batch_size=1.5"], ["batch_size", "1.5"]),
        (["fit", "--model.hidden_sizes=256"], ["--model.hidden_sizes: expected a list", "'[256, 128]', got 256"]),
        (["fit", "--data.augment.rotation=270"], ["rotation", "180", "270"]),
        (["fit", "--trainer.max_epochs=-1"], ["one_cycle needs a number of steps", "max_epochs"]),
        (["fit", "--trainer.val_check_interval=1000"], ["val_check_interval", "1000"]),
        (["fit", "--trainer.accelerator=abacus"], ["abacus"]),
        (["fit", "--config=no.yaml"], ["no.yaml"]),
        (["fit", "--config=export.yaml"], ["export.yaml"]),
        (["fit", "--config=broken.yaml"], ["config", "line 2"]),
        (["fit", "--config=unknown.yaml"], ["'model'", "'activaton'; did you mean --model.activation?"]),
        (["fit", "--trainer.default_root_dir=file"], ["file", "--trainer.default_root_dir"]),
        (["fit", "--trainer.default_root_dir=s3://bucket/runs"], ["s3://bucket/runs", "local folder"]),
        (["fit", "--data.data_dir=file"], ["file", "--data.data_dir"]),
    ],
    ids=" ".join,
)
def test_a_bad_option_gives_one_sentence_and_leaves_no_files(
    cli: CLI, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "broken.yaml").write_text("model: [1\n")
    (tmp_path / "unknown.yaml").write_text("model:\n  activaton: relu\n")
    (tmp_path / "comments.yaml").write_text("# model:\n#   lr: 0.1\n")
    (tmp_path / "twice.yaml").write_text("model:\n  lr: 0.1\n  lr: 0.2\n")
    (tmp_path / "latin.yaml").write_bytes(b"# \xfcber\n")
    (tmp_path / "null.yaml").write_text("data:\n  augment: null\n")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    before = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert_one_sentence(cli(*arguments), *words)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == before


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_bad_checkpoint_gives_one_sentence_and_runs_no_code(cli: CLI, run: Path) -> None:
    good = run / "checkpoints" / "best.ckpt"
    bad = run.parent.parent / "bad.ckpt"
    content, checkpoint = good.read_bytes(), torch.load(good)
    other = {"hyper_parameters": checkpoint["hyper_parameters"] | {"hidden_sizes": (5,)}}
    for damage in [
        b"",
        b"not a checkpoint\n",
        content[:100_000],
        content[:200_000] + bytes([content[200_000] ^ 1]) + content[200_001:],  # a bit of the weights
        torch.zeros(3),
        {"weights": torch.zeros(3)},
        checkpoint | other,
        pickle.dumps(Malicious()),
    ]:
        if isinstance(damage, bytes):
            bad.write_bytes(damage)
        else:
            torch.save(damage, bad)
        for command in "fit", "test":
            assert_one_sentence(cli(command, "--ckpt_path=bad.ckpt"), "bad.ckpt", "not a checkpoint of mnist_lit")
    assert not Path("executed").exists()
    assert list(run.parent.iterdir()) == [run]
