import io
import json
import math
import os
import re
import signal
import socket
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from conftest import CLI, Images, assert_accessible
from PIL import Image
from torch import Tensor

from mnist_lit import MNISTClassifier
from mnist_lit.tools.demo import input_x_gradient, launch

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Stroke = list[tuple[float, float]]  # points in a canvas that reaches from 0 to 1, y downwards


def arc(x: float, y: float, radius_x: float, radius_y: float, start: float, end: float) -> Stroke:
    """Return a part of an ellipse, between two angles in degrees, 0 at the right, 90 at the bottom."""
    angles = [math.radians(start + (end - start) * step / 10) for step in range(11)]
    return [(x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles]


DIGITS: dict[int, list[Stroke]] = {
    0: [arc(0.5, 0.5, 0.2, 0.3, -90, 270)],
    1: [[(0.5, 0.2), (0.5, 0.8)]],
    2: [[*arc(0.5, 0.36, 0.19, 0.17, -170, 30), (0.3, 0.8), (0.72, 0.8)]],
    3: [arc(0.47, 0.34, 0.2, 0.15, -150, 90) + arc(0.47, 0.65, 0.22, 0.16, -90, 150)],
    4: [[(0.35, 0.2), (0.3, 0.55), (0.7, 0.55)], [(0.65, 0.2), (0.65, 0.85)]],
    5: [[(0.66, 0.2), (0.36, 0.2), (0.34, 0.48), *arc(0.48, 0.62, 0.2, 0.2, -120, 140)]],
    7: [[(0.28, 0.22), (0.7, 0.22), (0.45, 0.82)]],
    8: [arc(0.5, 0.35, 0.15, 0.15, 90, -270) + arc(0.5, 0.66, 0.18, 0.16, -90, 270)],
    9: [[*arc(0.5, 0.36, 0.17, 0.16, 0, -360), (0.66, 0.5), (0.6, 0.82)]],
}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


class Page:
    """The page in a browser, as a person sees it."""

    def __init__(self, driver: "Chrome", url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.wait("return document.querySelector('#pad canvas') && document.querySelector('#answer [role=status]')")

    def wait(self, script: str) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 60, 0.05).until(lambda driver: driver.execute_script(script), script)

    def draw(self, strokes: list[Stroke], pointer: str = "mouse") -> None:
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        canvas = self.driver.find_element("css selector", "#pad canvas")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        side = canvas.rect["width"] - 2  # half a pixel further, the pointer would be outside
        for stroke in strokes:
            device: Any = PointerInput(pointer, pointer)
            points = [{"x": round((x - 0.5) * side), "y": round((y - 0.5) * side)} for x, y in stroke]
            device.create_pointer_move(duration=10, origin=canvas, **points[0])
            device.create_pointer_down(button=0)
            for point in points[1:]:
                device.create_pointer_move(duration=10, origin=canvas, **point)
            device.create_pointer_up(button=0)
            ActionBuilder(self.driver, mouse=device, duration=10).perform()

    def press(self, button: str) -> None:
        self.driver.find_element("xpath", f"//button[starts-with(., '{button}')]").click()

    def clear(self) -> None:
        self.press("Draw again")
        self.wait_for_answer("")

    def give(self, picture: Path) -> None:
        """Choose a file as the picture."""
        if remove := self.driver.find_elements("css selector", "#picture [aria-label='Remove Image']"):
            remove[0].click()
            self.wait("return document.querySelector('#picture input[type=file]')")
        self.driver.find_element("css selector", "#picture input[type=file]").send_keys(str(picture))

    def wait_for_answer(self, text: str) -> None:
        """Wait for the large digits, and the details of each."""
        shown = "(document.querySelector('#answer strong')?.innerText ?? '')"
        digits = "document.querySelectorAll('#digits summary').length"
        self.wait(f"return {shown} == '{text}' && {digits} == {len(text)}")

    def text(self, selector: str) -> str:
        return "\n".join(each.text for each in self.driver.find_elements("css selector", selector))

    def probabilities(self) -> dict[str, float]:
        meters = self.driver.find_elements("css selector", "meter")
        return {str(meter.get_attribute("aria-label")): float(str(meter.get_attribute("value"))) for meter in meters}

    def picture(self, name: str) -> Tensor:
        """Return a picture's 28x28 pixels, uint8 (28, 28, 3), and assert that it is enlarged without smoothing."""
        image = self.driver.find_element("css selector", f"#digits img[alt='{name}']")
        assert image.value_of_css_property("image-rendering") == "pixelated"
        file = b64decode(str(image.get_attribute("src")).removeprefix("data:image/png;base64,"))
        pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB")))
        assert pixels.shape == (28, 28, 3)
        return pixels

    def drawn(self) -> Tensor:
        """Return the grey pixels of the canvas, uint8 (H, W)."""
        url = self.driver.execute_script("return document.querySelector('#pad canvas').toDataURL()")
        return torch.from_numpy(np.array(Image.open(io.BytesIO(b64decode(url.split(",")[1]))).convert("L")))

    def hosts(self) -> set[str | None]:
        """Return the hosts that the browser requested since the last call, except its own pages and inline data."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [message["params"]["request"]["url"] for message in messages if "request" in message["params"]]
        return {urlsplit(url).hostname for url in urls if urlsplit(url).scheme not in ("data", "blob", "chrome")}


@pytest.fixture(scope="module")
def contacted_hosts() -> set[str]:
    """Return a set, to which each host is added that this process contacts from now on."""
    hosts = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            hosts.add(str(arguments[1][0]))
        elif event == "socket.getaddrinfo":
            hosts.add(str(arguments[0]))

    sys.addaudithook(note)
    return hosts


@pytest.fixture(scope="module")
def url(contacted_hosts: set[str]) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the demo needs Gradio")
    torch.set_num_threads(1)  # as the command line does
    demo = launch(MNISTClassifier.from_pretrained(), free_port())
    assert demo.local_url
    yield demo.local_url
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def page(driver: "Chrome", url: str) -> Page:
    return Page(driver, url)


@pytest.fixture
def width(driver: "Chrome", request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the width of the browser's page, which shows it as a phone does."""
    phone = {"width": request.param, "height": 812, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    yield request.param
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_a_new_page_shows_no_guess_and_no_error(page: Page) -> None:
    assert page.driver.title == "mnist_lit"
    assert page.text("#answer") == page.text("#digits") == ""
    assert "Error" not in page.text("body")


@pytest.mark.parametrize("digit", [0, 2, 3, 7])
def test_a_drawn_digit_is_read(page: Page, digit: int) -> None:
    page.clear()
    page.draw(DIGITS[digit])
    page.wait_for_answer(str(digit))
    probabilities = page.probabilities()
    assert sorted(probabilities) == list("0123456789")
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert max(probabilities, key=probabilities.__getitem__) == str(digit)
    assert page.text("#answer") == f"{digit} {100 * probabilities[str(digit)]:.2f} %"


def test_the_pictures_show_what_the_network_sees_and_which_pixels_support_its_guess(page: Page) -> None:
    page.clear()
    page.draw(DIGITS[5])
    page.wait_for_answer("5")
    image = page.picture("What the network sees")[:, :, :1].permute(2, 0, 1) / 255
    model = MNISTClassifier.from_pretrained()
    probabilities = model.network.layers(image[None]).softmax(dim=1)[0].tolist()
    assert page.probabilities() == pytest.approx(
        {str(digit): probability for digit, probability in enumerate(probabilities)}, abs=0.01
    )
    contributions = input_x_gradient(model, image)[0]
    red, green, blue = page.picture("Evidence for 5").int().unbind(dim=2)
    strong = contributions.abs() > 0.1 * contributions.abs().max()
    assert strong.sum() > 10
    assert torch.equal(red[strong] > blue[strong], contributions[strong] > 0)
    assert (torch.stack((red, green, blue))[:, image[0] == 0] > 250).all()  # black pixels contribute nothing


def test_a_number_is_read_digit_by_digit_and_a_click_on_a_digit_explains_it(page: Page) -> None:
    page.clear()
    for place, digit in enumerate((1, 7, 4)):  # over the whole width
        page.draw([[((place + x) / 3, 0.3 + 0.4 * y) for x, y in stroke] for stroke in DIGITS[digit]])
    page.wait_for_answer("174")
    headings = page.driver.find_elements("css selector", "summary")
    assert [re.sub(r"[\d.]+ %", "", heading.text) for heading in headings] == ["1, ", "7, ", "4, "]
    seen = page.driver.find_element("css selector", "[alt='Evidence for 7']")
    assert not seen.is_displayed()
    headings[1].click()
    assert seen.is_displayed()
    boxes = [box.rect for box in page.driver.find_elements("css selector", "#digits svg rect")]
    assert len(boxes) == 3
    assert all(box["height"] > box["width"] > 10 for box in boxes)


@pytest.mark.parametrize("width", [320, 375, 768, 1280], indirect=True)
def test_the_square_takes_ink_in_all_corners_before_and_after_clearing(page: Page, width: int) -> None:
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == width
    sides = []
    for _ in range(2):
        page.clear()
        page.draw([[corner] for corner in [(0, 0), (0, 1), (1, 0), (1, 1)]])
        canvas = page.drawn()
        assert canvas[[2, 2, -3, -3], [2, -3, 2, -3]].tolist() == [0, 0, 0, 0]
        assert canvas[len(canvas) // 2].min() == 255
        rect = page.driver.find_element("css selector", "#pad canvas").rect
        assert rect["width"] == rect["height"] == page.driver.find_element("id", "pad").rect["width"]
        sides.append(rect["width"])
    assert sides[0] == sides[1] > 250


def test_a_figure_that_is_not_a_digit_is_refused_with_the_reason(page: Page) -> None:
    page.clear()
    page.draw([[(0.2, 0.2), (0.8, 0.25), (0.2, 0.4), (0.8, 0.5), (0.2, 0.6), (0.8, 0.7), (0.3, 0.8)]])
    page.wait_for_answer("?")
    assert re.fullmatch(r"\? not a digit \(guess: \d, [\d.]+ %\)", page.text("#answer"))


def test_a_picture_is_read_as_by_the_command(page: Page, cli: CLI, tmp_path: Path) -> None:
    page.clear()
    picture = Path(__file__).parents[2] / "docs" / "number.jpg"
    page.give(picture)
    page.wait_for_answer("75811")
    probabilities = re.findall(r"[\d.]+ %", cli("read", picture).out)
    assert re.findall(r"[\d.]+ %", page.text("summary")) == probabilities
    for content, words in (
        (b"no picture", "not a picture: PNG"),
        (picture.read_bytes()[:4000], "the picture is damaged"),
    ):
        (tmp_path / "damaged.jpg").write_bytes(content)
        page.give(tmp_path / "damaged.jpg")
        page.wait(f"return document.querySelector('#answer').innerText.startsWith('{words}')")


def test_a_picture_from_the_camera_is_not_mirrored(driver: "Chrome", url: str) -> None:
    page = Page(driver, url)
    page.wait("return document.querySelector('#picture [aria-label=\"Capture from camera\"]')").click()
    page.wait("return document.querySelector('#picture [title=\"grant webcam access\"] button')").click()
    page.wait("return document.querySelector('#picture video')?.readyState == 4")
    page.wait("return document.querySelector('#picture [aria-label=\"capture photo\"]')").click()
    page.wait_for_answer("75811")


def test_a_stroke_is_taken_back_and_the_keyboard_clears_the_square(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    for key in Keys.DELETE, Keys.BACKSPACE:
        page.clear()
        page.draw([*DIGITS[9], [(0.1, 0.1), (0.9, 0.1)]])
        page.press("Undo")
        page.wait_for_answer("9")
        page.driver.find_element("tag name", "body").send_keys(key)
        page.wait_for_answer("")
        assert page.probabilities() == {}
        assert page.drawn().min() == 255


@pytest.mark.parametrize("width", [375], indirect=True)
@pytest.mark.usefixtures("width")
def test_the_page_accepts_touch(page: Page) -> None:
    page.clear()
    page.draw(DIGITS[8], "touch")
    page.wait_for_answer("8")


def test_the_page_has_no_barriers_for_screen_readers(driver: "Chrome", url: str) -> None:
    page = Page(driver, url)
    assert_accessible(driver)
    page.draw(DIGITS[0])
    page.wait_for_answer("0")
    assert_accessible(driver)
    page.give(Path(__file__).parents[2] / "docs" / "digit.jpg")
    page.wait_for_answer("4")
    assert {"button-name", "color-contrast", "image-alt", "svg-img-alt"} <= assert_accessible(driver)
    assert not page.driver.find_elements("css selector", "#digits [tabindex]")  # no tab stops except the headings


def test_no_other_host_is_contacted(page: Page, contacted_hosts: set[str]) -> None:
    assert page.hosts() == {"127.0.0.1"}  # also in the tests before this one
    assert contacted_hosts <= {"127.0.0.1", "localhost", "::1"}  # the browser's own driver is at localhost


def test_input_x_gradient_of_a_linear_network_is_weight_times_pixel(test_images: Images) -> None:
    model = MNISTClassifier(activation="identity")
    *hidden, output = (layer for layer in model.network.layers if isinstance(layer, torch.nn.Linear))
    weight: Tensor = output.weight
    bias: Tensor = output.bias
    for layer in reversed(hidden):
        weight, bias = weight @ layer.weight, weight @ layer.bias + bias
    images = test_images[0][:100]
    for image, logits in zip(model.network.upright(images), model(images), strict=True):
        contributions = input_x_gradient(model, image)
        guess = logits.argmax()
        torch.testing.assert_close(contributions, weight[guess].view(1, 28, 28) * image, rtol=0, atol=1e-5)
        torch.testing.assert_close(contributions.sum() + bias[guess], logits[guess], rtol=0, atol=1e-5)


def test_the_demo_prints_its_address_and_ctrl_c_ends_it(
    cli: CLI,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("gradio", reason="the demo needs Gradio")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not used: nothing listens there
    monkeypatch.setenv("no_proxy", "")
    port = free_port()

    def press_ctrl_c() -> None:
        for _ in range(600):
            time.sleep(0.05)
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    threading.Thread(target=press_ctrl_c).start()
    result = cli("demo", f"--port={port}")
    assert result.status == 130
    assert result.out == f"Draw a digit at http://127.0.0.1:{port}/ (Ctrl-C ends this)\n"
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_cannot_be_used_gives_one_sentence(cli: CLI) -> None:
    pytest.importorskip("gradio", reason="the demo needs Gradio")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for option, words in (port, f"port {port} is in use"), (0, "from 1 to 65535"), (65536, "from 1 to 65535"):
            result = cli("demo", f"--port={option}")
            assert (result.status, result.out) == (1, "")
            _, error = result.err.splitlines()  # the first line names the checkpoint
            assert error.startswith("error: ")
            assert words in error


def test_without_gradio_the_error_names_the_command_that_installs_it(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = cli("demo")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[1:] == [
        "error: the demo needs Gradio, which is not installed: pip install -e '.[demo]'"
    ]
