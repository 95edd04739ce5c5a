import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import CLI, Images, Result, assert_one_sentence, largest_file, slow
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.network import Activation
from mnist_lit.tools.export import export

pytestmark = pytest.mark.skipif(find_spec("onnxscript") is None, reason="ONNX comes with the extra 'export'")


def run_cli(cli: CLI, output: str = "digits.onnx") -> Result:
    result = cli("export", "--ckpt_path=pretrained", f"--output={output}")
    return replace(result, err="".join(result.err.splitlines(keepends=True)[1:]))  # without the line on the checkpoint


def session(path: Path) -> Any:
    return import_module("onnxruntime").InferenceSession(path)  # its import takes a second


def run_file(path: Path, images: Tensor) -> Tensor:
    return torch.from_numpy(session(path).run(None, {"images": images.numpy()})[0])


def metadata(path: Path) -> dict[str, Any]:
    text = session(path).get_modelmeta().custom_metadata_map
    return {key: json.loads(value) if key in ("recipe", "test_accuracy") else value for key, value in text.items()}


def same(logits: Tensor, others: Tensor) -> bool:
    """Return whether they are equal except for rounding, which grows with the largest logit."""
    return torch.allclose(logits, others, rtol=0, atol=1e-5 * max(1.0, float(others.abs().max())))


ELSEWHERE = """
import sys
sys.modules |= dict.fromkeys(["mnist_lit", "lightning", "torch"])  # None: they cannot be imported
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("digits.onnx")
np.save("logits.npy", session.run(["logits"], {"images": np.load("images.npy")})[0])
"""


@pytest.fixture(scope="module")
def file(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the pretrained network."""
    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    export(MNISTClassifier.from_pretrained(), MNISTDataModule(data_dir), path)
    return path


def test_a_program_without_this_package_gets_the_logits_of_the_checkpoint(
    file: Path, test_images: Images, tmp_path: Path
) -> None:
    images, labels = test_images
    np.save(tmp_path / "images.npy", images.numpy())
    shutil.copy(file, tmp_path)
    subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, check=True)
    logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    with torch.no_grad():
        expected = MNISTClassifier.from_pretrained()(images)
    assert same(logits, expected)
    assert metadata(file)["test_accuracy"] == int((logits.argmax(dim=1) == labels).sum()) / 10_000
    for batch_size in 0, 1, 7:
        few = run_file(file, images[:batch_size])
        assert (few.shape, few.dtype) == ((batch_size, 10), torch.float32)
        assert same(torch.cat([few, expected[batch_size:]]), expected)


NETWORKS = [*zip(get_args(Activation), [(), (32,), (16, 8, 4), (1,), (64, 64), (20, 30), (40,)], strict=True)]


@pytest.mark.parametrize(("activation", "hidden_sizes"), [*NETWORKS[:2], *(slow(*network) for network in NETWORKS[2:])])
def test_an_export_of_any_network_gives_the_same_logits(
    data_dir: Path, test_images: Images, tmp_path: Path, activation: Activation, hidden_sizes: list[int]
) -> None:
    model, path = MNISTClassifier(hidden_sizes, activation), tmp_path / "digits.onnx"
    for weights in model.network.layers[-1].parameters():
        weights.data *= 1000  # large logits have large rounding errors
    if activation == "relu":
        model.bfloat16()  # as after training with precision bf16-true
    export(model, MNISTDataModule(data_dir), path)
    with torch.no_grad():
        assert same(run_file(path, test_images[0]), model.float()(test_images[0]))
    recipe = metadata(path)["recipe"]
    assert (recipe["activation"], recipe["hidden_sizes"]) == (activation, list(hidden_sizes))


def test_a_file_describes_its_network_and_no_paths_of_the_machine_that_wrote_it(file: Path) -> None:
    file_session, described = session(file), metadata(file)
    assert described["recipe"]["activation"] == "silu"
    assert described.keys() == {"description", "test_accuracy", "recipe", "mnist_lit", "torch"}
    assert file_session.get_modelmeta().description == described["description"]
    for words in "pixels from 0 to 1", "white ink on black", "20x20", "centre of mass", "logits":
        assert words in described["description"]
    for folder in Path(__file__).parents[2], sys.prefix, file.parent:
        assert str(folder).encode() not in file.read_bytes()
    (taken,), (given,) = file_session.get_inputs(), file_session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(float)", ["batch", 1, 28, 28])
    assert (given.name, given.type, given.shape) == ("logits", "tensor(float)", ["batch", 10])
    onnx = import_module("onnx")
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file)
    assert (model.ir_version, [each.version for each in model.opset_import]) == (8, [18])  # which older readers support
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"  # nothing is written into the home folder


class MonteCarloDropout(nn.Module):
    """Dropout also at test time (Gal and Ghahramani 2016): each call returns other logits."""

    def forward(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, training=True)


@pytest.mark.parametrize("fault", ["dropout", "not a number"])
def test_a_file_that_gives_other_logits_than_the_network_is_not_kept(
    data_dir: Path, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "digits.onnx"
    path.write_text("an older one")
    model = MNISTClassifier()
    if fault == "dropout":
        model.network.layers.insert(1, MonteCarloDropout())
    else:
        nn.init.constant_(model.network.layers[-1].get_parameter("bias"), torch.nan)  # as after a run that diverged
    with pytest.raises(ValueError, match=r"was not written: its logits differ by .* from the checkpoint's"):
        export(model, MNISTDataModule(data_dir), path)
    assert all(module.training for module in model.modules())  # the model itself can train on
    assert all(weights.requires_grad for weights in model.parameters())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "an older one"}


def test_the_command_replaces_an_older_file_whole_or_not_at_all(cli: CLI, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    path.write_text("an older one")
    with largest_file(100_000):
        assert_one_sentence(run_cli(cli), "digits.onnx: File too large", "--output")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "an older one"}
    said = r"Wrote digits.onnx: (\d+) KB, test accuracy 99.48 %, logits within (\S+) of the checkpoint's\n"
    ((size, difference),) = re.findall(said, run_cli(cli).out)
    assert int(size) == pytest.approx(file.stat().st_size / 1000, abs=0.5)
    assert float(difference) <= 1e-4
    assert list(tmp_path.iterdir()) == [path]  # it contains the weights
    assert path.read_bytes() == file.read_bytes()


def test_an_error_says_how_to_install_extra_packages(cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in "onnxruntime", "onnxscript", "onnx":  # one, two and then all three are missing
        monkeypatch.setitem(sys.modules, package, None)
        assert_one_sentence(run_cli(cli), f"needs the package {package}: pip install -e '.[export]'")
    assert list(tmp_path.iterdir()) == []
