"""Export of the network to ONNX, which is used without this package."""

import json
import logging
import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.module import MNISTClassifier
from mnist_lit.tools.evaluation import evaluate

_OPSET, _IR_VERSION = 18, 8  # of ONNX 1.13 (2022), the oldest that torch writes; onnxruntime 1.14 and later read them

_DESCRIPTION = (
    "Which digit is in an image. Input images: float32 (N, 1, 28, 28), pixels from 0 to 1 (not 255), white ink on "
    "black; as in MNIST, the ink fits a box of 20x20 pixels, with its centre of mass in the middle of the image. "
    "Output logits: float32 (N, 10), of the digits 0 to 9; their softmax is the probabilities."
)


def export(model: MNISTClassifier, datamodule: MNISTDataModule, output: Path = Path("digits.onnx")) -> None:
    """Write the network of ``model`` as ONNX, for use without this package, and print a summary.

    The network in the file takes ``images``, float32 ``(N, 1, 28, 28)`` with pixels in [0, 1], for any N, and returns
    ``logits``, float32 ``(N, 10)``. The file describes this in its ``doc_string``, and holds recipe and accuracy in its
    ``metadata_props``.

    Args:
        output: File to write; an older file is replaced.

    Raises:
        UserError: If a package of the extra ``export`` is missing, or the written file gives other logits than the
            network; an older file at ``output`` is kept.
    """
    try:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime 1.32 would write into the home folder
        *_, onnxruntime = (import_module(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    except ImportError as error:
        raise UserError(f"the export needs the package {error.name}: pip install -e '.[export]'") from error
    evaluation = evaluate(model.network, datamodule)
    metadata = {
        "description": _DESCRIPTION,
        "test_accuracy": evaluation.accuracy,
        "recipe": dict(model.hparams),
        "mnist_lit": version("mnist_lit"),
        "torch": torch.__version__,
    }
    content = _serialize(evaluation.network, metadata)
    with replacing(output) as unfinished:
        unfinished.write_bytes(content)
        session = onnxruntime.InferenceSession(unfinished, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"images": evaluation.images.numpy()})
        difference = float((torch.from_numpy(logits) - evaluation.logits).abs().max())
        # Relative: the pretrained network's logits reach 29, where rounding errors are 1e-5. `not <=` refuses NaN, too.
        if not difference <= 1e-5 * max(1.0, float(evaluation.logits.abs().max())):
            raise UserError(f"{output} was not written: its logits differ by {difference:.1g} from the checkpoint's")
    print(
        f"Wrote {output}: {len(content) / 1000:,.0f} KB, test accuracy {100 * evaluation.accuracy:.2f} %, "
        f"logits within {difference:.1g} of the checkpoint's"
    )


def _serialize(network: torch.nn.Module, metadata: dict[str, Any]) -> bytes:
    example = (torch.zeros(2, 1, 28, 28),)
    program = torch.export.export(network, example, dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    # torch 2.9 warns that some of torchvision's operators have no annotations; the network does not use them.
    logging.getLogger("torch.onnx._internal.exporter._schemas").setLevel(logging.ERROR)
    onnx_program = torch.onnx.export(
        program,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),  # names the program's dynamic dimension
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert onnx_program is not None  # as it would be without dynamo
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        onnx_program.model.metadata_props[name] = text
    onnx_program.model.ir_version = _IR_VERSION
    onnx_program.model.doc_string = _DESCRIPTION
    content: bytes = onnx_program.model_proto.SerializeToString()
    return content
