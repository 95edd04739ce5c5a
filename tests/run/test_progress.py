"""What ``fit`` prints: on a terminal of 80 columns, and elsewhere."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import LambdaCallback
from own import OwnCNN, own_loaders

from mnist_lit import MNISTClassifier, MNISTDataModule, RunCheckpoint, make_trainer

# OwnCNN logs no val_acc, and a run of a few batches says so; the lines that it prints are what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:best.ckpt is not kept")

LOSS = r"train/loss_epoch: [\d.]+, "


class Silent(OwnCNN):
    def log(self, *_: Any, **__: Any) -> None:
        pass


def fit(make: Callable[[], Any], data_dir: Path, **options: Any) -> None:
    callbacks = [RunCheckpoint("val/acc"), *options.pop("callbacks", [])]
    trainer = make_trainer(max_epochs=3, limit_train_batches=12, logger=False, callbacks=callbacks, **options)
    trainer.fit(make(), *([MNISTDataModule(data_dir)] if make is MNISTClassifier else own_loaders(data_dir)))


def on_a_terminal(call: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """Return what a terminal shows at the end of ``call``, and all texts that it has shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # at the end
            while True:
                written.append(os.read(ours, 1024))

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch, suppress(ZeroDivisionError):
        patch.setattr(sys, "stdout", terminal)
        call()
    reader.join()
    os.close(ours)
    screen, texts = [], []
    for line in b"".join(written).decode().replace("\r\n", "\n").split("\n"):
        shown = ""
        for text in line.split("\r"):  # each is written over the one before
            shown = text + shown[len(text) :]
            texts.append(text)
        screen.append(shown.rstrip())
    return "\n".join(screen), texts


@pytest.mark.parametrize(
    ("make", "options", "figures"),
    [
        (MNISTClassifier, {}, [r"Loss: \d\.\d{4}, Validation accuracy: \d\d\.\d\d %, "] * 3),
        (OwnCNN, {"check_val_every_n_epoch": 2}, [LOSS, rf"{LOSS}val/acc: [\d.]+, ", LOSS]),
        (Silent, {}, ["", "", ""]),
    ],
)  # fmt: skip
def test_every_epoch_has_a_line_of_its_own_figures_on_a_terminal_and_elsewhere(
    make: Any, options: dict[str, Any], figures: list[str], data_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    fit(make, data_dir, **options)
    printed = capsys.readouterr().out
    expected = "".join(rf"Epoch {number}/3, {text}\d+\.\d s\n" for number, text in enumerate(figures, start=1))
    assert re.fullmatch(expected, printed)

    screen, texts = on_a_terminal(lambda: fit(make, data_dir, **options), monkeypatch)
    assert re.fullmatch(expected, screen)
    bars = [text for text in texts if re.match(r"Epoch 2/3 +\d+% \|.{20}\| \d+/12 \[", text)]
    assert bars
    assert max(map(len, texts)) < 80


def test_the_bar_is_gone_when_a_run_is_stopped(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails = LambdaCallback(on_train_epoch_start=lambda trainer, _: 1 // (1 - trainer.current_epoch))  # in the second
    screen, texts = on_a_terminal(lambda: fit(OwnCNN, data_dir, callbacks=[fails]), monkeypatch)
    assert any(text.startswith("Epoch 2/3   ") for text in texts)
    assert re.fullmatch(r"Epoch 1/3, [^\n]* s\n", screen)
