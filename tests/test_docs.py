"""The README and the pages of docs/: their examples run, and their links resolve."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CLI
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "configs" / "best.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_example_of_a_page_runs_by_itself(
    cli: CLI, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], page: Path
) -> None:
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if page.name == "library.md":
        pytest.importorskip("onnxruntime", reason="onnxruntime comes with the extra 'export'")
        pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'plots'")
        # The real files are downloaded; here MNIST's stand in for them.
        shutil.copytree(data_dir / "MNIST", tmp_path / "data" / "FashionMNIST")
        assert cli("fit", "--trainer.max_steps=60").status == 0
        assert cli("export", "--ckpt_path=pretrained").status == 0
        assert len(examples) == 10
    if page.name == "plain.md":
        examples = [examples[0].replace("trainer.test(", "# ")]
    if examples:
        shutil.copytree(data_dir / "MNIST", tmp_path / "data" / "MNIST")
        for folder in "docs", "configs":
            shutil.copytree(ROOT / folder, tmp_path / folder)
    capsys.readouterr()
    ends: list[dict[str, Any]] = []  # the variables of each example at its end
    for example in examples:
        shorter = re.sub(r"max_epochs=\d+", "max_epochs=1, limit_train_batches=20, enable_progress_bar=False", example)
        ends.append({})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning warns about such short runs
            exec(shorter, ends[-1])
    printed = capsys.readouterr().out.splitlines()
    for line in re.findall(r"^ *print\(.*\)  # (\S+)$", "".join(examples), re.MULTILINE):
        assert line in printed
    for trainer in (names["trainer"] for names in ends if "trainer" in names):
        assert trainer.global_step == 20
    if page.name == "README.md":
        assert ends[0]["logits"].shape == (1, 10)
    if page.name == "library.md":
        assert ends[0]["probabilities"].shape == (5, 10)
        assert ends[6]["trainer"].datamodule.folder == "FashionMNIST"
        assert ends[9]["mnist_image"]("docs/digit.jpg").shape == (1, 1, 28, 28)
        assert ends[8]["logits"].shape == (5, 10)
        assert Path("curves.png").stat().st_size > 10_000
        assert Path("distortions.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_page_on_plain_lightning_reaches_the_articles_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plain.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(program.splitlines()) <= 45
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program, names)
    assert float(names["trainer"].callback_metrics["test_acc"]) == pytest.approx(0.916, abs=0.004)


def test_the_notebook_runs_and_its_outputs_are_stored(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient executes the notebook")
    nbformat = pytest.importorskip("nbformat", reason="nbformat comes with nbclient")
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'plots'")
    path = ROOT / "docs" / "tour.ipynb"
    stored, executed = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    shutil.copytree(data_dir, tmp_path / "data")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(executed, timeout=120, resources={"metadata": {"path": tmp_path / "docs"}}).execute()
    assert len(stored.cells) == 10
    assert path.stat().st_size < 300_000
    for notebook in stored, executed:
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        printed = "".join(output.get("text", "") for output in outputs)
        assert re.findall(r"^Epoch (\d)/3, .*, Validation accuracy: 9\d\.\d\d %, ", printed, re.M) == list("123")
        assert "['75811']" in printed
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
        assert {output.get("name", "stdout") for output in outputs} == {"stdout"}  # no warnings, no messages
        assert not any("text/html" in output.get("data", {}) for output in outputs)  # no tables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_resolve(page: Path) -> None:
    for place in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / place).exists(), place


def test_the_readme_shows_what_read_prints_and_draws(cli: CLI, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    printed = cli("read", "docs/number.jpg", "--show=seen").out
    no_decimals = re.compile(r"\d+\.\d\d %")  # they may differ between machines
    assert no_decimals.sub("", printed) in no_decimals.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    drawn, stored = Image.open("seen/001_number.png"), Image.open(ROOT / "docs" / "seen.jpg")
    assert drawn.size == stored.size == (620, 355)  # the five digits in one row
    assert np.abs(np.asarray(drawn, dtype=float) - np.asarray(stored)).mean() < 3


def test_the_readme_names_each_file_and_folder_of_the_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [ROOT / "mnist_lit" / room for room in ("mnist", "run", "pictures", "tools")]
    for path in [*(ROOT / "mnist_lit").glob("[a-z]*.py"), *rooms]:
        assert f"(mnist_lit/{path.name})" in readme
    for page in PAGES[1:]:
        assert f"({page.relative_to(ROOT)})" in readme
