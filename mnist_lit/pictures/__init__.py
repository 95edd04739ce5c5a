"""From a picture to the digits in it, in torch and OpenCV without Lightning.

The steps, one file each:

1. ``picture``: a file becomes an upright RGB picture.
2. ``ink``: how dark each pixel is, compared with the paper around it.
3. ``components``: connected ink, each component with its own threshold, from a tree of connected components.
4. ``choice``: which components are digits. ``value`` says what one is worth: ``preparation`` draws it in MNIST's
   format, and ``rejection`` measures how much this image is like a digit. ``refinement`` frees digits from lines, cuts
   those that touch, and joins what the pen has broken. ``context`` judges by what is around.
5. ``detect``: the digits with their boxes, ordered into lines.
6. ``answers``: the network's digits, and ``?`` if ``rejection`` refuses an image. ``table`` prints and writes them.
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
