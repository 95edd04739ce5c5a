from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from conftest import Images, choose, slow
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import photos
import scenes
from drawing import to_picture
from mnist_lit import MNISTClassifier
from mnist_lit.network import MLP
from mnist_lit.pictures import NoDigitError, detect_digits, numbers, preprocess, read_digits
from mnist_lit.pictures.picture import to_rgb
from mnist_lit.pictures.rejection import REJECT, refuse


@pytest.fixture(scope="module")
def network() -> MLP:
    return MNISTClassifier.from_pretrained().network


def write_two(digits: Sequence[Tensor]) -> Image.Image:
    page = Image.new("L", (300, 204), 255)
    for index, digit in enumerate(digits):
        page.paste(0, (60 + 84 * index, 60), Image.fromarray(digit.numpy()).resize((84, 84)))
    return page


def crop(page: Image.Image) -> Image.Image:
    """Return a page cropped to its ink."""
    return page.crop(page.point(lambda value: 255 * (value < 128)).getbbox())


def read(picture: Image.Image, network: MLP) -> list[str]:
    """Return the numbers in a picture, with nothing refused."""
    return numbers(read_digits(picture, network, reject=0))


@pytest.mark.parametrize("starts", [(2, 4), slow(range(8))], ids=["two", "eight"])
@pytest.mark.parametrize("kind", sorted(scenes.KINDS.keys() - {"touching", "crossed out", "ledger"}))
def test_numbers_are_read_on_any_background(
    test_images: Images, network: MLP, kind: str, starts: Sequence[int]
) -> None:
    scene = scenes.KINDS[kind]
    random = np.random.default_rng(0)
    right = 0
    for start in starts:
        indices = range(10 * start, 10 * start + (1, 2, 3, 5)[start % 4])
        number = "".join(str(int(test_images[1][index])) for index in indices)
        digits = scenes.printed(number, random) if kind in scenes.PRINTED else choose(test_images, *indices)
        picture = scenes.make_picture(scene, digits, random)
        if start >= 4:  # light on dark
            picture = Image.eval(picture, lambda value: 255 - value)
        answer = read(picture, network)
        right += (answer[-1] if kind == "after a word" else "".join(answer)) == number
    assert right >= 3 / 4 * len(starts) - 0.5  # one of two, six of eight: of 100 numbers 85 to 100 are right, by kind


def test_the_edge_of_a_sheet_is_not_a_digit(test_images: Images, network: MLP) -> None:
    # At one of the thresholds the gap between the sheet and the desk is like a 1, and has more ink than the digits.
    digits = choose(test_images, 0, 1)
    pictures = [scenes.make_picture(scenes.on_desk, digits, np.random.default_rng(seed)) for seed in range(8)]
    assert sum(read(picture, network) == ["72"] for picture in pictures) >= 7


def test_digits_that_touch_a_ruled_line_are_not_lost_with_it(test_images: Images, network: MLP) -> None:
    digits, squared = choose(test_images, *range(459, 468)), scenes.KINDS["squared"]
    pictures = [scenes.make_picture(squared, digits, np.random.default_rng(seed)) for seed in range(4)]
    number = "".join(str(int(label)) for label in test_images[1][459:468])
    assert sum(read(picture, network) == [number] for picture in pictures) >= 3


def test_squares_that_the_border_cuts_off_are_not_digits(test_images: Images, network: MLP) -> None:
    page = Image.new("L", (570, 520), 255)
    for place in range(2, 570, 55):  # beyond the last lines the squares are narrow, like light 1s
        ImageDraw.Draw(page).line([(place, 0), (place, 520)], fill=80)
        ImageDraw.Draw(page).line([(0, place), (570, place)], fill=80)
    for index, digit in enumerate(choose(test_images, 0, 1)):
        page.paste(0, (180 + 130 * index, 180), Image.fromarray(digit.numpy()).resize((140, 140)))
    assert read(page, network) == ["72"]


def test_digits_are_in_reading_order(test_images: Images, network: MLP) -> None:
    page = Image.new("L", (900, 380), 255)
    for place, digit in enumerate(choose(test_images, *range(8), 15, *range(9, 14))):
        line, position = divmod(place, 7)
        page.paste(Image.fromarray(255 - digit.numpy()).resize((112, 112)), (30 + 120 * position, 30 + 120 * line))
    for angle in 0, -8, 8:
        turned = page.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
        assert read(turned, network) == ["7210414", "9590690"]
    detection = detect_digits(page)[8]
    assert (detection.line, detection.position) == (2, 2)


def test_numbers_in_two_columns_are_separate(test_images: Images, network: MLP) -> None:
    page = Image.new("L", (900, 300), 255)
    for left, top, digit in zip(
        (20, 110, 560, 650, 50, 170, 290), (30,) * 4 + (170,) * 3, choose(test_images, *range(7)), strict=True
    ):
        page.paste(Image.fromarray(255 - digit.numpy()).resize((84, 84)), (left, top))
    assert read(page, network) == ["72", "10", "414"]  # the last number has wide gaps


def test_a_box_is_in_pixels_of_the_upright_picture(test_images: Images) -> None:
    (digit,) = choose(test_images, 0)
    page = Image.new("L", (5000, 3000), 255)  # larger than the largest picture kept
    page.paste(Image.fromarray(255 - digit.numpy()).resize((1120, 1120)), (3000, 1000))
    (detection,) = detect_digits(page)
    left, top, right, bottom = detection.box
    assert 3000 < left < 3560 < right < 4120
    assert 1000 < top < 1560 < bottom < 2120
    (cropped,) = detect_digits(to_rgb(page).crop((2000, 800, 3600, 2000)))  # a crop has its own size
    assert cropped.box[2] <= 1600
    lying = page.rotate(90, expand=True)
    lying.getexif()[0x0112] = 6  # to be shown turned clockwise
    (turned,) = detect_digits(lying)
    assert np.abs(np.subtract(turned.box, detection.box)).max() < 10
    strip = Image.new("L", (3000, 61), 255)  # its height is rounded when it is reduced
    strip.paste(Image.fromarray(255 - digit.numpy()).resize((56, 56)), (2800, 2))
    (detection,) = detect_digits(strip)
    assert 2800 < detection.box[0] < detection.box[2] < 2856


def test_non_digits_are_refused_and_digits_are_not(test_images: Images) -> None:
    def refused(images: Tensor) -> float:
        return float(np.mean([reason != "" for reason in refuse(images, REJECT)]))

    assert 0.005 < refused(test_images[0]) < 0.015
    random = np.random.default_rng(0)
    scribbles = [preprocess(scenes.scribble(random)) for _ in range(100)]
    assert refused(torch.stack(scribbles)) > 0.7
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    letters = [preprocess(scenes.letter(character, font)) for character in "ACEFHJKMNPRVWXachkmnrvwx"]
    assert refused(torch.stack(letters)) > 0.9
    turned = refuse(test_images[0][test_images[1] != 0][:500].rot90(1, (2, 3)), REJECT)
    assert turned.count("may be turned") > 450
    assert refuse(torch.stack(scribbles), 0) == [""] * 100


def test_digits_of_exact_lines_are_not_refused() -> None:
    zero, one, seven = (Image.new("L", (300, 300), 255) for _ in range(3))
    ImageDraw.Draw(zero).ellipse((90, 40, 210, 260), outline=0, width=22)
    ImageDraw.Draw(one).line([(150, 40), (150, 260)], fill=0, width=22)
    ImageDraw.Draw(seven).line([(90, 40), (210, 40), (140, 260)], fill=0, width=22)
    assert refuse(torch.stack([preprocess(picture) for picture in (zero, one, seven)]), REJECT) == ["", "", ""]


def print_text(text: str) -> Image.Image:
    picture = Image.new("L", (600, 300), 255)
    ImageDraw.Draw(picture).text((300, 150), text, fill=0, font=ImageFont.load_default(150), anchor="mm")
    return picture


@pytest.mark.parametrize("number", ["7", "90", "600", "000"])
def test_a_printed_number_is_read(network: MLP, number: str) -> None:
    assert read(print_text(number), network) == [number]


@pytest.mark.parametrize("colours", [("white", "black"), ("black", "white")])
def test_the_hole_of_a_bold_zero_is_not_a_one(network: MLP, colours: tuple[str, str]) -> None:
    picture = Image.new("RGB", (440, 300), colours[0])
    for left in 80, 250:
        ImageDraw.Draw(picture).ellipse((left, 40, left + 100, 260), outline=colours[1], width=40)
    assert read(picture, network) == ["00"]


def test_a_digit_in_a_circle_is_read(network: MLP) -> None:
    picture = print_text("7")
    ImageDraw.Draw(picture).ellipse((160, 10, 440, 290), outline=0, width=10)
    assert read(picture, network) == ["7"]


def test_of_a_word_the_largest_letter_is_refused(network: MLP) -> None:
    (answer,) = read_digits(print_text("WAX"), network)
    assert answer.digit == "?"
    _, top, _, bottom = answer.detection.box
    assert bottom - top > 90  # not the A's hole


def write(places: Sequence[tuple[float, float]], strokes: Sequence[Sequence[tuple[float, float]]]) -> Image.Image:
    """Draw strokes, whose points reach from 0 to 1, at each of some places of a sheet."""
    picture = Image.new("L", (800, 400), 255)
    for left, top in places:
        for stroke in strokes:
            points = [(left + 120 * x, top + 180 * y) for x, y in stroke]
            ImageDraw.Draw(picture).line(points, fill=0, width=18, joint="curve")
    return picture


def test_a_digit_that_the_pen_has_broken_is_read_as_one_digit(test_images: Images, network: MLP) -> None:
    body = [(0.1, 0.12), (0.08, 0.45), (0.5, 0.4), (0.85, 0.6), (0.75, 0.9), (0.4, 1), (0.05, 0.92)]
    five = body, [(0.3, 0), (0.9, 0)]  # its bar apart
    assert read(write([(100, 100)], five), network) == ["5"]
    assert read(write([(100, 100), (350, 110), (600, 90)], five), network) == ["555"]
    assert read(photos.thin_pen(choose(test_images, 8)[0], np.random.default_rng(0)), network) == ["5"]
    four = [(0.3, 0), (0, 0.6), (0.45, 0.6)], [(0.7, 0.1), (0.66, 1.05)]  # open in the middle
    assert read(write([(100, 100), (350, 110), (600, 90)], four), network) == ["444"]


def test_a_turned_number_is_reported_as_turned() -> None:
    two = [(0.05, 0.2), (0.3, 0), (0.7, 0), (0.8, 0.25), (0, 1), (0.9, 1)]
    for places in [(100, 110), (280, 110)], [(100, 110), (280, 110), (460, 110)]:
        found = detect_digits(write(places, [two]).rotate(90, expand=True))
        assert refuse(torch.stack([each.image for each in found]), REJECT) == ["may be turned"] * len(places)


def test_a_turned_digit_is_never_guessed(test_images: Images) -> None:
    # A 1, two digits that are like others when turned, and two whose holes are like digits.
    for digit in choose(test_images, 2, 9, 58, 61, 106):
        picture = to_picture(scenes.plain([digit], np.random.default_rng(0))).rotate(90, expand=True)
        (found,) = detect_digits(picture)
        assert refuse(found.image[None], REJECT) == ["may be turned"]


def test_the_hole_of_a_digit_is_not_a_digit(test_images: Images, network: MLP) -> None:
    # The hole is more like a 1 than the figure is like an 8.
    picture = photos.thick_pen(choose(test_images, 655)[0], np.random.default_rng(0))
    assert read(picture, network) == ["8"]


def test_an_underline_may_touch_the_digits(network: MLP) -> None:
    seven = [[(0.05, 0.05), (0.9, 0), (0.4, 1)]]
    picture = write([(60, 100), (260, 100), (460, 100)], seven)
    ImageDraw.Draw(picture).line([(40, 285), (660, 278)], fill=0, width=14)
    assert read(picture, network) == ["777"]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (28, 28), (400, 300)])
def test_noise_is_never_read_as_a_digit(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    try:
        found = detect_digits(Image.fromarray(noise))
    except NoDigitError:
        return
    assert "" not in refuse(torch.stack([detection.image for detection in found]), REJECT)
    for left, top, right, bottom in (detection.box for detection in found):
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("pairs", [5, slow(20)])
def test_digits_that_touch_are_separated(test_images: Images, network: MLP, pairs: int) -> None:
    random = np.random.default_rng(0)
    right = 0
    for start in range(0, 2 * pairs, 2):
        picture = to_picture(scenes.touching(choose(test_images, start, start + 1), random))
        right += read(picture, network) == ["".join(map(str, test_images[1][start : start + 2].tolist()))]
    assert right >= 0.6 * pairs


@pytest.mark.parametrize("colours", [("black", "white"), ("white", "#222222"), ("yellow", "#206020")])
def test_the_box_fits_the_ink(test_images: Images, colours: tuple[str, str]) -> None:
    for scale in 1, 4:
        for digit in choose(test_images, *range(20 // scale)):
            mask = Image.fromarray(digit.numpy()).resize((28 * scale, 28 * scale))
            picture = Image.new("RGB", (60 * scale, 70 * scale), colours[1])
            picture.paste(colours[0], (16 * scale, 21 * scale), mask)
            (detection,) = detect_digits(picture)
            rows, columns = (np.flatnonzero((np.asarray(mask) > 128).any(axis=axis)) for axis in (1, 0))
            edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) + scale * np.array([16, 21, 16, 21])
            assert np.abs(detection.box - edges).max() <= 4 * scale


def test_two_digits_have_separate_boxes(test_images: Images) -> None:
    # Otherwise the paper, taken for light ink and cut in two, would also be two digits.
    for start in range(0, 12, 2):
        page = write_two(choose(test_images, start, start + 1))
        for detection, left in zip(detect_digits(page), (60, 144), strict=True):
            assert left <= detection.box[0] < detection.box[2] <= left + 84
            assert 60 <= detection.box[1] < detection.box[3] <= 144


def test_a_picture_read_as_a_single_digit_has_the_box_of_its_ink() -> None:
    picture = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(picture).line([(40, 150), (260, 150)], fill=0, width=20)  # only a stroke, at most a part of a digit
    (detection,) = detect_digits(picture)
    assert np.abs(np.subtract(detection.box, (40, 140, 260, 160))).max() <= 6


def test_a_tight_crop_loses_no_digit(test_images: Images, network: MLP) -> None:
    one, zero, four = (Image.fromarray(digit.numpy()) for digit in choose(test_images, 2, 3, 4))
    page = Image.new("L", (420, 140), 255)
    for left, top, size, digit in (0, 0, 140, one), (160, 30, 80, zero), (280, 0, 140, four):
        page.paste(0, (left, top), digit.resize((size, size)))
    assert read(crop(page), network) == ["104"]


@pytest.mark.parametrize("pair", [(12, 13), (22, 23), (24, 25), (30, 31)])
def test_both_digits_of_a_crop_are_found(test_images: Images, network: MLP, pair: tuple[int, int]) -> None:
    expected = "".join(str(int(test_images[1][index])) for index in pair)
    assert read(crop(write_two(choose(test_images, *pair))), network) == [expected]
