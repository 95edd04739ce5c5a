import io
import json
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
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from conftest import CLI, assert_accessible
from PIL import Image, ImageOps

from mnist_lit import MNISTClassifier
from mnist_lit.pictures import read_digits
from mnist_lit.tools.demo import demo

CONTACTED: set[str] = set()  # the hosts that this process contacts while the page is served
DOCS = Path(__file__).parents[2] / "docs"
Stroke = list[tuple[float, float]]  # points in a canvas that reaches from 0 to 1, y downwards
DIGITS: dict[str, list[Stroke]] = {
    "0": [[(0.5, 0.2), (0.66, 0.3), (0.66, 0.7), (0.5, 0.8), (0.34, 0.7), (0.34, 0.3), (0.5, 0.2)]],
    "1": [[(0.5, 0.2), (0.5, 0.8)]],
    "2": [[(0.32, 0.32), (0.42, 0.2), (0.6, 0.22), (0.68, 0.36), (0.3, 0.8), (0.72, 0.8)]],
    "4": [[(0.35, 0.2), (0.3, 0.55), (0.7, 0.55)], [(0.65, 0.2), (0.65, 0.85)]],
    "7": [[(0.28, 0.22), (0.7, 0.22), (0.45, 0.82)]],
    "?": [[(0.2, 0.2), (0.8, 0.25), (0.2, 0.4), (0.8, 0.5), (0.2, 0.6), (0.8, 0.7), (0.3, 0.8)]],
}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def is_served(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def pixels(url: str) -> torch.Tensor:
    """Return the grey pixels of a picture in a data URL, uint8 (H, W)."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(b64decode(url.split(",")[1]))).convert("L")))


class Page:
    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.wait("return document.querySelector('#pad canvas') && document.querySelector('#answer [role=status]')")
        driver.execute_script("""window.shown = []; const answer = document.querySelector('#answer [role=status]')
            new MutationObserver(() => shown.push(answer.innerText.split('\\n')[0])).observe(answer,
            {subtree: true, childList: true, characterData: true})""")

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

    def press(self, label: str) -> None:
        self.driver.find_element("xpath", f"//button[normalize-space(.)='{label}']").click()

    def clear(self) -> None:
        self.press("Clear")
        self.wait("return document.querySelector('#answer').innerText.includes('will be shown here')")

    def give(self, picture: Path) -> None:
        for remove in self.driver.find_elements("css selector", "[aria-label='Remove Image']"):
            remove.click()
        self.wait("return document.querySelector('input[type=file]')").send_keys(str(picture))

    def wait_for_answer(self, text: str) -> None:
        """Wait for the large digits and the view of each, in reading order."""
        number = "(document.querySelector('#answer strong')?.innerText ?? '')"
        views = "[...document.querySelectorAll('#answer figcaption')].map(each => each.innerText[0]).join('')"
        self.wait(f"return {number} == '{text}' && {views} == '{text}'")

    def text(self, selector: str) -> str:
        return "\n".join(each.text for each in self.driver.find_elements("css selector", selector))

    def drawn(self) -> torch.Tensor:
        return pixels(self.driver.execute_script("return document.querySelector('#pad canvas').toDataURL()"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
            CONTACTED.add(str(arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]))

    sys.addaudithook(note)
    gradio = pytest.importorskip("gradio", reason="the demo needs Gradio")
    port = free_port()
    thread = threading.Thread(target=demo, args=(MNISTClassifier.from_pretrained(), port))
    thread.start()
    while thread.is_alive() and not is_served(port):
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    gradio.close_all(verbose=False)
    thread.join()


@pytest.fixture(scope="module")
def page(driver: Any, url: str) -> Page:
    return Page(driver, url)


def test_a_new_page_says_where_to_draw_and_where_the_answer_comes(page: Page) -> None:
    assert page.driver.title == "mnist_lit"
    assert "Draw a digit or a number in the square" in page.text("body")
    assert page.text("#answer") == "The digits that the network reads will be shown here."
    assert {"button-name", "color-contrast"} <= assert_accessible(page.driver)


def test_while_it_reads_the_page_says_so_and_the_old_answer_is_gone(page: Page) -> None:
    page.draw(DIGITS["2"])
    page.wait_for_answer("2")
    assert re.fullmatch(r"2: (> )?\d\d\.\d\d %", page.text("figcaption"))
    page.draw(DIGITS["?"])
    page.wait_for_answer("?")
    assert page.text("figcaption") == "?: not a digit"
    assert "%" not in page.text("#answer")
    assert page.driver.execute_script("return shown") == ["Reading …", "2", "Reading …", "?"]


def test_each_digit_of_a_number_is_shown_as_found_and_straightened(page: Page) -> None:
    page.clear()
    for place, digit in enumerate("174"):  # over the whole width
        page.draw([[((place + x) / 3, 0.3 + 0.4 * y) for x, y in stroke] for stroke in DIGITS[digit]])
    page.wait_for_answer("174")
    assert "straightened by its moments" in page.text("#answer p")
    model = MNISTClassifier.from_pretrained()
    answers = read_digits(ImageOps.expand(Image.fromarray(page.drawn().numpy()), 42, 255), model)
    for answer, image in zip(answers, page.driver.find_elements("css selector", "figure img"), strict=True):
        assert image.is_displayed()
        assert image.value_of_css_property("image-rendering") == "pixelated"
        found = answer.detection.image[None]
        expected = torch.cat((found, model.network.upright(found)), dim=3)[0, 0]
        torch.testing.assert_close(pixels(str(image.get_attribute("src"))) / 255, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("width", [320, 1280])
def test_what_is_drawn_at_the_rim_is_read(page: Page, width: int) -> None:
    phone = {"width": width, "height": 812, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.clear()
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == width
    page.draw([[corner] for corner in [(0, 0), (0, 1), (1, 0), (1, 1)]])
    assert page.drawn()[[2, 2, -3, -3], [2, -3, 2, -3]].tolist() == [0, 0, 0, 0]
    page.clear()
    assert page.drawn().min() == 255
    page.draw([[(0, 0), (1, 0), (0.4, 1)]], "touch")
    page.wait_for_answer("7")
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_picture_is_read_as_by_the_command_and_clears_the_drawing(page: Page, cli: CLI, tmp_path: Path) -> None:
    page.draw(DIGITS["0"])
    page.give(DOCS / "number.jpg")
    page.wait_for_answer("75811")
    assert page.drawn().min() == 255
    printed = re.findall(r"[\d.]+ %", cli("read", DOCS / "number.jpg").out)
    shown = re.findall(r"[\d.]+ %", page.text("figcaption"))
    assert shown == [percent.replace("100.00", "99.99") for percent in printed]
    assert_accessible(page.driver)
    for content, words in (b"no picture", "not a picture: save"), ((DOCS / "digit.jpg").read_bytes()[:4000], "damaged"):
        (tmp_path / "damaged.jpg").write_bytes(content)
        page.give(tmp_path / "damaged.jpg")
        page.wait(f"return document.querySelector('#answer').innerText.includes('{words}')")
    page.draw(DIGITS["0"])
    page.wait_for_answer("0")
    assert not page.driver.find_elements("css selector", "[aria-label='Remove Image']")
    assert page.drawn().min() == 0


def test_four_examples_can_be_clicked(page: Page) -> None:
    for label, text in ("A number", "72104"), ("A slanted 2", "2"), ("A light 7 on dark", "7"), ("A turned 2", "?"):
        page.press(label)
        page.wait_for_answer(text)
    assert page.text("figcaption") == "?: may be turned"


def test_a_picture_from_the_camera_is_not_mirrored(driver: Any, url: str) -> None:
    page = Page(driver, url)
    page.wait("return document.querySelector('[aria-label=\"Capture from camera\"]')").click()
    page.wait("return document.querySelector('[title=\"grant webcam access\"] button')").click()
    page.wait("return document.querySelector('video')?.readyState == 4")
    page.wait("return document.querySelector('[aria-label=\"capture photo\"]')").click()
    page.wait_for_answer("75811")


def test_no_other_host_is_contacted_in_all_these_tests(page: Page) -> None:
    events = [json.loads(entry["message"])["message"]["params"] for entry in page.driver.get_log("performance")]
    urls = [urlsplit(event["request"]["url"]) for event in events if "request" in event]
    assert {url.hostname for url in urls if url.scheme in ("http", "https", "ws", "wss")} == {"127.0.0.1"}
    assert not CONTACTED - {"127.0.0.1", "localhost", "::1"}  # the browser's own driver is at localhost


def test_the_demo_prints_its_address_and_ctrl_c_ends_it(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the demo needs Gradio")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not used: nothing listens there
    monkeypatch.setenv("no_proxy", "")
    port = free_port()

    def press_ctrl_c() -> None:
        while not is_served(port):
            time.sleep(0.05)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    result = cli("demo", f"--port={port}")
    assert result.status == 0
    assert result.out.startswith(f"Draw a digit at http://127.0.0.1:{port}/ (Ctrl-C ends this)\n")
    assert not is_served(port)


def test_a_port_that_cannot_be_used_gives_one_sentence(cli: CLI, url: str) -> None:
    used = urlsplit(url).port
    for port, words in (used, f"port {used} is in use"), (65536, "port must be at least 1 and at most 65535"):
        result = cli("demo", f"--port={port}")
        assert result.status == 1
        assert result.err.splitlines()[1].startswith(f"error: {words}")  # the first line names the checkpoint


def test_without_gradio_the_error_names_the_command_that_installs_it(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = cli("demo")
    assert result.status == 1
    assert result.err.endswith("error: the demo needs Gradio, which is not installed: pip install -e '.[demo]'\n")
