"""Commands for networks that ran elsewhere: tests, judge."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from capsbench.cli.bench import show_all
from capsbench.cli.completion import names, presets
from capsbench.cli.options import PATH, Command, digits_option, json_option, say_embedded
from capsbench.errors import escaped, plain
from capsbench.parameters import split_assignments


@click.command(cls=Command)
@click.option(
    "--suite",
    required=True,
    shell_complete=names("suite"),
    help="The experiment: affine, clutter, crowding, mnist or overlap.",
)
@click.option(
    "--preset",
    default="small",
    show_default=True,
    shell_complete=presets("suite", "suite"),
    help="The protocol, such as smoke, small, medium or paper; see capsbench list.",
)
@click.option("--set", "sets", multiple=True, metavar="K=V", help="Change a setting of the preset; may be repeated.")
@digits_option
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The folder of the files.")
@click.option("--force", is_flag=True, help="Replace files of other tests.")
@json_option
def tests(suite: str, preset: str, sets: tuple[str, ...], digits: str, out: Path, force: bool, as_json: bool) -> None:
    """Write the files that a suite tests on, and manifest.json: what `capsbench judge` needs scores for.

    Compute scores for them with any framework, and save for each NAME of the manifest NAME.npz or NAME.csv beside it.
    See docs/scores.md.

    \b
    Example:
      capsbench tests --suite affine --out affine-tests
      capsbench tests --suite overlap --preset smoke --out pairs
    """
    from capsbench.cli.progress import progress
    from capsbench.judging.tests import tests as write_tests

    manifest = write_tests(
        suite, out=out, preset=preset, changes=split_assignments(sets), digits=digits, force=force, progress=progress
    )
    say_embedded(digits)
    if as_json:
        click.echo(json.dumps(asdict(manifest), indent=2))
        return
    for one in manifest.files:
        height, width = one.image_shape
        click.echo(f"{out / one.file}: {one.count:,} images of {height}x{width}, digest {one.digest[:12]}")
    click.echo(f"manifest: {out / 'manifest.json'}")
    click.echo(
        f"Save the scores of NAME.h5 as {out}/NAME.npz or NAME.csv, then: "
        f"capsbench judge --suite {suite} {out} --label NETWORK",
        err=True,
    )


@click.command(cls=Command)
@click.option("--suite", required=True, shell_complete=names("suite"), help="The experiment that the scores are for.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--label", required=True, metavar="NAME", help="What tables call the network.")
@click.option("--seed", default="0", show_default=True, metavar="N", help="Which of several trainings it is.")
@digits_option
@click.option("--out", type=PATH, default="runs", show_default=True, metavar="DIR", help="The folder of results.")
@click.option("--wide", is_flag=True, help="Show every column of the table.")
@json_option
def judge(suite: str, folder: Path, label: str, seed: str, digits: str, out: Path, wide: bool, as_json: bool) -> None:
    """Judge scores of a network that ran elsewhere: a result like that of a run, and its table.

    DIR is the folder that `capsbench tests` wrote. For each NAME of its manifest it holds NAME.npz, with `scores`
    [N, 10] and `digest`, or NAME.csv, with a first line `index,0,1,...,9`, before
    which `# digest HEX` may stand. See docs/scores.md.

    \b
    Example:
      capsbench judge --suite affine affine-tests --label my-network
    """
    from capsbench.judging.judge import judge_scores
    from capsbench.report.pages import render

    judged = judge_scores(suite, folder, label=label, seed=seed, digits=digits, out=out)
    for sentence in judged.warnings:
        click.echo(plain(f"Warning: {sentence}"), err=True)
    if as_json:
        click.echo(render([judged.result], "json"))
        return
    click.echo(escaped(render([judged.result], wide=wide)))
    click.echo(f"\nresult: {judged.path}")
    show_all([judged.result], judged.path.parent)
