"""From a picture to the digits in it, in torch and OpenCV without Lightning.

The steps, one file each:

1. ``picture``: a file becomes an upright RGB picture.
2. ``ink``: how dark each pixel is, compared with the paper around it.
3. ``components``: connected ink, each component with its own threshold, from a tree of connected components.
4. ``candidates``: the components and what they may hold or be part of, each drawn in MNIST's format (``preparation``)
   with its likeness to a digit (``rejection``).
5. ``context``: which candidates are digits, by what is around them and what they overlap.
6. ``detect``: runs these steps, and orders the digits with their boxes into lines.
7. ``answers``: the network's digits, and ``?`` if ``rejection`` refuses an image. ``table`` prints and writes them.
"""

from mnist_lit.pictures.answers import Answer, draw_answers, numbers, read_digits
from mnist_lit.pictures.detect import Detection, detect_digits, preprocess
from mnist_lit.pictures.picture import NoDigitError, read_picture

__all__ = [
    "Answer",
    "Detection",
    "NoDigitError",
    "detect_digits",
    "draw_answers",
    "numbers",
    "preprocess",
    "read_digits",
    "read_picture",
]
