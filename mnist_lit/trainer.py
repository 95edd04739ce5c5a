"""The Trainer, with the commands that use a trained network."""

from pathlib import Path
from typing import Literal

from lightning.pytorch import Trainer

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTClassifier

# What a command alone needs is imported by it: most of it comes with an extra, and takes its time.


class MNISTTrainer(Trainer):
    """Lightning's Trainer with the methods that ``LightningCLI`` makes subcommands of.

    They run on the CPU, whatever the devices of the trainer. ``ckpt_path`` is for the command line, which gives a model
    that has the checkpoint's weights.
    """

    def report(
        self,
        model: MNISTClassifier,
        datamodule: MNISTDataModule,
        ckpt_path: str | None = None,
        output: Path = Path("report.html"),
    ) -> None:
        """Test the network and write one HTML file with its figures, curves and pictures, to send to others.

        Args:
            model: The network.
            datamodule: The test images.
            ckpt_path: The checkpoint of the network: a file, ``best`` or ``last`` of the newest run, or ``pretrained``;
                by default ``best``.
            output: The file to write.
        """
        from mnist_lit.report import write_report

        write_report(model, datamodule, output, Path(ckpt_path) if ckpt_path else None)

    def demo(
        self,
        model: MNISTClassifier,
        datamodule: MNISTDataModule,
        ckpt_path: str | None = None,
        port: int = 7860,
    ) -> None:
        """Open a page to draw digits on, and see what the network makes of them.

        Args:
            model: The network.
            datamodule: Not used.
            ckpt_path: The checkpoint of the network: a file, ``best`` or ``last`` of the newest run, or ``pretrained``;
                by default ``best``.
            port: Port of the page, which is served on 127.0.0.1 alone.
        """
        from mnist_lit.demo import serve

        serve(model, port)

    def export(
        self,
        model: MNISTClassifier,
        datamodule: MNISTDataModule,
        format: Literal["onnx", "pt2"],
        output: Path,
        ckpt_path: str | None = None,
    ) -> None:
        """Write the network for use without this package: pixels in [0, 1] in, logits out.

        Args:
            model: The network.
            datamodule: The test images, on which what was written is compared with the network.
            format: ``onnx``, for ONNX Runtime and many others, or ``pt2``, for PyTorch (torch.export).
            output: The file to write.
            ckpt_path: The checkpoint of the network: a file, ``best`` or ``last`` of the newest run, or ``pretrained``;
                by default ``best``.
        """
        from mnist_lit.export import export

        export(model, datamodule, format, output)
