"""Images, from files or written into the row, to pixels."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weitiao.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

__all__ = ["data_uri", "open_image", "pixels", "why_not"]

_URI = "data:image/"


def open_image(value: str, folder: str | None = None) -> Image:
    """Return an image in three colors.

    Parameters
    ----------
    value
        The path of a file, relative to `folder`; or the image itself as ``data:image/png;base64,...``.
    folder
        ``None`` stands for the working folder.

    Raises
    ------
    DataError
        It is missing or cannot be read.
    MissingExtra
        Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra("pillow", "vision", "Reading images") from error

    shown = value if len(value) <= 80 else f"{value[:60]}…"
    fix = "Paths are relative to task.image_folder, or else to the working folder."
    broken = (OSError, ValueError, SyntaxError, binascii.Error, UnidentifiedImageError, Image.DecompressionBombError)
    written = value.startswith(_URI)
    path = Path() if written else Path(folder or ".") / value
    if not written and not _is_file(path):
        raise DataError(f"the image is missing: {shown}", fix=fix)
    try:
        bytes_or_path: Any = io.BytesIO(base64.b64decode(value.partition(",")[2], validate=True)) if written else path
        with Image.open(bytes_or_path) as image:
            return image.convert("RGB")
    except broken as error:
        raise DataError(f"the image cannot be read: {shown}", fix="Replace it, or leave the row out.") from error


def why_not(value: Any, folder: str | None = None) -> str | None:
    """Return why there is no such image, or ``None`` if it can be read to its end."""
    if not isinstance(value, str) or not value.strip():
        return "no image"
    try:
        open_image(value, folder)
    except DataError as error:
        return error.what
    return None


def pixels(image: Image, size: int, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Return ``(3, size, size)``, float32: each color from 0 to 1, less its mean, by its deviation."""
    values = np.asarray(_square(image, size), dtype=np.float32) / 255
    scaled = (values - np.array(mean, dtype=np.float32)) / np.array(deviation, dtype=np.float32)
    return scaled.transpose(2, 0, 1)


def data_uri(image: Image, size: int) -> str:
    """Return the image as a square of `size` pixels, written out: its pixels are those that `pixels` makes."""
    into = io.BytesIO()
    _square(image, size).save(into, format="PNG")
    return f"{_URI}png;base64,{base64.b64encode(into.getvalue()).decode()}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one with a zero byte
        return False


def _square(image: Image, size: int) -> Image:
    from PIL import Image as images

    return image if image.size == (size, size) else image.resize((size, size), images.Resampling.BILINEAR)
