"""``python -m mnist_lit``: each command is begun here, and each error becomes one sentence and an exit status."""

import gc
import os
import shlex
import signal
import sys
from argparse import ArgumentError
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from mnist_lit import __version__
from mnist_lit.errors import RunInterruptedError, UserError
from mnist_lit.parsing import parse, parser_options

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

COMMANDS = {
    "fit": "Train the network; resume a run with --ckpt_path.",
    "validate": "Measure a trained network on the validation images.",
    "test": "Measure a trained network on the test images.",
    "predict": "Predict the class of each test image.",
    "read": "Read the digits and numbers in your own pictures.",
    "report": "Write a report on a trained network: one HTML file with its figures, curves and pictures.",
    "demo": "Serve a page to draw digits on, and see what a trained network makes of them.",
    "export": "Write a trained network as ONNX, for use without this package.",
}
"""What each command does, in one sentence."""


def main(
    model_class: "type[LightningModule] | None" = None, datamodule_class: "type[LightningDataModule] | None" = None
) -> None:
    """Run the command that ``sys.argv`` names.

    With classes of one's own, a file ``my.py`` that ends with ``main(MyClassifier, MNISTDataModule)`` has the commands
    ``python my.py fit``, ``validate``, ``test`` and ``predict``, with the options of both classes.

    Args:
        model_class: By default MNISTClassifier; ``read``, ``report``, ``demo`` and ``export`` need both defaults.
        datamodule_class: By default MNISTDataModule.

    Raises:
        SystemExit: With status 1 and one sentence on an error that the user can correct, 2 on one in the arguments, and
            128 plus its number after a signal, as in the shell.
    """
    commands, prog, what = COMMANDS, "python -m mnist_lit", "a small network on MNIST"
    if model_class or datamodule_class:
        commands = {name: COMMANDS[name] for name in ("fit", "validate", "test", "predict")}
        prog, what = f"python {shlex.quote(os.path.relpath(sys.argv[0]))}", "a network"
    if isinstance(sys.stdout, TextIOWrapper):  # a name may have characters that the terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python does for the errors
    try:
        about = f"Train, test and use {what}."
        parser = ArgumentParser(prog=prog, description=about, version=__version__, exit_on_error=False)
        subcommands = parser.add_subcommands(dest="command", title="commands")
        for name, sentence in commands.items():
            subcommands.add_subcommand(name, ArgumentParser(), help=sentence)
        command = parser.parse_args(sys.argv[1:2] or ["--help"]).command
        options = parser_options(prog, command, commands[command])
        if command == "read":
            _read(options)
        else:
            _run(command, prog, options, model_class, datamodule_class)
    except KeyboardInterrupt as stop:
        sys.exit(128 + getattr(stop, "signum", signal.SIGINT))
    except BrokenPipeError:  # the reader of the output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ArgumentError, OSError, UserError) as error:
        message = str(error)
        if isinstance(error, OSError):
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            places = "--output, --show, --data.data_dir or --trainer.default_root_dir"
            message = f"{where}{error.strerror or error} (see {places}, which say where files go)"
        print("error:", " ".join(message.split()), file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, ArgumentError) else 1)


def _read(options: dict[str, Any]) -> None:
    from mnist_lit.pictures.read import read  # without Lightning, whose import takes longer than reading a picture

    parser = ArgumentParser(**options | {"usage": f"{options['prog']} [options] pictures ..."})
    parser.add_argument("pictures", type=Path, nargs="+", help="Files and folders.")
    parser.add_function_arguments(read, as_group=False, skip={"pictures"})
    read(**vars(parse(parser)))


def _run(command: str, prog: str, options: dict[str, Any], model_class: Any, datamodule_class: Any) -> None:
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # an import that is interrupted may fail with any error
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mnist_lit.cli import fit
    from mnist_lit.commands import evaluate, run_function
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.module import MNISTClassifier
    from mnist_lit.quiet import quiet
    from mnist_lit.run.folder import is_first_process

    signal.signal(signal.SIGINT, on_interrupt)
    classes = model_class or MNISTClassifier, datamodule_class or MNISTDataModule
    try:
        with quiet():
            if command == "fit":
                fit(*classes, options, prog)
            elif command in ("validate", "test"):
                run_function(command, evaluate, *classes, options)
            else:  # a function of its own name; its imports take time, and most of their packages come with an extra
                function = getattr(import_module(f"mnist_lit.tools.{command}"), command)
                run_function(command, function, *classes, options)
    except RunInterruptedError as stop:
        if not is_first_process():
            sys.exit(0)  # the first process, when it started this one, would be killed for another status
        print(stop, file=sys.stderr)
        if stop.saved:
            folder = Path(os.path.relpath(Path(stop.saved).parent.parent))
            config = folder / "config.yaml"
            again = ["--config", str(config)] if config.is_file() else sys.argv[2:]
            print(f"Continue: {prog} fit {shlex.join([*again, '--ckpt_path', str(folder)])}", file=sys.stderr)
        raise
    except (ImportError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        cause: BaseException | None = error
        while cause and not _is_for_user(cause):
            cause = cause.__cause__ or cause.__context__  # jsonargparse wraps what a constructor raises
        if not cause:
            raise  # a defect: it keeps its traceback
        if not is_first_process():  # the first one says the same
            sys.exit(1)
        raise UserError(str(cause)) from error
    finally:
        # Lightning does so only for NCCL; gloo's threads, if still there when the process ends, may abort it.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _is_for_user(error: BaseException) -> bool:
    # What Lightning raises of its own accord is about an option; what it calls may have a defect.
    *_, module = "", *(frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__))
    return isinstance(error, UserError) or module.startswith("lightning.")


if __name__ == "__main__":
    # The imports make 700,000 objects that stay until the end. Python's threshold of 700 would have it look for garbage
    # among them again and again, which takes a fifth of the time that a short command takes.
    gc.set_threshold(100_000)
    main()
