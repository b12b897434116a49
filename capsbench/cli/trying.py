"""The command try: does a network fit the suites, and what would it cost."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from capsbench.cli.completion import names
from capsbench.cli.options import Command, digits_option, json_option, set_option
from capsbench.errors import ChecksFailedError, escaped
from capsbench.parameters import split_assignments

if TYPE_CHECKING:
    from capsbench.bench.trying import Trial


@click.command("try", cls=Command)
@click.argument("model", shell_complete=names("model"))
@click.option("--suite", "suites", multiple=True, shell_complete=names("suite"), help="One suite; may be repeated.")
@set_option
@digits_option
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="The device to try it on.")
@json_option
def try_command(
    model: str, suites: tuple[str, ...], sets: tuple[str, ...], digits: str, device: str, as_json: bool
) -> None:
    """Try a network in every suite: does it fit, and what would a cell of each preset take here.

    It is built for the images of each suite and trained for a few steps on 64 random ones. Nothing is written. Times
    are estimates, without data files, statistics and reconstructions. A network of your own is code that is run.

    \b
    Example:
      capsbench try mine.py:Net
      capsbench try torchvision:resnet18 --suite affine
    """
    from dataclasses import asdict

    from capsbench.bench.trying import try_network

    changes = split_assignments(sets)
    say = (lambda suite: click.echo(f"{suite} ...", err=True)) if not as_json else (lambda _: None)
    trials = try_network(model, suites=suites, changes=changes, digits=digits, device=device, report=say)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in trials], indent=2))
    else:
        click.echo(escaped(trials_text(model, trials)))
    if all(one.why_not for one in trials):
        raise ChecksFailedError(f"{model} fits none of these suites.")


def trials_text(model: str, trials: "Sequence[Trial]") -> str:
    """The trials as a table, with why a network does not fit, and what it has to say."""
    from capsbench.report.tables import Table, render_tables
    from capsbench.system.timing import duration

    presets = list(dict.fromkeys(preset for one in trials for preset in one.seconds))
    rows: list[list[str]] = []
    notes = []
    for one in trials:
        row = [one.suite, "; ".join(one.images), "no" if one.why_not else "yes"]
        if one.why_not:
            notes.append(f"{one.suite}: {one.why_not}")
            rows.append([*row, *[""] * (4 + len(presets))])
            continue
        row.append("; ".join(str(speed.scores) for speed in one.speeds))
        row.append("; ".join(f"{speed.parameters:,}" for speed in one.speeds))
        row.append("; ".join(f"{speed.scores[0] / speed.step:,.0f}" for speed in one.speeds))
        row.append("; ".join(f"{1 / speed.prediction:,.0f}" for speed in one.speeds))
        times = [one.seconds.get(preset) for preset in presets]
        rows.append([*row, *("-" if time is None else duration(time) for time in times)])
    remarks = dict.fromkeys(remark for one in trials for speed in one.speeds for remark in speed.remarks)
    headers = ["suite", "images", "fits", "scores", "parameters", "trained /s", "tested /s", *presets]
    notes += remarks
    if presets:
        notes.append("A preset's column: what a cell of it may take on this device, of one network and one seed.")
    return render_tables([Table(headers=headers, rows=rows, notes=notes, title=model)])
