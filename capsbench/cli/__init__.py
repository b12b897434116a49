"""The command line: a command parses, calls one function, and prints.

Commands import what they need when they run, so that ``capsbench --help`` answers at once.
"""

import os
import sys
from collections.abc import Sequence

import click

from capsbench.cli import bench, conformance, data, exporting, files, importing, judging, listing, report, trying
from capsbench.cli.exits import exit_code, prepare_streams
from capsbench.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="capsbench")
def cli() -> None:
    """Robustness of capsule and equivariant networks on digits, exact and reproducible.

    \b
    Example:
      capsbench generate multimnist
      capsbench run --suite affine
    """


for command in (
    files.generate,
    files.verify,
    files.merge,
    files.info,
    files.preview,
    files.pack,
    files.card,
    importing.import_group,
    data.data,
    listing.list_command,
    bench.run,
    exporting.export,
    judging.tests,
    judging.judge,
    conformance.check,
    trying.try_command,
    report.report,
    report.compare,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    # For GNU's OpenMP, which reads it when torch starts its threads: how long a thread that waits spins before it
    # sleeps. Measured, small CapsNet on two cores: idle 1,500 images/s (1,350 by default, 1,120 if it never spins);
    # beside a busy process 420 (some 100 where it spins for long, 800 if it never does).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its profiler logs warnings that mean nothing to our users
    prepare_streams()
    sys.exit(exit_code(lambda: cli.main(arguments, prog_name="capsbench", standalone_mode=False)))
