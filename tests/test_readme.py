import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import CLI

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_in_python_run(cli: CLI, data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime comes with the extra 'export'")
    shutil.copytree(data_dir, tmp_path / "data")
    # The real files are downloaded; here MNIST's stand in for them.
    shutil.copytree(data_dir / "MNIST", tmp_path / "data" / "FashionMNIST")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for file_format in "onnx", "pt2":
        assert (
            cli("export", "--ckpt_path=pretrained", f"--format={file_format}", f"--output=digits.{file_format}").status
            == 0
        )
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 6
    names: dict[str, Any] = {}
    for example in examples:
        shorter = re.sub(r"max_epochs=\d+", "max_epochs=1, limit_train_batches=20, enable_progress_bar=False", example)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's, of runs so short
            exec(shorter, names)
    assert names["digit"] == 4
    assert names["probabilities"].shape == (5, 10)
    assert names["trainer"].datamodule.raw_dir.parent.name == "FashionMNIST"
    assert names["trainer"].global_step == 20


def test_the_readme_names_each_file_of_the_package() -> None:
    for path in (ROOT / "mnist_lit").glob("[a-z]*.py"):
        assert f"(mnist_lit/{path.name})" in README
    for place in re.findall(r"\]\((?!http|#)([^)#]+)", README):
        assert (ROOT / place).exists(), place
