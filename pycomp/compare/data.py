"""The data that the methods are compared on: scikit-learn's digits, or Fashion-MNIST from IDX files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pycomp._errors import FormatError
from pycomp._validate import choice

from .idx import read_idx

CLASSES = 10
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("digits", "fashion-mnist")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as rows with the number of their class, for training and held out.

    Attributes
    ----------
    name : str
        What settings call it.
    source : str
        Where it is from, in a sentence of the report.
    train_x, test_x : array of float32, shape (images, pixels)
        From 0 to 1.
    train_y, test_y : array of int64, shape (images,)
        From 0 to 9.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.zeros((20, 64), np.float32), np.arange(20) % 10
    >>> data = Dataset("mine", "made by hand", x, y, x[:5], y[:5])
    >>> data.features
    64
    """

    name: str
    source: str
    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]

    @property
    def features(self) -> int:
        """Pixels of an image."""
        return int(self.train_x.shape[1])

    def head(self, train: int | None, test: int | None) -> Dataset:
        """The first images of each part.

        Parameters
        ----------
        train, test : int or None
            How many; None keeps all.

        Returns
        -------
        Dataset
            Its arrays are views.
        """
        return Dataset(self.name, self.source, self.train_x[:train], self.train_y[:train],
                       self.test_x[:test], self.test_y[:test])


def load(name: str, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by its name.

    Parameters
    ----------
    name : "digits" or "fashion-mnist"
    folder : path, optional
        Where Fashion-MNIST's four IDX files are; by default where Debian's package ``dataset-fashion-mnist`` puts them.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no such data set, or a folder is given for one that has no files.
    FileNotFoundError
        If a file is missing; the message says which and how to get it.
    FormatError
        If a file is damaged or the files do not belong together.
    ImportError
        If the digits are asked for and scikit-learn is not installed.

    Examples
    --------
    Of an image each with 2 x 2 pixels; sizes in the files have their highest byte first.

    >>> import tempfile
    >>> from pathlib import Path
    >>> image = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes([0, 51, 102, 255])
    >>> label = bytes([0, 0, 8, 1, 0, 0, 0, 1]) + bytes([7])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part in ("train", "t10k"):
    ...         _ = Path(folder, f"{part}-images-idx3-ubyte").write_bytes(image)
    ...         _ = Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(label)
    ...     data = load("fashion-mnist", folder)
    >>> data.train_x, data.train_y
    (array([[0. , 0.2, 0.4, 1. ]], dtype=float32), array([7]))
    """
    if choice(name, "name", NAMES) == "fashion-mnist":
        return _fashion_mnist(DEBIAN_FOLDER if folder is None else Path(folder))
    if folder is not None:
        raise ValueError("the digits come with scikit-learn: a data folder is for fashion-mnist")
    return _digits()


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    x = pixels.astype(np.float32) / np.float32(16)
    y = classes.astype(np.int64)
    # Every third image is held out: the writers follow each other in the file, so each is in both parts.
    held_out = np.arange(len(x)) % 3 == 2
    return Dataset("digits", "scikit-learn's digits (UCI, 8 x 8 pixels); every third image held out",
                   x[~held_out], y[~held_out], x[held_out], y[held_out])


def _fashion_mnist(folder: Path) -> Dataset:
    train_x, train_y = _part(folder, "train")
    test_x, test_y = _part(folder, "t10k")
    if train_x.shape[1] != test_x.shape[1]:
        raise FormatError(f"{folder}: images for training have {train_x.shape[1]} pixels, "
                          f"held-out ones {test_x.shape[1]}")
    return Dataset("fashion-mnist", "Fashion-MNIST (Zalando, 28 x 28 pixels), its own test images held out",
                   train_x, train_y, test_x, test_y)


def _part(folder: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images_path, labels_path = _find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise FormatError(f"{folder}: {len(images)} images in {images_path.name}, {len(labels)} labels in "
                          f"{labels_path.name}")
    if images.size == 0:
        raise FormatError(f"{images_path}: holds no images")
    if labels.max() >= CLASSES:
        raise FormatError(f"{labels_path}: label {labels.max()} is not below {CLASSES}")
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has no {name}[.gz]: install Debian's package dataset-fashion-mnist "
                            "or name the folder of the four IDX files")
