"""How a command ends: errors become lines on stderr and exit codes here, and nowhere else."""

import codecs
import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from capsbench.errors import CapsbenchError, StorageError, plain

INTERRUPTED = 130
COMPLETE = "_CAPSBENCH_COMPLETE"
"""Set by a shell that asks what a word may be completed to."""

SHOWABLE = "capsbench.showable"
"""The name of `showable` for streams of text."""


def showable(error: UnicodeError) -> tuple[bytes, int]:
    """For characters that a stream cannot encode: the bytes of a file's name as they are, and ``?`` for others."""
    assert isinstance(error, UnicodeEncodeError)
    codes = (ord(one) for one in error.object[error.start : error.end])
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


codecs.register_error(SHOWABLE, showable)


class _Lenient(io.FileIO):
    """A stream of messages: what cannot be written is lost, and the work goes on.

    Its reader may have gone away, as in ``2>&1 | head``, or its disk may be full.
    """

    def write(self, content: Any, /) -> int:
        """Says that it wrote all."""
        written = None
        with suppress(OSError):
            written = super().write(content)  # None where a pipe is full and does not wait
        return memoryview(content).nbytes if written is None else written


def prepare_streams() -> None:
    """Makes stdout and stderr bear any text, and stderr any failure; none of their numbers is free for a file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it was closed before we began, and the next file that is opened would have its number
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SHOWABLE)  # a file's name need not be Unicode, nor may a terminal show all of it
    if sys.stderr is sys.__stderr__:  # not a stream that a caller in Python put in its place
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        messages = io.BufferedWriter(_Lenient(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(messages, encoding, SHOWABLE, line_buffering=True, write_through=True)


def exit_code(command: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code; an error becomes a line on stderr."""
    output = sys.stdout
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            command()
        if sys.stdout is not None:  # it may have been closed before we began
            sys.stdout.flush()
    except CapsbenchError as error:
        return _complain(str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx else "capsbench"
        return _complain(f"{_usage(error)}\nTry '{place} --help'.", error.exit_code)
    except SystemExit as end:
        if COMPLETE in os.environ:  # so click ends when it has answered a shell
            raise
        if sys.stdout is output:  # no other part of ours ends the process in this way
            return _complain(f"The code of a network or a suite ended the process ({end!r}).", CapsbenchError.exit_code)
        # The reader of our output went away, as `head` does: click put a stream of its own in place and ends with 1.
        sys.stdout = output
        _silence_output()
        return 0
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted. Finished work is kept: run the same command again to continue.", err=True)
        return INTERRUPTED
    except OSError as error:  # errors of other files have been explained already: this one is the output's
        _silence_output()
        if isinstance(error, BrokenPipeError):  # the reader of our output went away, as `head` does
            return 0
        return _complain(f"The output could not be written: {error.strerror}.", StorageError.exit_code)
    return 0


def _warn(message: Warning | str, *place: Any, **more: Any) -> None:
    """Shows a warning without the line of code that it came from."""
    click.echo(plain(f"Warning: {message}"), err=True)


def _usage(error: click.UsageError) -> str:
    """What click has to say; of options like a mistyped one only the nearest, where click shows all by the alphabet."""
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"No such option {error.option_name!r}. Did you mean {next(iter(error.possibilities))!r}?"
    return error.format_message()


def _complain(message: str, code: int) -> int:
    click.echo(plain(f"Error: {message}"), err=True)
    return code


def _silence_output() -> None:
    """Python would try to write what is still in the buffer when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
