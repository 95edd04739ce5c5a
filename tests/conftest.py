"""What the tests share: the unpacked data, a trained run, and the command line in this process."""

import gc
import logging
import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from mnist_lit import Classifier, MNISTDataModule
from mnist_lit.__main__ import main
from mnist_lit.datamodule import Batch
from mnist_lit.tools.tensorboard import TensorBoardSummary

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

import_module("mnist_lit.cli")  # before the next line: else the first command would import it
gc.freeze()  # collections skip 700,000 objects of the imports, which saves a twelfth of the tests' time
torch.set_num_threads(1)  # as the command line does
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with Ctrl-C ignored
# The first backward pass starts a thread for each device, and with such a thread forked processes cannot train.
# torch.export adds a device, so the first backward pass comes before it.
torch.ones(1, requires_grad=True).backward()
# TensorBoard reads its files in the order of their names. Names from the same second differ in a counter, which starts
# at a million: from 0, the tenth file would come before the ninth.
event_file_writer._global_uid = event_file_writer.AtomicCounter(1_000_000)


@dataclass
class Result:
    status: int
    out: str
    err: str


CLI = Callable[..., Result]
Images = tuple[Tensor, Tensor]


def slow(*parameters: Any) -> Any:
    """Return parameters that make a test slow: only ``python -m pytest -m slow`` runs it with them."""
    return pytest.param(*parameters, marks=pytest.mark.slow)


def choose(test_images: Images, *indices: int) -> list[Tensor]:
    """Return some of the test images, uint8 ``(28, 28)``."""
    return [(255 * test_images[0][index, 0]).round().byte() for index in indices]


def assert_one_sentence(result: Result, *words: str) -> None:
    assert result.status != 0
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err


def without_seconds(output: str) -> str:
    """Return what ``fit`` printed without the time of each epoch."""
    return re.sub(r", \d+\.\d s\n", "\n", output)


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return step and value of every point that TensorBoard shows."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def hparams_of(run: Path) -> Any:
    """Return the hyperparameters that TensorBoard shows."""
    events = EventAccumulator(str(run)).Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same_run(run: Path, other: Path, but: Set[str] = frozenset(["loops"])) -> None:
    """Assert that both runs have the same curves and, except for Lightning's counters, the same checkpoints."""
    assert curves(run) == curves(other), "curves"
    names = [sorted(path.name for path in (each / "checkpoints").iterdir()) for each in (run, other)]
    assert names[0] == names[1]
    for name in names[0]:
        one, two = (torch.load(path / "checkpoints" / name) for path in (run, other))
        for key in one.keys() - but:
            assert same(one[key], two[key]), (name, key)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit files to ``size`` bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures at the end of a run: they take a third of the time of a hundred steps."""
    monkeypatch.delattr(TensorBoardSummary, "on_train_end")


def peak_memory() -> int:
    """Return the highest memory of this process, in kilobytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    MNISTDataModule(path).prepare_data()
    return path


RUN = (
    *("fit", "--trainer.max_epochs=2", "--trainer.limit_train_batches=60"),
    *("--model.activation=gelu", "--model.lr=0.1", "--data.augment.rotation=7.5"),
)
"""The command of the run that tests share."""


@pytest.fixture(scope="session")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once, and return the run's folder, which tests must not change."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
        _forget_seed(patch)
        patch.chdir(root)
        patch.setattr(sys, "argv", ["mnist_lit", *RUN, f"--data.data_dir={data_dir}"])
        main()
    return root / "lightning_logs" / "version_0"


@pytest.fixture
def run(trained: Path, cli: CLI, tmp_path: Path) -> Path:
    """Return a copy of the shared run, the only one in the current directory."""
    return Path(shutil.copytree(trained, tmp_path / "lightning_logs" / "version_0"))


@pytest.fixture(scope="session")
def test_images(data_dir: Path) -> Images:
    """Return the test images, float32 ``(10000, 1, 28, 28)``, and their labels."""
    datamodule = MNISTDataModule(data_dir)
    datamodule.setup("test")
    images, labels = (torch.cat(parts) for parts in zip(*datamodule.test_dataloader(), strict=True))
    return images, labels


@pytest.fixture(autouse=True)
def _no_seed_from_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_seed(monkeypatch)


def _forget_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.delenv("PL_GLOBAL_SEED")


@pytest.fixture
def cli(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CLI:
    """Run ``python -m mnist_lit ...`` in an empty current directory, without a new process.

    With classes of one's own it is ``python my.py ...``, which ends with ``main(model, data)``.
    """

    def run(
        *args: str | Path, model: type[LightningModule] | None = None, data: type[LightningDataModule] | None = None
    ) -> Result:
        command = [str(arg) for arg in args]
        has_data = any(arg.startswith("--data.data_dir") for arg in command)
        if command and command[0] not in ("read", "demo", "--version") and not has_data:
            command.append(f"--data.data_dir={data_dir}")
        monkeypatch.setattr(sys, "argv", ["my.py" if model else "mnist_lit", *command])
        capsys.readouterr()
        status = 0
        try:
            main(model, data)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        return Result(status, *capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz_cases", default="50", help="how many hostile inputs to try, in all")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    pytest.importorskip("selenium", reason="HTML is tested with selenium")
    chromedriver = shutil.which("chromedriver")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromedriver or not chromium:
        pytest.skip("HTML is tested with Chromium and chromedriver")
    from selenium import webdriver

    camera = tmp_path_factory.mktemp("camera") / "number.mjpeg"
    shutil.copy(Path(__file__).parent.parent / "docs" / "number.jpg", camera)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (
        *("headless=new", "no-sandbox", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"),
        *("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"),
        f"use-file-for-fake-video-capture={camera}",
    ):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


def assert_accessible(driver: "Chrome") -> set[str]:
    """Assert that axe-core finds no fault with the browser's page, and return the rules that the page meets."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with axe-playwright-python")
    driver.execute_script(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    result = driver.execute_async_script("axe.run().then(arguments[0])")
    assert [rule["id"] for rule in result["violations"]] == []
    return {rule["id"] for rule in result["passes"]}


class Stop:
    """Ends a run within a step: by a signal or, as if the process was killed, by an exception."""

    at = 0  # the step to end in, counted over all runs of the process
    by: signal.Signals | None = None
    begun = 0


@pytest.fixture
def _stop(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    training_step = Classifier.training_step

    def stop(self: Classifier, batch: Batch, batch_idx: int) -> Tensor:
        Stop.begun += 1
        if Stop.begun == Stop.at:
            if Stop.by is None:
                raise ZeroDivisionError
            os.kill(os.getpid(), Stop.by)
        return training_step(self, batch, batch_idx)

    # A callback with a hook for each batch would turn rounds of many steps off.
    monkeypatch.setattr(Classifier, "training_step", stop)
    Stop.at = Stop.begun = 0
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns about points that a continued run replaces
