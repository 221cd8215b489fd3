"""The directory of a zip archive: read, bounded and checked, before anything in it is.

torch writes its entries uncompressed, so a compressed one is no honest torch file, and could be a thousand times larger than it looks.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath

from analysis.models.files.disk import cannot_read
from analysis.models.files.header import Refused, quoted, size_words

MAX_ENTRIES = 400_000
MAX_DIRECTORY = 64 * 10**6
MAX_RATIO = 100
"""Times an entry of a zipped folder may grow. Weights hardly shrink, JSON and vocabularies by a factor of 3 to 20."""
MAX_SMALL = 32 * 10**6
"""Bytes of an entry that may grow by more: what fits into memory anyway."""
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_TAIL = 65_535 + 22
FOLDER_FILES = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config|processor_config)\.json"
    r"|(model|pytorch_model)(\.[\w-]+)?\.(safetensors|bin)\.index\.json|(vocab|merges|bpe\.codes)\.txt|[\w.-]+\.(model|spm)"
    r"|[\w][\w.-]*\.(safetensors|bin)"
)
"""Names a zipped model folder may hold and Sparsescope reads."""
IGNORED_FILES = re.compile(
    r"(README|LICENSE|NOTICE)[\w.-]*|\.gitattributes|\.DS_Store|chat_template\.jinja|[\w-]+\.(json|md|txt)"
    r"|(optimizer|scheduler|scaler|rng_state\w*|training_args)\.(pt|pth|bin)",
    re.IGNORECASE,
)
"""Names it may hold that are left where they are."""


def entries(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of a zip archive, names, sizes and places checked. Raises `Refused`."""
    _bound_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except OSError as error:
        raise cannot_read(path, error) from error
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise Refused(
            f"{path} must be a complete zip archive, got one that cannot be read ({quoted(str(error))}); get it again."
        ) from error
    seen: set[str] = set()
    size = path.stat().st_size
    at = 0
    for info in sorted(found, key=lambda one: one.header_offset):
        _check_entry(path, info, seen)
        if info.header_offset < at or info.header_offset + info.compress_size > size:
            raise Refused(f"{path} must store its entries one behind the other, got {quoted(info.filename)}, which overlaps; get it again.")
        at = info.header_offset + info.compress_size + 30
    return found


def _bound_directory(path: Path) -> None:
    """Refuse a directory too large to list: a file of 1 GB could hold nothing but ten million entries."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            found = tail.rfind(_END)
            if found < 0 or len(tail) < found + 22:
                raise Refused(f"{path} must be a complete zip archive, got one without its end; get it again.")
            count, length = struct.unpack("<HI", tail[found + 10 : found + 16])
            locator = tail[max(0, found - 20) : found]
            if locator.startswith(_LOCATOR64):
                file.seek(struct.unpack("<Q", locator[8:16])[0])
                record = file.read(56)
                if record.startswith(_END64) and len(record) == 56:
                    count, length = struct.unpack("<QQ", record[32:48])
    except (OSError, OverflowError) as error:
        raise cannot_read(path, error) from error
    if count > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise Refused(f"{path} must hold at most {MAX_ENTRIES:,} entries, got {count:,}; save the model again.")


def _check_entry(path: Path, info: zipfile.ZipInfo, seen: set[str]) -> None:
    name = info.filename
    plain = PurePosixPath(name)
    if (
        not name
        or not name.isprintable()
        or "\\" in name
        or ":" in name
        or plain.is_absolute()
        or ".." in plain.parts
        or info.orig_filename != name
    ):
        raise Refused(f"{path} must hold entries with plain names, got {quoted(info.orig_filename)}; do not use a file from this source.")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Refused(f"{path} must hold files only, got the link {quoted(name)}; pack the files themselves.")
    if info.flag_bits & 0x1:
        raise Refused(f"{path} must not be encrypted, got the entry {quoted(name)}; pack it without a password.")
    if name.casefold() in seen:
        raise Refused(f"{path} must hold every entry once, got {quoted(name)} twice; do not use a file from this source.")
    seen.add(name.casefold())


def kind_of(found: list[zipfile.ZipInfo]) -> str:
    """Which kind of zip it is: ``torch``, ``torchscript``, ``exported``, ``zip`` (a model folder), ``numpy`` or ``archive``."""
    names = [info.filename for info in found]
    last = {PurePosixPath(name).name for name in names}
    if (
        "archive_format" in last
        or "serialized_exported_program.json" in last
        or any("/models/" in f"/{n}" and "/data/" in f"/{n}" for n in names)
    ):
        return "exported"
    if "constants.pkl" in last or any("/code/" in f"/{name}" for name in names):
        return "torchscript"
    if "data.pkl" in last:
        return "torch"
    if "config.json" in last:
        return "zip"
    return "numpy" if names and all(name.endswith(".npy") for name in names) else "archive"


def check_stored(path: Path, found: list[zipfile.ZipInfo]) -> None:
    """Raise `Refused` unless every entry of a torch file is stored as it is, as torch does."""
    for info in found:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Refused(
                f"{path} must store its entries uncompressed, as torch does, got {quoted(info.filename)} of "
                f"{info.compress_size:,} bytes that would "
                f"become {info.file_size:,}; do not use a file from this source."
            )


def members_of_folder(path: Path, found: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """File name -> entry of a zip that is exactly a model folder, the folder itself being in it or not. Raises `Refused`."""
    files = [info for info in found if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
    roots = {PurePosixPath(info.filename).parts[0] if "/" in info.filename else "" for info in files}
    inside = f"{roots.pop()}/" if len(roots) == 1 and "" not in roots else ""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in files:
        name = info.filename.removeprefix(inside)
        if "/" in name:
            raise Refused(
                f"{path} must hold one model folder without folders in it, got {quoted(info.filename)}; pack the model's own files only."
            )
        if FOLDER_FILES.fullmatch(name) and name != "training_args.bin":
            members[name] = info
        elif not IGNORED_FILES.fullmatch(name):
            what = "code, which is never run" if name.endswith((".py", ".so", ".sh")) else "a file that belongs to no model"
            raise Refused(f"{path} must hold a model's config, weights and tokenizer only, got {quoted(name)}, {what}; pack it without.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{path} must be packed by storing or deflating, got another method for {quoted(name)}; pack it again.")
        if info.file_size > max(MAX_SMALL, MAX_RATIO * info.compress_size):
            raise Refused(
                f"{path} must hold entries that grow at most {MAX_RATIO} times, got {quoted(name)} of "
                f"{size_words(info.compress_size)} that would "
                f"become {size_words(info.file_size)}; do not use a file from this source."
            )
    if "config.json" not in members or not any(name.endswith((".safetensors", ".bin")) for name in members):
        what = "no config.json" if "config.json" not in members else "no weights"
        raise Refused(f"{path} must hold config.json and .safetensors or .bin files, got {what}; pack the whole model folder.")
    return members


def unpack(path: Path, into: Path) -> None:
    """Unpack a zip that is exactly a model folder into an existing empty folder; never more bytes than its directory says."""
    found = members_of_folder(path, entries(path))
    try:
        with zipfile.ZipFile(path) as archive:
            for name, info in found.items():
                with archive.open(info) as source, (into / name).open("xb") as target:
                    left = info.file_size
                    while chunk := source.read(min(2**20, left + 1)):
                        left -= len(chunk)
                        if left < 0:
                            raise Refused(f"{path} must hold what its directory says, got more in {quoted(name)}; get it again.")
                        target.write(chunk)
    except (zipfile.BadZipFile, EOFError) as error:
        raise Refused(
            f"{path} must be a complete zip archive, got one that cannot be read ({quoted(str(error))}); get it again."
        ) from error
