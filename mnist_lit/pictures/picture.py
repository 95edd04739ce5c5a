"""Pictures: their files are found and read, and each becomes upright and RGB."""

import os
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from os.path import realpath
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_lit.errors import UserError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_SHOWN = re.compile(r"\d{3,}_.*\.png")  # names of the pictures of --show


class NoDigitError(UserError):
    """There is no ink in a picture."""


def find_pictures(paths: Iterable[Path], output: Path | None = None, show: Path | None = None) -> list[Path]:
    """Return the files among ``paths`` and below the folders among them, each once, without hidden files.

    Args:
        paths: Files and folders.
        output: A CSV file, left out of the folders: an earlier command may have written it.
        show: A folder whose pictures with names such as ``001_name.png`` are left out.

    Raises:
        UserError: If there is no file, or a picture would be overwritten.
    """
    pictures: dict[Path, Path] = {}  # the keys are the targets of links
    for path in paths:
        is_folder = path.is_dir()
        for file in sorted(path.rglob("*")) if is_folder else [path]:
            is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if is_folder and (is_hidden or not file.is_file()):
                continue
            target = Path(realpath(file))  # resolve() would raise for a link to itself
            is_output = output is not None and target == Path(realpath(output))
            is_shown = show is not None and target.parent == Path(realpath(show)) and _SHOWN.fullmatch(target.name)
            if not is_output and not is_shown:
                pictures.setdefault(target, file)
            elif not is_folder or (is_output and file.suffix != ".csv"):
                raise UserError(f"{file} is to be read and would be overwritten: name another --output or --show")
    if not pictures:
        apart = f" except those of --show {show}, which are not read: name another folder" if show else ""
        raise UserError(f"there are no files in {', '.join(map(str, paths))}{apart}")
    return list(pictures.values())


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Return the picture in a file, the first of several, upright, as RGB.

    A transparent part becomes white behind dark ink and black behind light ink. ``info["is_first_of_several"]`` tells
    whether the file holds several pictures, such as the pages of a TIFF.

    Args:
        path: A PNG, JPEG, BMP, GIF, WebP or TIFF file; other formats of Pillow, some of which run programs, are not
            read.

    Raises:
        UserError: If it is empty, in another format, damaged, or has more than 178 million pixels.
        OSError: If it cannot be read.
    """
    path = Path(path)
    if not path.stat().st_size:
        raise UserError("the file is empty" if path.is_file() else "a pipe or a device: pictures are read from files")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd tags, and of pictures half as large as it refuses
        try:
            image = Image.open(file, formats=_FORMATS)
            picture = to_rgb(image)
            # The other pictures of an MPO, a JPEG from a camera, are previews of the first.
            picture.info["is_first_of_several"] = image.format != "MPO" and getattr(image, "is_animated", False)
            return picture
        except UnidentifiedImageError as error:
            raise UserError("not a picture: save it as PNG, JPEG, BMP, GIF, WebP or TIFF") from error
        except Image.DecompressionBombError as error:
            raise UserError("too large: at most 178 million pixels are read") from error
        except Exception as error:  # a damaged file can make Pillow raise anything
            raise UserError(f"the picture is damaged ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture upright, as RGB.

    A transparent part becomes white behind dark ink and black behind light ink.

    Raises:
        NoDigitError: If it has no pixels.
    """
    image.load()  # a picture that is damaged itself is an error
    with suppress(Exception):  # damaged EXIF data can make Pillow raise anything
        image = ImageOps.exif_transpose(image)
    if 0 in image.size:
        raise NoDigitError("it has no pixels")
    if image.mode[0] in "IF":  # of more than 8 bits Pillow's own convert would keep some and cut off the others
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
        span = max(float(np.ptp(values)), 1e-9)
        image = Image.fromarray(((values - values.min()) * (255 / span)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        pixels, opacity = np.split(np.asarray(image), [3], axis=2)
        is_dark = pixels.mean(axis=2, keepdims=True)[opacity > 0].mean() < 128 if opacity.any() else True
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white" if is_dark else "black"), image)
    return image.convert("RGB")
