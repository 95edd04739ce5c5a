"""A page on which users draw digits and see how the network reads them."""

import os
import time
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier
from mnist_lit.pictures import NoDigitError, draw_answers, numbers, read_digits
from mnist_lit.pictures.picture import to_rgb
from mnist_lit.tools.figures import signed_colours

if TYPE_CHECKING:
    import gradio as gr

_CANVAS = 280, 280  # pixels
_PEN = 12  # radius in pixels: a digit that fills the canvas has strokes about as wide as MNIST's
_PICTURE = 224, 224  # pixels: 8 times the network's 28

_TITLE = "### Evidence for {}\nRed pixels support it, blue pixels oppose it: pixel times gradient of its logit."

# At the start and after the canvas is cleared, Gradio's pad waits for a click on its brush.
_JS = """() => new MutationObserver(() => {
    if (document.querySelector("#pad .empty")) document.querySelector("#pad [aria-label=Brush]")?.click()
}).observe(document.body, {childList: true, subtree: true})"""

_CSS = """
img { image-rendering: pixelated }
/* There is only one pen, and the whole canvas is in view: hide the tools for both. */
#pad :is(.toolbar-wrap, .zoom-number, .separator, [title^=Zoom], [title=Pan]) { display: none }
"""


def input_x_gradient(model: MNISTClassifier, image: Tensor) -> Tensor:
    """Return how much each pixel supports the network's guess: the pixel times the gradient of the guess's logit.

    This is gradient * input (Shrikumar, Greenside, Shcherbina and Kundaje, "Not just a black box: learning important
    features through propagating activation differences", 2016). For a network without activations (``identity``) it is
    exactly weight * pixel of the single linear map that the layers form: with the bias, the contributions add up to the
    logit.

    Args:
        model: The network.
        image: Float ``(1, 28, 28)`` with pixels in [0, 1].

    Returns:
        Float ``(1, 28, 28)``: positive where a pixel supports the guess, negative where it opposes the guess.

    Example:
        >>> model = MNISTClassifier(activation="identity")
        >>> input_x_gradient(model, torch.zeros(1, 28, 28)).abs().max()
        tensor(0.)
    """
    pixels = image.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(pixels[None]).max(), pixels)
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

    no_guess = None, None, _TITLE.format("the guess"), None

    def guess(
        drawing: "dict[str, Image.Image | None]",
    ) -> tuple[dict[str, float] | str | None, Image.Image | None, str, Image.Image | None]:
        picture = to_rgb(drawing["composite"] or Image.new("L", _CANVAS, "white"))
        try:
            answers = read_digits(picture, model)
        except NoDigitError:
            return no_guess
        if len(answers) > 1:
            return " ".join(numbers(answers)), draw_answers(picture, answers), no_guess[2], None
        (answer,) = answers
        colours = signed_colours(input_x_gradient(model, answer.detection.image)[0])
        digit = f"{int(answer.probabilities.argmax())}{', which may not be a digit' if answer.refused else ''}"
        return (
            {str(label): probability for label, probability in enumerate(answer.probabilities.tolist())},
            to_pil_image(answer.detection.image).resize(_PICTURE, Image.Resampling.NEAREST),
            _TITLE.format(digit),
            to_pil_image(colours).resize(_PICTURE, Image.Resampling.NEAREST),
        )

    page = gr.Blocks(title="mnist_lit", analytics_enabled=False, delete_cache=(3600, 3600))
    with page:
        gr.Markdown(
            "# Which digit is it?\nDraw one, or a number, and see what the network reads. The bin clears the canvas."
        )
        with gr.Row():
            pad = gr.Sketchpad(
                label="Draw here",
                type="pil",
                image_mode="L",
                height=400,
                min_width=400,
                scale=0,  # a fixed width: else Gradio fits the canvas to a width from before the layout ends
                canvas_size=_CANVAS,
                fixed_canvas=True,
                brush=gr.Brush(_PEN, colors=["#000000"]),
                layers=False,
                buttons=[],
                elem_id="pad",
            )
            probabilities = gr.Label(label="Probabilities", min_width=200)
            with gr.Column(min_width=280):
                gr.Markdown("### What the network sees\nYour drawing in 28x28 pixels, scaled and centred like MNIST's.")
                seen = gr.Image(format="png", show_label=False, buttons=[], elem_id="seen")
                title = gr.Markdown(no_guess[2])
                contributions = gr.Image(format="png", show_label=False, buttons=[], elem_id="contributions")
        outputs = [probabilities, seen, title, contributions]
        pad.change(guess, pad, outputs, show_progress="hidden", api_visibility="private")
    return page


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
            css=_CSS,
            js=_JS,
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
