"""Images, from files or written into the row, to pixels; and what tasks that are shown them have in common."""

from __future__ import annotations

import atexit
import base64
import binascii
import io
import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.errors import DataError, MissingExtra
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.tasks.base import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase

    from weitiao.data.table import Table
    from weitiao.tasks.base import Rows

__all__ = [
    "IMAGE",
    "ImageSettings",
    "WithImages",
    "colored",
    "data_uri",
    "open_image",
    "pixels",
    "two_folders",
    "why_not",
]

IMAGE = Field(
    "image", "image", True, ("image_path", "img", "picture", "photo", "filename", "file_name", "图片", "图像", "照片")
)
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


class ImageSettings(Options):
    """What a vision model is shown."""

    image_size: int | None = Setting(
        None, ge=16, le=1024, description="pixels of a side; null: the vision model's own, 64 for a new one"
    )
    image_folder: str | None = Setting(
        None, description="folder that the paths of images are relative to; null: the working folder"
    )


class WithImages(Task):
    """A task whose rows have an image; ``state["sight"]`` says what the model is shown of it."""

    settings: Any

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self._seen: dict[str, str | None] = {}  # image to what is wrong with it

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose image is missing or broken, and what else the task refuses."""
        found = {i: why for i, image in enumerate(table.column("image")) if (why := self._why_not(image))}
        return {**super().accepts(table), **found}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say how many images are missing or broken, those of rows that were set aside too."""
        here = [(table.places[i], image) for table in tables.values() for i, image in enumerate(table.column("image"))]
        places = [str(place) for place, image in here if self._why_not(image)]
        places += [str(one.place) for table in tables.values() for one in table.set_aside if "image" in one.reason]
        wrong = {image: why for image, why in self._seen.items() if why}
        if wrong:
            kinds = Counter(why.partition(": ")[0] for why in wrong.values())
            yield Finding(
                self.name,
                "warning",
                f"{len(wrong):,} of {len(self._seen):,} images cannot be used: "
                + "; ".join(f"{kind} ({n:,})" for kind, n in kinds.most_common())
                + ".",
                "Bring the files back, or set task.image_folder to where they are; their rows are set aside.",
                places=tuple(dict.fromkeys(places))[:5],
                count=len(wrong),
                evidence={"examples": list(wrong.values())[:5]},
            )

    def shown_to(self, inputs: Rows) -> torch.Tensor:
        """Read the images of encoded rows: ``(rows, 3, size, size)``."""
        import torch

        sight = self.state["sight"]
        seen = [pixels(self._open(row["image"]), sight["size"], sight["mean"], sight["deviation"]) for row in inputs]
        return torch.from_numpy(np.stack(seen))

    def portable(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row that needs no file: its image written into it, at the size that the model is shown."""
        return {**row, "image": data_uri(self._open(row["image"]), self.state["sight"]["size"])}

    def _open(self, value: str) -> Any:
        return open_image(value, self.settings.image_folder)

    def _why_not(self, value: Any) -> str | None:
        key = str(value)
        if key not in self._seen:
            self._seen[key] = why_not(value, self.settings.image_folder)
        return self._seen[key]


def colored(color: Sequence[int]) -> str:
    """Return a small square of one color, written out, for smallest cases."""
    from PIL import Image

    return data_uri(Image.new("RGB", (16, 16), tuple(color)), 16)


@cache
def two_folders() -> Path:
    """Make two folders with a square of another color each, for as long as the process lives."""
    folder = Path(tempfile.mkdtemp(prefix="weitiao-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, color in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (folder / name).mkdir()
        open_image(colored(color)).save(folder / name / "square.png")
    return folder
