"""From a picture to the digits in it, in torch and OpenCV without Lightning.

The steps, one file each:

1. ``picture``: a file becomes an upright RGB picture.
2. ``ink``: how dark each pixel is, compared with the paper around it.
3. ``figures``: connected ink that a pen may have drawn.
4. ``candidates``: the figures of about the same size, at the threshold that shows them best.
5. ``choice``: which candidates are digits; some are joined or cut if that makes digits of them. ``preparation`` makes
   an image like MNIST's of each candidate, and ``rejection`` measures how much this image is like a digit.
6. ``detect``: the digits with their boxes, ordered into lines.
7. ``answers``: the network's digits, and ``?`` if ``rejection`` refuses an image. ``table`` prints and writes them.
"""

from mnist_lit.pictures.answers import Answer, draw_answers, numbers, read_digits
from mnist_lit.pictures.detect import Detection, detect_digits
from mnist_lit.pictures.picture import NoDigitError, read_picture
from mnist_lit.pictures.preparation import preprocess

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
