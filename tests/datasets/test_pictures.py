from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnn_tf.datasets.pictures import Format, read_pictures


def read(file: Path, width: int = 8, height: int = 8, **form: str) -> np.ndarray:
    [content] = read_pictures([file], [Format(width, height, **form)])  # type: ignore[arg-type]
    if isinstance(content, ValueError):
        raise content
    return content


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_pixels_of_the_right_size_stay(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(read(save(tmp_path / f"colour{suffix}", pixels)), pixels)
    assert np.array_equal(read(save(tmp_path / f"grey{suffix}", pixels[..., 0])), pixels[..., :1])


def test_jpeg(tmp_path: Path) -> None:
    pixels = np.full((600, 800, 3), (200, 100, 50), np.uint8)
    assert np.abs(read(save(tmp_path / "large.jpg", pixels), fit="stretch") - (200.0, 100, 50)).max() < 4


def test_padding_keeps_the_aspect_ratio_and_stretching_does_not(tmp_path: Path) -> None:
    file = save(tmp_path / "wide.png", np.full((10, 40), 255, np.uint8))
    padded = read(file, 16, 8)[..., 0]
    assert padded.shape == (8, 16)
    assert (padded[2:6] == 255).all()
    assert not padded[:2].any()
    assert not padded[6:].any()
    assert (read(file, 16, 8, fit="stretch") == 255).all()
    # A line that would become thinner than a pixel stays one.
    assert read(save(tmp_path / "line.png", np.full((1, 400), 255, np.uint8))).any()


def test_kinds_of_pixels(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 4), np.uint8)
    colour[..., 0], colour[..., 3] = 200, 128
    assert read(save(tmp_path / "transparent.png", colour)).tolist()[0][0] == [200, 0, 0]
    assert read(save(tmp_path / "transparent.png", colour), channels="grey").shape == (8, 8, 1)
    assert read(save(tmp_path / "grey.png", colour[..., 0]), channels="colour").shape == (8, 8, 3)
    deep = save(tmp_path / "deep.png", np.full((8, 8), 40_000, np.uint16))
    assert (read(deep) == 40_000 // 256).all()
    assert read(deep, channels="colour").shape == (8, 8, 3)
    Image.fromarray(colour[..., :3]).convert("P").save(tmp_path / "palette.png")
    assert read(tmp_path / "palette.png").shape == (8, 8, 3)
    with pytest.raises(ValueError, match="of the kind 'F', expected 8 or 16 bits"):
        read(save(tmp_path / "floats.tif", np.zeros((8, 8), np.float32)))


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # the camera stood on its head
    upright = read(save(tmp_path / "turned.png", pixels, exif=turned))[..., 0]
    assert np.array_equal(upright, pixels[::-1])


def test_what_cannot_be_read(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = good.read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^the file is empty$"):
        read(tmp_path / "empty.png")
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        read(tmp_path / "cut.png")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match="no picture, or of a kind"):
        read(tmp_path / "text.jpg")
    for at in range(40, len(content), 977):
        (tmp_path / "damaged.png").write_bytes(content[:at] + b"damaged!" + content[at + 8 :])
        [result] = read_pictures([tmp_path / "damaged.png"], [Format(8, 8)])
        assert isinstance(result, (np.ndarray, ValueError))


@pytest.mark.parametrize("pixels", [100, 4096])
def test_a_picture_that_unfolds_to_too_much_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    """Pillow warns of a bomb from its limit on, and raises from twice the limit on."""
    file = save(tmp_path / "bomb.png", np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels - 1)
    with pytest.raises(ValueError, match=r"pixels, more than|more pixels than are decoded"):
        read(file)
