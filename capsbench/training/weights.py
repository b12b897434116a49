"""Files of weights as anyone writes them: read without running anything, fitted to a network, and written.

A ``.pt`` file is an archive of torch's that holds tensors and plain values; it is loaded with ``weights_only=True``. A
``.safetensors`` file holds tensors alone.
"""

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from capsbench.errors import DataFileError, StorageError, UsageError, first_line
from capsbench.system.disk import human_bytes, is_regular, write_atomically
from capsbench.training.checkpoints import is_as_large_as_it_seems
from capsbench.training.config import State
from capsbench.training.plain import from_plain, to_plain

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params")
"""Names under which training loops keep a state dict; the first of several that fit equally well is taken."""

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What wrappers put before names: DataParallel, torch.compile, and classes that hold a network."""

COUNTERS = ("n_averaged",)  # of torch's AveragedModel, which no network has
SUFFIXES = (".pt", ".safetensors")
DEEPEST = 4  # levels of mappings, and prefixes of a name, that are looked through
SHOWN = 4  # names in a message
ARCHIVE, PICKLE = b"PK\x03\x04", b"\x80"  # how an archive of torch's begins, and what torch wrote before 1.6


def read_weights(path: Path, *, largest: int) -> tuple[Mapping[str, Any], str]:
    """What a file of weights holds, on the CPU and not looked into yet, and the SHA-256 of the file.

    Args:
        path: The file.
        largest: Bytes; a larger file is not read.

    Raises:
        DataFileError: It is missing, damaged, too large, or holds more than tensors and plain values.
        UsageError: It needs a package that is not installed.
        StorageError: It cannot be read.
    """
    if not is_regular(path):
        raise DataFileError(f"There is no file {path} of weights.")
    try:
        size = path.stat().st_size
        if size > largest:
            raise DataFileError(
                f"{path} has {human_bytes(size)}; weights of this network, with all that a training loop keeps beside "
                f"them, have {human_bytes(largest)} at most. {SAVE}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Make it readable.") from None
    if content.startswith((ARCHIVE, PICKLE)):
        found = _from_torch(path, content)
    elif path.suffix == SUFFIXES[1] or content[8:9] == b"{":
        found = _from_safetensors(path, content)
    else:
        raise DataFileError(f"{path} is neither a file that torch.save wrote nor a .safetensors file.")
    if not isinstance(found, Mapping):
        raise DataFileError(f"{path} holds a {type(found).__name__}, not weights by name. {SAVE}")
    return found, hashlib.sha256(content).hexdigest()


SAVE = "Save them with torch.save(net.state_dict(), FILE)."
PROGRAMS = {"constants.pkl": "of torch.jit.save", "archive_format": "of torch.export.save"}
"""Archives of torch that are no weights, by a file that is in these alone."""


def _from_torch(path: Path, content: bytes) -> Any:
    if content.startswith(PICKLE):
        raise DataFileError(f"{path} is a pickle, as torch wrote before version 1.6, which is not read. {SAVE}")
    for part, what in PROGRAMS.items():
        if part in _parts(content):
            raise DataFileError(f"{path} is {what}: a program, not weights by name. {SAVE}")
    if not is_as_large_as_it_seems(content) or not _is_whole(content):
        raise DataFileError(f"{path} is damaged, or no file that torch.save wrote.")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes
        outside = re.search(r"(?:GLOBAL|Unsupported class|type) ([\w.]+\.[\w.]+)", str(error))
        why = f"it holds {outside[1]}, more than tensors and plain values" if outside else first_line(error)
        raise DataFileError(f"{path} cannot be loaded without running code: {why.rstrip('.')}. {SAVE}") from None


def _parts(content: bytes) -> set[str]:
    """The names of the files of an archive, without their folders; none of what is no archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception:  # zipfile raises what it likes for what is no archive
        return set()


def _is_whole(content: bytes) -> bool:
    """Whether each part of an archive has its checksum, which torch does not look at."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises what it likes for what is no archive
        return False


def _from_safetensors(path: Path, content: bytes) -> Mapping[str, torch.Tensor]:
    safetensors = _safetensors(path)
    try:
        found: Mapping[str, torch.Tensor] = safetensors.load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except Exception as error:  # safetensors raises what it likes
        raise DataFileError(f"{path} is damaged, or no .safetensors file ({first_line(error)}).") from None
    stated = header.get(DIGEST) if isinstance(header, dict) else None
    if stated is not None and stated != _digest(found):
        raise DataFileError(f"{path} is damaged: its weights do not have the SHA-256 that it states.")
    return found


def _safetensors(path: Path) -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise UsageError(f"{path} needs the package safetensors: pip install 'capsbench[safetensors]'") from None
    return safetensors.torch


DIGEST = "sha256 of the weights"


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    content = hashlib.sha256()
    for name, value in sorted(state.items()):
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def fitted(path: Path, found: Mapping[str, Any], own: State, *, network: str, part: str = "") -> State:
    """The state of a network from what a file holds: unwrapped, and with the network's names.

    Args:
        path: The file, for messages.
        found: What `read_weights` gave.
        own: The network's own state, for names, shapes and types.
        network: What messages call the network.
        part: Of a suite that trains several networks the name of this one: its weights have it as a prefix.

    Raises:
        DataFileError: Weights are missing or superfluous, or have another shape or type; all are named.
    """
    candidates = [named for one in _states(found, part) for named in _renamed(one, own)]
    if not candidates:
        several = f" of the network {part!r}, each named {part}.…" if part else ""
        raise DataFileError(f"{path} holds no weights by name{several}. {SAVE}")
    best = min(candidates, key=lambda one: len(one.keys() ^ own.keys()))
    wrong = {name: told for name, value in own.items() if name in best and (told := _unlike(best[name], value, name))}
    problems = [
        _listed("missing", own.keys() - best.keys()),
        _listed("superfluous", best.keys() - own.keys()),
        *(f"{name} {told}" for name, told in sorted(wrong.items())[:SHOWN]),
        *([f"and {len(wrong) - SHOWN} more of another shape or type"] if len(wrong) > SHOWN else []),
    ]
    if any(problems):
        raise DataFileError(f"{path} does not fit {network}: {'; '.join(filter(None, problems))}.")
    return {name: from_plain(best[name]) if name.endswith(EXTRA) else best[name].detach() for name in own}


EXTRA = "_extra_state"  # how torch names what modules keep beside tensors


def _listed(what: str, names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"{what}: {', '.join(shown[:SHOWN])}{more}" if shown else ""


def _unlike(found: Any, own: Any, name: str) -> str:
    """What of a value keeps it from its place in a network; nothing where it fits."""
    if name.endswith(EXTRA) or not isinstance(own, torch.Tensor):
        return ""
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided or found.device.type != "cpu":
        return "is no plain tensor"
    if found.shape != own.shape:
        return f"is {list(found.shape)}, needs {list(own.shape)}"
    if (found.is_floating_point(), found.is_complex()) != (own.is_floating_point(), own.is_complex()):
        return f"is {str(found.dtype)[6:]}, needs {str(own.dtype)[6:]}"
    return "holds NaN" if bool(found.isnan().any()) else ""


def _states(found: Mapping[Any, Any], part: str) -> Iterator[Mapping[str, Any]]:
    """What may be the state of a network: the mappings that hold tensors by name, outer ones and usual names first."""
    waiting: list[tuple[Mapping[Any, Any], int]] = [(found, 1)]
    seen: set[int] = set()
    while waiting:
        here, level = waiting.pop(0)
        if id(here) in seen:  # a file can hold one mapping in a thousand places
            continue
        seen.add(id(here))
        named = {name: value for name, value in here.items() if isinstance(name, str)}
        if any(isinstance(value, torch.Tensor) for value in named.values()):
            own = {name.removeprefix(f"{part}."): value for name, value in named.items() if name.startswith(f"{part}.")}
            if own or not part:
                yield own if part else named
        elif part and isinstance(named.get(part), Mapping):
            yield {name: value for name, value in named[part].items() if isinstance(name, str)}
        inner = {name: value for name, value in named.items() if isinstance(value, Mapping)}
        if level < DEEPEST:
            usual = [name for name in WRAPPERS if name in inner]
            waiting += [(inner[name], level + 1) for name in [*usual, *sorted(inner.keys() - set(usual))]]


def _renamed(state: Mapping[str, Any], own: State) -> Iterator[Mapping[str, Any]]:
    """A state with its names, and without the prefixes that wrappers put before them."""
    counted = own.keys() | (state.keys() - set(COUNTERS))
    named = {name: value for name, value in state.items() if name in counted}
    waiting = [named]
    wrapped = [one for one in PREFIXES if own and all(name.startswith(one) for name in own)]
    waiting += [{f"{one}{name}": value for name, value in named.items()} for one in wrapped]
    for _ in range(DEEPEST):
        yield from waiting
        shorter = []
        for one in waiting:
            for prefix in PREFIXES:
                stripped = {_without(name, prefix): value for name, value in one.items()}
                if len(stripped) == len(one) and stripped.keys() != one.keys():
                    shorter.append(stripped)
        waiting = shorter


def _without(name: str, prefix: str) -> str:
    """A name without a prefix; what torch.compile puts before a part of a network goes from the middle, too."""
    return f".{name}".replace(f".{prefix}", ".")[1:] if prefix == "_orig_mod." else name.removeprefix(prefix)


def check_suffix(path: Path) -> None:
    """Refuses what is no name of a file of weights.

    Raises:
        UsageError: It ends otherwise, or needs a package that is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"A file of weights ends in {' or '.join(SUFFIXES)}, got {path.name}.")
    if path.suffix == SUFFIXES[1]:
        _safetensors(path)


def write_weights(path: Path, state: State) -> None:
    """Writes the state of a network: a state dict for torch.load, or a ``.safetensors`` file.

    Raises:
        UsageError: The name ends otherwise, a package is missing, or safetensors cannot hold the network's extra state.
        StorageError: It could not be written.
    """
    check_suffix(path)
    if path.suffix == SUFFIXES[0]:
        buffer = io.BytesIO()
        torch.save(to_plain(dict(state)), buffer)
        write_atomically(path, buffer.getbuffer())
        return
    others: Sequence[str] = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UsageError(f"A .safetensors file holds tensors alone, and {others[0]} is none. Write a .pt file.")
    tensors = {name: value.contiguous().clone() for name, value in state.items()}
    metadata = {"format": "pt", DIGEST: _digest(tensors)}
    write_atomically(path, _safetensors(path).save(tensors, metadata=metadata))


def size_of(own: State) -> int:
    """Bytes of the tensors of a state, on the device ``meta`` too."""
    return sum(value.numel() * value.element_size() for value in own.values() if isinstance(value, torch.Tensor))


def largest_file(own: State) -> int:
    """Bytes that no file of a network's weights exceeds, with optimizer, averages and what else loops keep beside."""
    return 16 * size_of(own) + 2**26
