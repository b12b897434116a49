"""Options of several commands, and a note that several commands print."""

import os
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import click

from capsbench.cli.settings import name_variables, read_config
from capsbench.data.naming import MNIST, named_digits, source_of
from capsbench.data.sets import SETS
from capsbench.errors import UsageError
from capsbench.paths import user_path


class UserPath(click.Path):
    """A path as `user_path` reads it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; what is none ends the command."""
        return user_path(value, _named(param))


def _named(param: click.Parameter | None) -> str:
    """What a message calls an option or an argument."""
    if param is None:
        return "A path"
    return param.opts[0] if isinstance(param, click.Option) else param.make_metavar(click.get_current_context())


class DigitsPath(UserPath):
    """A folder of digits, or a word that stands for digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text, if it means something; of a folder without a name its path."""
        found = source_of(value)
        return value if found.path is None or found.name != MNIST else str(super().convert(value, param, ctx))


PATH = UserPath()


class Command(click.Command):
    """A command that takes no option for the value of another one: ``--out --dry-run`` lacks a value.

    Its options also come from ``CAPSBENCH_*`` variables and from a file, and it can be quiet.
    """

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        config = click.Option(
            ["--config"],
            type=PATH,
            metavar="FILE.toml",
            is_eager=True,
            expose_value=False,
            callback=read_config,
            help="Take options from a file.",
        )
        quiet = click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="Print results and errors only.",
        )
        self.params += [config, quiet]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses the command line before anything is read or run."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        names = {name for one in options for name in one.opts + one.secondary_opts}
        valued = {name for one in options if not (one.is_flag or one.count) for name in one.opts}
        words = iter(args)
        for word in words:
            if word == "--":
                break
            if word in valued and (value := next(words, "")) in names:
                raise UsageError(f"{word} needs a value, got the option {value}. A file of that name is ./{value}.")
        name_variables(ctx, options)
        first = "".join(args[:1])
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            from capsbench import registry

            if error.param is None or error.param.name != "suite" or first not in registry.catalog("suite"):
                raise
            raise UsageError(f"{first!r} belongs to no option. Did you mean --suite {first}?") from None

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a quiet one says nothing on stderr until it ends, where an error is printed."""
        if not ctx.meta.get(QUIET):
            return super().invoke(ctx)
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            return super().invoke(ctx)


QUIET = "capsbench.quiet"


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


DIGITS_AS = "capsbench.digits_as"

found_digits_option = click.option(
    "--digits",
    type=DigitsPath(),
    default="auto",
    metavar="auto|embedded|DIR",
    show_default=True,
    help="Where the source digits are looked for.",
)
"""Of commands that know which digits they need."""


def _remember_name(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    ctx.meta[DIGITS_AS] = value


def _named_digits(ctx: click.Context, param: click.Parameter, value: str) -> str:
    return named_digits(value, ctx.meta.get(DIGITS_AS))


def digits_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that choose the digits; a command gets one text for both."""
    chosen = click.option(
        "--digits",
        type=DigitsPath(),
        default="auto",
        metavar="auto|embedded|SET|DIR",
        show_default=True,
        callback=_named_digits,
        help=f"The source digits; SET: {', '.join(SETS)}, see `capsbench data fetch SET`.",
    )
    named = click.option(
        "--digits-as",
        metavar="NAME",
        is_eager=True,
        expose_value=False,
        callback=_remember_name,
        help="What digits that are not MNIST's are called: DIR is any folder like MNIST's, or a file like Keras' "
        "mnist.npz.",
    )
    return chosen(named(command))


force_option = click.option("--force", is_flag=True, help="Replace a file of another spec.")
suites_option = click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="FILE.py:SUITE",
    callback=lambda ctx, param, value: _load_suites(value),
    expose_value=False,
    help="A suite of your own that results are of; its code is run. May be repeated.",
)
"""Of commands that read results: a result does not choose the code that is run."""


def _load_suites(names: tuple[str, ...]) -> None:
    from capsbench.registry import load_named

    load_named(names)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
set_option = click.option("--set", "sets", multiple=True, metavar="K=V", help="Set a parameter; may be repeated.")


def say_embedded(asked: str) -> None:
    """Prints how to get full MNIST, unless the user chose the embedded digits."""
    if asked != "embedded":
        click.echo("Note: made from the 5,000 embedded digits. Full MNIST: capsbench data fetch", err=True)
