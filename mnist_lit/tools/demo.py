"""A page that reads drawn digits and pictures, and shows what the network sees."""

import html
import io
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier
from mnist_lit.pictures import Answer, numbers, read_digits, read_picture
from mnist_lit.pictures.picture import full_size, to_rgb
from mnist_lit.tools.pad import CSS, PAD, PAD_JS

if TYPE_CHECKING:
    import gradio as gr


def input_x_gradient(model: MNISTClassifier, image: Tensor) -> Tensor:
    """Return how much each pixel supports the network's guess: the pixel times the gradient of the guess's logit.

    This is gradient * input (Shrikumar, Greenside, Shcherbina and Kundaje, "Not just a black box: learning important
    features through propagating activation differences", 2016). For a network without activations (``identity``) it is
    exactly weight * pixel of the single linear map that the layers form: with the bias, the contributions add up to the
    logit.

    Args:
        model: The network.
        image: Float ``(1, 28, 28)`` with pixels in [0, 1], as the first layer sees it: upright.

    Returns:
        Float ``(1, 28, 28)``: positive where a pixel supports the guess, negative where it opposes the guess.

    Example:
        >>> model = MNISTClassifier(activation="identity")
        >>> input_x_gradient(model, torch.zeros(1, 28, 28)).abs().max()
        tensor(0.)
    """
    pixels = image.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.network.layers(pixels[None]).max(), pixels)
    return image * gradient


def build_demo(model: MNISTClassifier) -> "gr.Blocks":
    """Return the page, whose guesses ``model`` makes on the CPU.

    Raises:
        UserError: If Gradio is not installed.
    """
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise UserError("the demo needs Gradio, which is not installed: pip install -e '.[demo]'") from error

    def show(source: str | None, open_picture: Callable[[str], Image.Image]) -> tuple[str, str]:
        if not source:
            return "", ""
        try:
            picture = open_picture(source)
            answers = read_digits(picture, model)
        except (OSError, UserError) as error:
            return html.escape(str(error)), ""
        digits = [_show_digit(model, answer, is_open=len(answers) == 1) for answer in answers]
        if len(answers) > 1 or open_picture is read_picture:
            digits.append(_show_boxes(picture, answers))
        return _show_number(answers), "".join(digits)

    def open_drawing(url: str) -> Image.Image:
        return to_rgb(Image.open(io.BytesIO(b64decode(url.partition(",")[2])), formats=["PNG"]))

    page = gr.Blocks(title="mnist_lit", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True)
    with page:
        gr.Markdown("# Which digit is it?\nDraw one, or a number, and see what the network reads.")
        with gr.Row():
            pad = gr.HTML(html_template=PAD, js_on_load=PAD_JS, min_width=320, elem_id="pad")
            with gr.Column(min_width=320):
                answer = gr.HTML("", html_template="<div role='status'>${value}</div>", elem_id="answer")
                digits = gr.HTML("", elem_id="digits")
        picture: Any = gr.Image(
            label="Or a picture: drop it here, paste it, or take it with the camera",
            height=240,
            buttons=[],
            alt_text="The picture that was given",
            webcam_options=gr.WebcamOptions(mirror=False),  # mirrored digits would be read wrongly
            elem_id="picture",
        )
        # The file as it is, for read_picture: Gradio would open it first, and show no reason if it cannot.
        picture.preprocess = lambda file: file and file.path
        results: dict[str, Any] = {"outputs": [answer, digits], "trigger_mode": "always_last"}
        results |= {"show_progress": "hidden", "api_visibility": "private"}
        pad.input(lambda url: show(url, open_drawing), pad, **results)
        picture.input(lambda path: show(path, read_picture), picture, **results)
    return page


def _guess(answer: Answer) -> str:
    return f"{int(answer.probabilities.argmax())}, {100 * float(answer.probabilities.max()):.2f} %"


def _show_number(answers: Sequence[Answer]) -> str:
    number = f"<strong>{' '.join(numbers(answers))}</strong>"
    if len(answers) > 1:
        return number
    (answer,) = answers
    probability = f"{100 * float(answer.probabilities.max()):.2f} %"
    return f"{number} {f'{answer.refused} <small>(guess: {_guess(answer)})</small>' if answer.refused else probability}"


def _show_digit(model: MNISTClassifier, answer: Answer, is_open: bool) -> str:
    image = model.network.upright(answer.detection.image[None])[0]
    guess = int(answer.probabilities.argmax())
    heading = f"?, {answer.refused} <small>(guess: {_guess(answer)})</small>" if answer.refused else _guess(answer)
    pictures = {
        "What the network sees: 28x28 pixels, upright and of normal width": image,
        f"Evidence for {guess}: red pixels support it, blue pixels oppose it (pixel times gradient of its logit)": (
            _signed_colours(input_x_gradient(model, image)[0])
        ),
    }
    figures = (
        f'<figure><img alt="{text.split(":")[0]}" src="{_url(to_pil_image(pixels))}">'
        f"<figcaption>{text}</figcaption></figure>"
        for text, pixels in pictures.items()
    )
    rows = (
        f'<tr><th scope="row">{digit}</th><td><meter aria-label="{digit}" value="{p:.6f}"></meter></td>'
        f"<td>{100 * p:.2f} %</td></tr>"
        for digit, p in enumerate(answer.probabilities.tolist())
    )
    return (
        f'<details name="digit"{" open" * is_open}><summary>{heading}</summary>{"".join(figures)}'
        f"<table>{''.join(rows)}</table></details>"
    )


def _show_boxes(picture: Image.Image, answers: Sequence[Answer]) -> str:
    width, height = full_size(picture)
    small = picture.copy()
    small.thumbnail((1000, 1000))
    boxes = ""
    for answer in answers:
        left, top, right, bottom = answer.detection.box
        boxes += f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
        size = max(width, height) / 20
        boxes += f'<text x="{left}" y="{max(top - size / 4, size)}" font-size="{size}">{answer.digit}</text>'
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The picture with a box around each digit">'
        f'<image width="{width}" height="{height}" href="{_url(small)}"/>{boxes}</svg>'
    )


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def launch(model: MNISTClassifier, port: int) -> "gr.Blocks":
    """Start serving the page on 127.0.0.1 only, without requests to other hosts, and return it.

    Raises:
        UserError: If Gradio is not installed, or the port cannot be used.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"port must be from 1 to 65535, got {port}")
    page = build_demo(model)
    # Gradio checks that the page responds, which must not go through a proxy.
    os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
    try:
        page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            run_history=False,
            css=CSS,
        )
    except OSError as error:  # Gradio's message names its options, not ours
        raise UserError(f"port {port} is in use or needs more rights: choose another with --port") from error
    return page


def demo(model: MNISTClassifier, port: int = 7860) -> None:
    """Serve the page until Ctrl-C.

    Args:
        model: The network that guesses, on the CPU.
        port: Port of the page, from 1 to 65535; it is served only on 127.0.0.1.

    Raises:
        UserError: If Gradio is not installed, or the port cannot be used.
        KeyboardInterrupt: At the end.
    """
    page = launch(model, port)
    print(f"Draw a digit at {page.local_url} (Ctrl-C ends this)", flush=True)
    try:
        while page.is_running:
            time.sleep(1)
    finally:
        page.close(verbose=False)


def _signed_colours(values: Tensor) -> Tensor:
    values = values / values.abs().max().clamp(min=1e-9)
    above, below = values.clamp(min=0), -values.clamp(max=0)
    return 1 - torch.stack((below, above + below, above))
