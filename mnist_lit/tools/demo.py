"""A page that reads drawn digits and pictures, and shows what the network sees."""

import gzip
import html
import io
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.errors import UserError, check_range
from mnist_lit.module import MNISTClassifier
from mnist_lit.pictures import numbers, read_digits, read_picture
from mnist_lit.tools.figures import beside_upright


def demo(model: MNISTClassifier, port: int = 7860) -> None:
    """Serve the page on 127.0.0.1 only, without requests to other hosts, until Ctrl-C.

    Args:
        port: Port of the page, from 1 to 65535.

    Raises:
        UserError: If Gradio is not installed, or the port cannot be used.
    """
    check_range("port", port, at_least=1, at_most=65535)
    page = _build_page(model)
    # Gradio checks that the page responds, which must not go through a proxy.
    os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
    local = {"server_name": "127.0.0.1", "server_port": port, "share": False, "run_history": False, "footer_links": []}
    try:
        page.launch(**local, quiet=True, prevent_thread_lock=True, css=CSS)
    except OSError as error:  # Gradio's message names its options, not ours
        raise UserError(f"port {port} is in use or needs more rights: choose another with --port") from error
    print(f"Draw a digit at {page.local_url} (Ctrl-C ends this)", flush=True)
    page.block_thread()


def _build_page(model: MNISTClassifier) -> Any:
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise UserError("the demo needs Gradio, which is not installed: pip install -e '.[demo]'") from error

    def read(open_picture: Callable[[Any], Image.Image], source: Any) -> Iterator[tuple[str | None, Any]]:
        # The answer, and the other input: a drawing clears the picture, and the other way round.
        yield "Reading …" if source else None, None
        if source:
            try:
                yield _show_digits(model, open_picture(source)), gr.skip()
            except (OSError, UserError) as error:
                yield f"Nothing was read: {html.escape(str(error))}", gr.skip()

    with gr.Blocks(title="mnist_lit", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown("# Which digit is it?\nDraw a digit or a number in the square, and see what the network reads.")
        with gr.Row(elem_id="columns"):
            pad = gr.HTML(html_template=PAD, js_on_load=PAD_JS, elem_id="pad")
            answer = gr.HTML(html_template=ANSWER, elem_id="answer")
        gr.Markdown("Or a picture: drop, paste or photograph it")
        picture = gr.Image(
            show_label=False,  # it would cover the top of a small picture
            placeholder="Drop an image file here to upload",  # what screen readers call the button
            height=200,
            webcam_options=gr.WebcamOptions(mirror=False),  # mirrored digits would be misread
        )
        pictures = _draw_examples()
        examples = gr.Examples([*pictures.values()], picture, label="Or MNIST test images", example_labels=[*pictures])
        options: Any = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "read"}
        options["preprocess"] = False  # Gradio would open a file itself, and give no reason if it cannot
        pad.input(partial(read, _open_drawing), pad, [answer, picture], **options)
        for event in picture.input, examples.load_input_event.then:
            event(partial(read, lambda file: read_picture(file["path"])), picture, [answer, pad], **options)
    return page


def _open_drawing(url: str) -> Image.Image:
    drawing = Image.open(io.BytesIO(b64decode(url.partition(",")[2])), formats=["PNG"])
    return ImageOps.expand(drawing.convert("L"), 42, 255)  # paper around it: a digit may fill the whole square


def _show_digits(model: MNISTClassifier, picture: Image.Image) -> str:
    answers = read_digits(picture, model)
    images = beside_upright(model.network, torch.stack([answer.detection.image for answer in answers]))
    then = ", then straightened by its moments: sheared and scaled" if images.shape[3] > 28 else ""
    shown = f"<strong>{' '.join(numbers(answers))}</strong><p>What the network sees: each digit as found{then}.</p>"
    for answer, image in zip(answers, images, strict=True):
        to_pil_image(image).save(png := io.BytesIO(), "PNG")
        shown += f"<figure><img alt='' src='data:image/png;base64,{b64encode(png.getvalue()).decode()}'>"
        shown += f"<figcaption>{answer.digit}: {answer.refused or answer.percent}</figcaption></figure>"
    return shown


def _draw_examples() -> dict[str, Image.Image]:
    packed = files("mnist_lit.mnist").joinpath("t10k-images-idx3-ubyte.gz").read_bytes()
    digits = 255 - torch.frombuffer(bytearray(gzip.decompress(packed)), dtype=torch.uint8, offset=16).view(-1, 28, 28)
    pictures = {"A number": torch.hstack(digits[:5].unbind()), "A slanted 2": digits[1722]}
    pictures |= {"A light 7 on dark": 255 - digits[0], "A turned 2": digits[1].rot90()}
    return {name: to_pil_image(pixels).resize((8 * pixels.shape[1], 224)) for name, pixels in pictures.items()}


# Gradio's Sketchpad takes no ink until its brush is chosen, and none in the wide margin around its own square.
PAD = """
<canvas width="560" height="560" role="img" aria-label="Square to draw in, with a mouse, a finger or a pen"></canvas>
<button type="button">Clear</button>
"""
ANSWER = "<div role='status'>${value || 'The digits that the network reads will be shown here.'}</div>"

PAD_JS = """
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d")
const clear = () => pen.fillRect(0, 0, canvas.width, canvas.height)
const send = url => { props.value = url; trigger("input") }
const draw = event => {
    const scale = canvas.width / canvas.clientWidth
    pen.lineTo(scale * event.offsetX, scale * event.offsetY)
    pen.stroke()
}
canvas.onpointerdown = event => {
    if (!event.isPrimary || event.button) return
    canvas.setPointerCapture(event.pointerId)
    pen.beginPath()
    draw(event)
    draw({ offsetX: event.offsetX + 0.1, offsetY: event.offsetY })  // so that a click makes a dot
}
canvas.onpointermove = event => canvas.hasPointerCapture(event.pointerId) && draw(event)
canvas.onlostpointercapture = () => send(canvas.toDataURL())
element.querySelector("button").onclick = () => { clear(); send(null) }
watch("value", () => props.value || clear())  // a picture has been given
pen.fillStyle = "white"
pen.lineWidth = 42  // a digit that fills the canvas has strokes about as wide as MNIST's
pen.lineCap = pen.lineJoin = "round"
clear()
"""

CSS = """
.fillable { max-width: 1000px !important; margin: auto }
.html-container { padding: 0 !important }
#columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)) }
#pad canvas { width: 100%; touch-action: none; cursor: crosshair; outline: 1px solid grey }
#answer strong { font-size: 3em }
#answer figure { display: inline-block; width: 48%; margin: 0 2% 1em 0 }
#answer img { width: 100%; margin: 0; image-rendering: pixelated }
"""
