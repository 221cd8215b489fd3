"""Images from a folder (a subfolder is a class), from the records of a dataset, and scikit-learn's digits.

They are made into tensors as the model's own image processor says; where a model comes without one: resized to its size (bilinear),
scaled to 0 to 1, then (value - 0.5) / 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models.fingerprints import digest, file_digest
from analysis.models.inputs.classes import class_ids
from analysis.models.inputs.examples import Examples, choose
from analysis.models.inputs.naming import IMAGE_SUFFIXES
from analysis.models.inputs.reads import CHANNELS, IMAGE_SIZE, Reads, square
from analysis.models.loading import quiet
from analysis.models.places import cannot_read
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.models.inputs.records import Records

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is opened; other formats of the library may start programs."""
_SETTINGS = ("preprocessor_config.json", "processor_config.json")

Open = Callable[[int], Any]
"""From the position of an example to its picture."""


def image_folder(path: Path, reads: Reads, *, n_tokens: int, window: int, seed: int, dtype: str) -> Examples:
    """A seeded sample of the images below a folder; the class of each is the folder at the top that it lies in, where all lie in one."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise UserError(
            f"an image folder must hold images ({', '.join(IMAGE_SUFFIXES)}), got {path} with none; put each class into a subfolder."
        )
    names = [str(file.relative_to(path)) for file in files]
    tops = [Path(name).parts[0] if len(Path(name).parts) > 1 else None for name in names]
    chosen = choose(len(files), n_tokens, window, seed)
    given = None if None in tops else [str(tops[i]) for i in chosen]
    labels, facts = _labels(given, reads, sorted({str(top) for top in tops}))
    facts |= {"data": path.name, "n_examples_total": len(files), "seed": seed}
    picked = [files[i] for i in chosen]
    make, how = _maker(reads)
    return Examples(
        path.resolve().name,
        _reader(lambda i: _open(picked[i], str(picked[i])), make),
        [names[i] for i in chosen],
        labels=labels,
        argument=reads.name,
        dtype=dtype,
        facts=facts | {"images": how},
        contents=[file_digest(file).encode() for file in picked],
    )


def image_records(name: str, records: Records, reads: Reads, *, n_tokens: int, window: int, seed: int, dtype: str) -> Examples:
    """A seeded sample of the images in a dataset's records."""
    chosen = choose(len(records), n_tokens, window, seed)
    documents = [records[int(i)] for i in chosen]
    given = [document.label() for document in documents]
    some = [label for label in given if label is not None]
    if some and len(some) < len(given):
        raise UserError(f"all records or none must have a label, got {documents[given.index(None)].name} without one; add it.")
    labels, facts = _labels(some or None, reads, records.label_names)
    make, how = _maker(reads)
    return Examples(
        name,
        _reader(lambda i: _open(BytesIO(records.image(int(chosen[i]))), documents[i].name), make),
        [document.name for document in documents],
        labels=labels,
        argument=reads.name,
        dtype=dtype,
        facts=facts | {"data": name, "n_examples_total": len(records), "seed": seed, "images": how},
        contents=[digest([records.image(int(i))]).encode() for i in chosen],
    )


def digits(reads: Reads, *, n_tokens: int, window: int, seed: int, dtype: str) -> Examples:
    """scikit-learn's 1,797 images of handwritten digits, 8 x 8, in the shape the model reads; the facts say what was done.

    A model for images is given them as pictures; a plain module whose first layer is a convolution gets [channels, 8, 8], any other
    [64], or the square its first linear layer takes; values are divided by 16, so from 0 to 1.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    whole: Any = load_digits()
    chosen = choose(len(whole.target), n_tokens, window, seed)
    pixels = (whole.images[chosen] / 16).astype(np.float32)
    pictures = [Image.fromarray(np.rint(image * 255).astype(np.uint8)) for image in pixels]
    if reads.plain:
        values, how = _shaped(pixels, reads.shape)
        read: Any = lambda positions: values[positions]  # noqa: E731
    else:
        make, how = _maker(reads)
        read = _reader(lambda i: pictures[i], make)
    return Examples(
        "digits",
        read,
        [f"digit {i}" for i in chosen],
        labels=whole.target[chosen].astype(np.int64),
        argument=reads.name,
        dtype=dtype,
        facts={"data": "digits", "n_examples_total": len(whole.target), "seed": seed, "images": how, "labels": "the digit"},
        contents=[pixels.tobytes()],
    )


def _shaped(pixels: np.ndarray, shape: tuple[int, ...] | None) -> tuple[np.ndarray, str]:
    """Digits [n, 8, 8] for a plain module whose first layer takes ``shape``, and what was done in words."""
    from PIL import Image

    if shape is not None and len(shape) == 3:
        return np.repeat(pixels[:, None], shape[0], axis=1), f"{shape[0]} x 8 x 8, values 0 to 1"
    side = square(shape[0]) if shape else None
    if side is None or side == 8:
        return pixels.reshape(len(pixels), 64), "64 values, 0 to 1"
    larger = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)) for image in pixels]
    words = f"{side * side} values, 0 to 1, resized from 8 x 8 to {side} x {side} (bilinear)"
    return np.stack(larger).reshape(len(pixels), side * side), words


def _labels(given: Sequence[Any] | None, reads: Reads, names: Sequence[str] | None) -> tuple[np.ndarray | None, dict[str, Any]]:
    if given is None:
        return None, {}
    labels, rule = class_ids(given, reads, names)
    return labels, {"labels": rule}


def _reader(open_one: Open, make: Callable[[list[Any]], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda positions: make([open_one(int(i)) for i in positions])


def _open(source: Any, name: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source, formats=FORMATS) as picture:
            picture.load()
            return picture.copy()
    except (UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(
            f"{name} must be an image of a kind that is opened ({', '.join(FORMATS)}), got none; remove it or save it again."
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} must be an image of fewer pixels, got: {str(error).rstrip('.')}; make it smaller.") from error
    except OSError as error:
        raise cannot_read(Path(name), error) from error


def _maker(reads: Reads) -> tuple[Callable[[list[Any]], np.ndarray], str]:
    """From pictures to an array [n, channels, height, width], and how in words."""
    channels, height, width = reads.shape if reads.shape and len(reads.shape) == 3 else (CHANNELS, 0, 0)
    mode = "L" if channels == 1 else "RGB"
    if reads.folder is not None and any((reads.folder / name).is_file() for name in _SETTINGS):
        processor = _processor(reads.folder)

        def processed(pictures: list[Any]) -> np.ndarray:
            converted = [picture.convert(mode) for picture in pictures]
            return np.asarray(processor(images=converted, return_tensors="np")["pixel_values"], np.float32)

        return processed, f"as the model's own image processor does ({type(processor).__name__})"
    height, width = height or IMAGE_SIZE, width or IMAGE_SIZE

    def stated(pictures: list[Any]) -> np.ndarray:
        from PIL import Image

        small = [np.asarray(picture.convert(mode).resize((width, height), Image.Resampling.BILINEAR), np.float32) for picture in pictures]
        stack = np.stack(small).reshape(len(small), height, width, -1).transpose(0, 3, 1, 2)
        return (stack / 255 - 0.5) / 0.5

    return stated, f"resized to {height} x {width} (bilinear), scaled to 0 to 1, then (value - 0.5) / 0.5: the model comes without settings"


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"the image processor's settings in {folder} must be readable by transformers, got: {first}; get them again."
        ) from error
