"""Options from elsewhere than the command line: ``CAPSBENCH_*`` variables and a TOML file; and quiet commands."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from capsbench.errors import DataFileError, UsageError, shown

OWN = ("config", "quiet", "help")


def name_variables(ctx: click.Context, options: Sequence[click.Option]) -> None:
    """Gives every option the name of its variable: ``--model`` of ``capsbench run`` is CAPSBENCH_RUN_MODEL."""
    command = [part.upper() for part in ctx.command_path.split()[1:]]
    for one in options:
        if one.envvar is None and _word(one) not in ("help", "version"):
            one.envvar = "_".join(["CAPSBENCH", *command, _word(one).upper().replace("-", "_")])


def _word(option: click.Option) -> str:
    """The option as a user writes it, without dashes."""
    return max(option.opts, key=len).lstrip("-")


def read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Takes the options of a command from its table in a file; what stands on the command line comes first."""
    if path is None:
        return
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise DataFileError(f"--config {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {path} is not TOML: {error}.") from None
    table: Any = content
    command = ctx.command_path.split()[1:]
    for part in command:
        table = table.get(part) if isinstance(table, Mapping) else None
    if not isinstance(table, Mapping):
        raise UsageError(f"--config {path} has no table [{'.'.join(command)}].")
    known = {_word(one): one for one in ctx.command.params if isinstance(one, click.Option)}
    known = {word: one for word, one in known.items() if word not in OWN}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise UsageError(
            f"--config {path}: {' '.join(ctx.command_path.split())} has no option {shown(unknown[0])!r}. "
            f"Known: {', '.join(sorted(known))}."
        )
    ctx.default_map = {str(known[key].name): _value(known[key], key, value) for key, value in table.items()}


def _value(option: click.Option, key: str, value: Any) -> Any:
    """A value of the file as the command line would have it."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"--config: {key} must be true or false, got {shown(value)}.")
        return value
    if isinstance(value, Mapping):
        value = [f"{name}={_text(one)}" for name, one in value.items()]
    if option.multiple:
        return [_text(one) for one in value] if isinstance(value, list) else [_text(value)]
    return _text(value)


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
