import json
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import CLI, Images, Result, assert_one_sentence, slow
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.network import Activation
from mnist_lit.tools.export import Format, export

FORMATS: list[Any] = ["onnx", "pt2"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def datamodule(data_dir: Path) -> MNISTDataModule:
    datamodule = MNISTDataModule(data_dir)
    datamodule.setup("test")
    return datamodule


def need(format: Format) -> None:
    if format == "onnx":
        for package in "onnx", "onnxscript", "onnxruntime":
            pytest.importorskip(package, reason=f"{package} comes with the extra 'export'")


def run_cli(cli: CLI, format: Format, output: str | None = None) -> Result:
    result = cli("export", "--ckpt_path=pretrained", f"--format={format}", f"--output={output or f'digits.{format}'}")
    return replace(result, err="".join(result.err.splitlines(keepends=True)[1:]))  # without the line on the checkpoint


def run_file(path: Path, images: Tensor) -> Tensor:
    logits: Tensor
    if path.suffix == ".pt2":
        logits = torch.export.load(path).module()(images)
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        logits = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    return logits.detach()


def metadata(path: Path) -> dict[str, Any]:
    if path.suffix == ".pt2":
        files = {"metadata.json": ""}
        torch.export.load(path, extra_files=files)
        return dict(json.loads(files["metadata.json"]))
    text = pytest.importorskip("onnxruntime").InferenceSession(path).get_modelmeta().custom_metadata_map
    return {key: json.loads(value) if key in ("recipe", "test_accuracy") else value for key, value in text.items()}


def same(logits: Tensor, others: Tensor) -> bool:
    """Return whether they are equal except for rounding, which grows with the largest logit."""
    return torch.allclose(logits, others, rtol=0, atol=1e-5 * max(1.0, float(others.abs().max())))


ELSEWHERE = {
    ".onnx": """
import sys
sys.modules |= dict.fromkeys(["mnist_lit", "lightning", "torch"])  # None: they cannot be imported
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("digits.onnx")
np.save("logits.npy", session.run(["logits"], {"images": np.load("images.npy")})[0])
""",
    ".pt2": """
import sys
sys.modules |= dict.fromkeys(["mnist_lit", "lightning", "torchvision", "onnx"])
import numpy as np
import torch
network = torch.export.load("digits.pt2").module()
np.save("logits.npy", network(torch.from_numpy(np.load("images.npy"))).detach().numpy())
""",
}


@pytest.fixture(scope="module", params=FORMATS)
def file(request: pytest.FixtureRequest, datamodule: MNISTDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the pretrained network."""
    need(request.param)
    path = tmp_path_factory.mktemp("export") / f"digits.{request.param}"
    export(MNISTClassifier.from_pretrained(), datamodule, request.param, path)
    return path


def test_a_program_without_this_package_gets_the_accuracy_and_the_logits_of_the_checkpoint(
    file: Path, test_images: Images, tmp_path: Path
) -> None:
    images, labels = test_images
    np.save(tmp_path / "images.npy", images.numpy())
    shutil.copy(file, tmp_path)
    subprocess.run([sys.executable, "-c", ELSEWHERE[file.suffix]], cwd=tmp_path, check=True)
    logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    with torch.no_grad():
        expected = MNISTClassifier.from_pretrained()(images)
    assert same(logits, expected)
    assert metadata(file)["test_accuracy"] == int((logits.argmax(dim=1) == labels).sum()) / 10_000
    for batch_size in 0, 1, 7:
        few = run_file(file, images[:batch_size])
        assert (few.shape, few.dtype) == ((batch_size, 10), torch.float32)
        assert same(torch.cat([few, expected[batch_size:]]), expected)


@pytest.mark.parametrize("file", ["onnx"], indirect=True)
def test_the_command_line_writes_the_same_file_and_prints_its_name(cli: CLI, file: Path, tmp_path: Path) -> None:
    result = run_cli(cli, "onnx")
    said = r"Wrote digits.onnx: (\d+) KB, test accuracy 99.48 %, logits within (\S+) of the checkpoint's\n"
    (size, difference), *_ = re.findall(said, result.out)
    assert int(size) == pytest.approx(file.stat().st_size / 1000, abs=0.5)
    assert float(difference) <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # it contains the weights
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


SIZES = [(), (32,), (16, 8, 4), (1,), (64, 64), (20, 30), (40,)]
QUICK = "identity", "relu"


@pytest.mark.parametrize(
    ("activation", "hidden_sizes"),
    [
        (activation, sizes) if activation in QUICK else slow(activation, sizes)
        for activation, sizes in zip(get_args(Activation), SIZES, strict=True)
    ],
)
def test_an_export_of_any_network_gives_the_same_logits(
    datamodule: MNISTDataModule,
    test_images: Images,
    tmp_path: Path,
    activation: Activation,
    hidden_sizes: tuple[int, ...],
) -> None:
    need("onnx")
    model, path = MNISTClassifier(hidden_sizes, activation), tmp_path / "digits.onnx"
    for weights in model.network.layers[-1].parameters():
        weights.data *= 1000  # large logits have large rounding errors
    export(model, datamodule, "onnx", path)
    with torch.no_grad():
        assert same(run_file(path, test_images[0]), model(test_images[0]))
    recipe = metadata(path)["recipe"]
    assert (recipe["activation"], recipe["hidden_sizes"]) == (activation, list(hidden_sizes))


def test_a_file_describes_its_network_and_no_paths_of_the_machine_that_wrote_it(file: Path) -> None:
    described = metadata(file)
    assert described["recipe"]["activation"] == "silu"
    assert described.keys() == {"description", "test_accuracy", "recipe", "mnist_lit", "torch"}
    for words in "pixels from 0 to 1", "white ink on black", "20x20", "centre of mass", "logits":
        assert words in described["description"]
    contents = [file.read_bytes()]
    if zipfile.is_zipfile(file):
        contents = [zipfile.ZipFile(file).read(name) for name in zipfile.ZipFile(file).namelist()]
    for folder in ROOT, sys.prefix, file.parent:
        assert not any(str(folder).encode() in content for content in contents)


@pytest.mark.parametrize("file", ["onnx"], indirect=True)
def test_an_onnx_files_input_and_output_have_names_and_shapes(file: Path) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(file)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(float)", ["batch", 1, 28, 28])
    assert (given.name, given.type, given.shape) == ("logits", "tensor(float)", ["batch", 10])
    assert session.get_modelmeta().description == metadata(file)["description"]
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file)
    assert (model.ir_version, [each.version for each in model.opset_import]) == (8, [18])  # which older readers support
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"  # nothing is written into the home folder


class MonteCarloDropout(nn.Module):
    """Dropout also at test time (Gal and Ghahramani 2016): each call returns other logits."""

    def forward(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, training=True)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_gives_other_logits_than_the_network_is_not_kept(
    datamodule: MNISTDataModule, tmp_path: Path, format: Format
) -> None:
    need(format)
    path = tmp_path / f"digits.{format}"
    path.write_text("an older one")
    model = MNISTClassifier()
    if format == "onnx":
        model.network.layers.insert(1, MonteCarloDropout())
    else:
        nn.init.constant_(model.network.layers[-1].get_parameter("bias"), torch.nan)  # as after a run that diverged
    with pytest.raises(ValueError, match=r"was not written: its logits differ by .* from the checkpoint's"):
        export(model, datamodule, format, path)
    assert all(module.training for module in model.modules())  # the model itself can train on
    assert all(weights.requires_grad for weights in model.parameters())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "an older one"}


def test_an_older_file_is_replaced_whole_or_not_at_all(
    cli: CLI, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "digits.pt2"
    path.write_text("an older one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # files cannot grow larger, as on a full disk
    assert_one_sentence(run_cli(cli, "pt2"), "digits.pt2: File too large", "--output")
    assert_one_sentence(run_cli(cli, "pt2", "digits.onnx"), "--output digits.onnx", "must end in .pt2")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "an older one"}
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert run_cli(cli, "pt2").status == 0
    assert path.stat().st_size > 400_000
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_extra_packages_only_pt2_is_exported(
    cli: CLI, datamodule: MNISTDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MNISTClassifier()
    for package in "onnxruntime", "onnxscript", "onnx":  # one, two and then all three are missing
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match="needs the package onnx"):
            export(model, datamodule, "onnx", tmp_path / "digits.onnx")
    assert_one_sentence(run_cli(cli, "onnx"), "needs the package onnx: pip install -e '.[export]'")
    assert list(tmp_path.iterdir()) == []
    export(model, datamodule, "pt2", tmp_path / "digits.pt2")
