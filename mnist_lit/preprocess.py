"""From a picture of a digit to an image such as MNIST's, by the names under which programs have it."""

from mnist_lit.tools.preprocess import NoDigitError, preprocess, read_picture

__all__ = ["NoDigitError", "preprocess", "read_picture"]
