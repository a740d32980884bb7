"""Reading picture files of any size as device images of one size, with errors that say what is wrong.

Pictures are grey or colour: transparency is dropped, 16-bit grey becomes 8-bit, and a camera's note on how it
was held turns the picture upright.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "Channels", "Fit", "Format", "read_pictures"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

Fit = Literal["pad", "stretch"]
Channels = Literal["grey", "colour"]

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
# Below this, pictures are read before a progress bar would be seen.
_MANY = 2000
# Pictures that are read at most before one is taken.
_AHEAD = 2000


@dataclass(frozen=True)
class Format:
    """What pictures are brought to.

    Attributes:
        width: In pixels.
        height: In pixels.
        fit: `pad` keeps the aspect ratio, in the middle of black; `stretch` does not.
        channels: `grey` or `colour`; None: as each picture is.
    """

    width: int
    height: int
    fit: Fit = "pad"
    channels: Channels | None = None


def read_pictures(
    files: Sequence[Path], formats: Sequence[Format]
) -> Iterator[NDArray[np.uint8] | ValueError]:
    """Reads pictures, several at a time.

    Args:
        files: The files.
        formats: What each is brought to.

    Yields:
        By file, `(height, width, 1 or 3)` uint8, or the error that says why it cannot be read.

    Raises:
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("Pillow is not installed: pip install 'ddnn_tf[pictures]'.") from None
    from rich.console import Console
    from rich.progress import track

    def read(file: Path, form: Format) -> NDArray[np.uint8] | ValueError:
        try:
            return _read(file, form)
        except ValueError as error:
            return error

    def read_ahead(pool: ThreadPoolExecutor) -> Iterator[NDArray[np.uint8] | ValueError]:
        # The pool would read everything before the first picture is taken out.
        for start in range(0, len(files), _AHEAD):
            yield from pool.map(read, files[start : start + _AHEAD], formats[start : start + _AHEAD])

    console = Console(stderr=True)
    is_shown = console.is_terminal and len(files) > _MANY
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # `_read` refuses such a picture itself, in the words of this package.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield from track(
            read_ahead(pool),
            "reading pictures",
            len(files),
            console=console,
            transient=True,
            disable=not is_shown,
        )


def _read(file: Path, form: Format) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        if not file.stat().st_size:
            raise ValueError("the file is empty")
        with Image.open(file) as image:
            width, height = image.size
            if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(
                    f"it has {width}x{height} pixels, more than the {Image.MAX_IMAGE_PIXELS} that are decoded"
                )
            # Lets JPEG decode a large picture at a fraction of its size.
            image.draft(image.mode, (2 * form.width, 2 * form.height))
            upright = ImageOps.exif_transpose(image)
            return np.asarray(_resized(_in_bytes(upright, form.channels), form), np.uint8).reshape(
                form.height, form.width, -1
            )
    except Image.DecompressionBombError:
        raise ValueError("it has more pixels than are decoded") from None
    except Image.UnidentifiedImageError:
        raise ValueError("it is no picture, or of a kind that is not read") from None
    except ValueError:
        raise
    except Exception as error:  # what Pillow raises depends on where a file is damaged
        raise ValueError(str(error) or type(error).__name__) from None


def _in_bytes(image: Image.Image, channels: Channels | None) -> Image.Image:
    """Grey or colour pixels of 8 bits."""
    from PIL import Image

    if image.mode in _GREY_16:
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode not in (*_GREY, *_COLOUR):
        raise ValueError(f"its pixels are of the kind '{image.mode}', expected 8 or 16 bits")
    is_grey = image.mode in _GREY if channels is None else channels == "grey"
    return image.convert("L" if is_grey else "RGB")


def _resized(image: Image.Image, form: Format) -> Image.Image:
    from PIL import Image

    size = (form.width, form.height)
    if image.size == size:
        return image
    if form.fit == "stretch":
        return image.resize(size, Image.Resampling.LANCZOS)
    scale = min(form.width / image.width, form.height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    padded = Image.new(image.mode, size)
    padded.paste(
        image.resize(inner, Image.Resampling.LANCZOS),
        ((form.width - inner[0]) // 2, (form.height - inner[1]) // 2),
    )
    return padded
