"""``python -m mnist_lit``: each command is begun here, and each error becomes one sentence and an exit status."""

import argparse
import gc
import os
import signal
import sys
import threading
from io import TextIOWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from mnist_lit.errors import RunInterruptedError, UserError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

_WITH_TRAINER = {
    "fit": "Train the network; continue a training with --ckpt_path.",
    "validate": "Measure a trained network on the validation images.",
    "test": "Measure a trained network on the 10,000 test images.",
    "predict": "Predict the digits in the test images.",
}
_READ = "Read the digits and numbers in your own pictures."
_TOOLS = {  # each a function of its own name in tools/
    "report": "Write a report on a trained network: one HTML file with its figures, curves and pictures.",
    "demo": "Open a page to draw digits on, and see what a trained network makes of them.",
    "export": "Write a trained network as ONNX or pt2, for use without this package.",
}
COMMANDS = _WITH_TRAINER | {"read": _READ} | _TOOLS
"""What each command does, in one sentence."""


def main(
    model_class: "type[LightningModule] | None" = None, datamodule_class: "type[LightningDataModule] | None" = None
) -> None:
    """Run the command that ``sys.argv`` names.

    With classes of one's own, a file ``my.py`` that ends with ``main(MyClassifier, MNISTDataModule)`` has the commands
    ``python my.py fit``, ``validate``, ``test`` and ``predict``, with the options of both classes.

    Args:
        model_class: By default MNISTClassifier; the commands that only this class has are then there, too.
        datamodule_class: By default MNISTDataModule.

    Raises:
        SystemExit: With status 1 and one sentence on an error that the user can correct, 2 on one in the arguments, and
            128 plus its number after a signal, as in the shell.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    is_own = model_class is not None or datamodule_class is not None
    commands, prog = COMMANDS, "python -m mnist_lit"
    if is_own:
        commands, prog = _WITH_TRAINER, f"python {os.path.relpath(sys.argv[0])}"
    if command in ("-h", "--help"):
        _print_help(prog, commands)
    elif command not in commands and not command.startswith("-"):
        problem = f"there is no subcommand {command!r}" if command else "a subcommand is missing"
        _fail(f"{problem}: choose from {', '.join(commands)}; --help says what they do", 2)
    elif command == "predict" and any(argument.partition("=")[0] == "--images" for argument in sys.argv[2:]):
        _fail("predict is for the test images: read your own pictures with python -m mnist_lit read PICTURES", 2)
    else:
        try:
            if command == "read":
                _run_read()
            else:
                _run(command, prog, model_class, datamodule_class)
        except KeyboardInterrupt as stop:
            sys.exit(128 + getattr(stop, "signum", signal.SIGINT))
        except BrokenPipeError:  # the reader of the output, `head` for example, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except UnicodeEncodeError as error:
            if error.reason != "surrogates not allowed":
                raise
            _fail(f"the name {error.object!a} is not UTF-8, and cannot be written to: choose another folder or file")
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            hint = "data go to --data.data_dir, runs to --trainer.default_root_dir, results to --output"
            if command == "read":
                hint = "results go to --output and --show"
            _fail(f"{where}{error.strerror or error} ({hint})")


def _print_help(prog: str, commands_: dict[str, str]) -> None:
    parser = argparse.ArgumentParser(prog, description="Train, test and use a small network on MNIST.")
    commands = parser.add_subparsers(metavar="command", title="commands, each with a --help of its own")
    for name, description in commands_.items():
        commands.add_parser(name, help=description)
    parser.print_help()


def _run_read() -> None:
    from mnist_lit.pictures.read import read  # without Lightning, whose import takes longer than reading a picture

    _set_up()
    try:
        read(sys.argv[2:], _READ)
    except (argparse.ArgumentError, UserError) as error:
        _fail(str(error), 1 if isinstance(error, UserError) else 2)


def _set_up(one_thread: bool = True) -> None:
    import torch

    for stream in sys.stdout, sys.stderr:  # a name may have characters that the terminal has not
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    if one_thread and "OMP_NUM_THREADS" not in os.environ:  # a step, or a picture, is too small to share
        torch.set_num_threads(1)


def _run(command: str, prog: str, model_class: Any, datamodule_class: Any) -> None:
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mnist_lit import cli
    from mnist_lit.config import continue_command
    from mnist_lit.quiet import quiet
    from mnist_lit.run.folder import is_first_process
    from mnist_lit.tools.command import run_tool

    _set_up(one_thread=model_class is None)
    threading.excepthook = _report_thread_error
    try:
        with quiet():  # before the options are read, which seeds
            if command in _TOOLS:
                run_tool(command, _TOOLS[command])
            else:
                cli.run_lightning(model_class, datamodule_class, prog, _WITH_TRAINER)
    except RunInterruptedError as stop:
        if not is_first_process():
            sys.exit(0)  # the first process, when it started this one, would be killed for another status
        print(stop, file=sys.stderr)
        if stop.saved:
            print(f"Continue: {continue_command(stop.saved, prog)}", file=sys.stderr)
        raise
    except argparse.ArgumentError as error:  # jsonargparse's, too
        _fail(str(error), 2)
    except (ImportError, MisconfigurationException, RuntimeError, ValueError) as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, UserError | MisconfigurationException):
            if _is_raised_by_lightning(cause.__traceback__):
                break
            cause = cause.__cause__ or cause.__context__  # jsonargparse wraps what a constructor raises
        if not cause:
            raise  # a defect: it keeps its traceback
        if not is_first_process():  # the first one says the same
            sys.exit(1)
        _fail(str(cause))
    finally:
        # Lightning does so only for NCCL; gloo's threads, if still there when the process ends, may abort it.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _fail(message: str, status: int = 1) -> NoReturn:
    print("error:", " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(status)


def _is_raised_by_lightning(traceback: TracebackType | None) -> bool:
    # What Lightning raises of its own accord is about an option; what it calls may have a defect.
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals["__name__"].startswith("lightning.")


def _report_thread_error(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's writer cannot write; the next call of it raises the same in the main thread, which says so.
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


if __name__ == "__main__":
    # The imports make 700,000 objects that stay until the end. Looking for garbage among them, again and again, would
    # take a third of the time that a short command takes.
    gc.disable()
    main()
