"""Commands on data files: generate, verify, merge, pack, info, preview, card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from capsbench.cli.completion import names, presets, words
from capsbench.cli.options import (
    PATH,
    Command,
    digits_option,
    force_option,
    found_digits_option,
    json_option,
    say_embedded,
    set_option,
)
from capsbench.errors import DataFileError
from capsbench.parameters import split_assignments
from capsbench.spec import SPLITS


@click.command(cls=Command)
@click.argument("dataset", shell_complete=names("data set"))
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="SPLIT",
    shell_complete=words(SPLITS),
    help="train, validation, trainval or test; may be repeated.",
)
@click.option(
    "--preset",
    shell_complete=presets("data set", "dataset"),
    help="A named set of parameters; see `capsbench list`.",
)
@set_option
@click.option("--seed", default=0, show_default=True, help="0..2**64-1.")
@click.option("--count", type=int, help="Number of samples; by default one for each digit of the split.")
@digits_option
@click.option("--layers", is_flag=True, help="Also keep each digit alone.")
@click.option("--out", type=PATH, default=".", metavar="DIR|FILE.h5", show_default=True, help="A folder, or one file.")
@click.option("--shard", metavar="I/N", help="Make only shard I of N, counted from 0; `capsbench merge` joins them.")
@click.option("--workers", default=1, show_default=True, help="Number of processes.")
@force_option
@json_option
def generate(
    dataset: str,
    splits: Sequence[str],
    sets: tuple[str, ...],
    out: Path,
    shard: str | None,
    workers: int,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make the HDF5 files of a data set.

    A stopped run continues where it was; a file that is complete already is verified and kept.

    \b
    Example:
      capsbench generate multimnist
      capsbench generate affnist --split test --set rotation=-45,45 --out data
      capsbench generate multimnist --split trainval --preset paper --workers 8
      capsbench generate multimnist --split trainval --preset paper --shard 0/16
    """
    from capsbench.cli.describing import file_facts, generated_text
    from capsbench.cli.progress import progress
    from capsbench.data.recipes import make_recipe
    from capsbench.files.datafile import DataFile
    from capsbench.files.generation import DEFAULT_SPLITS, generate_files

    parameters = split_assignments(sets)
    recipes = [
        make_recipe(dataset, split=split, parameters=parameters, **options)
        for split in dict.fromkeys(splits or DEFAULT_SPLITS)
    ]
    made = generate_files(recipes, out, shard=shard, workers=workers, force=force, progress=progress)
    files = [DataFile(one.path, digits=options["digits"]) for one in made]
    _note_embedded(files)
    facts = [
        file_facts(file) | {"seconds": one.seconds, "drawn": one.written} for file, one in zip(files, made, strict=True)
    ]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n\n".join(generated_text(one, fact) for one, fact in zip(made, facts, strict=True)))


@click.command(cls=Command)
@click.argument("file", type=PATH)
@click.option("--repair", is_flag=True, help="Generate damaged blocks again from the file's spec.")
@click.option("--sample", default=0, metavar="N", help="Also generate N random samples again and compare their bytes.")
@found_digits_option
def verify(file: Path, repair: bool, sample: int, digits: str) -> None:
    """Check every block of a file against its digest.

    \b
    Example:
      capsbench verify multimnist-test.h5 --sample 500
      capsbench verify multimnist-test.h5 --repair
    """
    from capsbench.cli.progress import progress
    from capsbench.data.columns import block_count
    from capsbench.files.datafile import DataFile
    from capsbench.files.generation import repair_file, wrong_samples
    from capsbench.files.published import recognise
    from capsbench.files.sidecar import remake_command
    from capsbench.parameters import check_number

    check_number("--sample", sample, 0, 2**40)
    try:
        data = DataFile(file, digits=digits)
    except DataFileError as error:
        command = remake_command(file, digits=digits)
        raise DataFileError(f"{error} Generate it again with: {command}" if command else str(error)) from None
    if repair:
        with progress(f"repairing {file.name}") as report:
            repaired = repair_file(file, digits=digits, report=report)
        click.echo(f"{file}: {repaired.written:,} samples generated again, {repaired.reused:,} were right.")
    data.check()
    number = block_count(len(data))
    known = recognise(data.digest)
    held = "1 block" if number == 1 else f"all {number:,} blocks"
    click.echo(f"{file}: {held} of {len(data):,} samples right. Digest {data.digest}")
    if known:
        click.echo(f"{file}: this is {known}.")
    if sample:
        wrong = wrong_samples(data, sample)
        if wrong:
            raise DataFileError(
                f"{file}: {len(wrong)} of {min(sample, len(data))} samples differ from their spec: {wrong[:3]}."
            )
        click.echo(f"{file}: {min(sample, len(data)):,} random samples have the same bytes when generated again.")


@click.command(cls=Command)
@click.argument("out", type=PATH)
@click.argument("shards", metavar="SHARD...", nargs=-1, required=True, type=PATH)
@found_digits_option
@force_option
@json_option
def merge(out: Path, shards: tuple[Path, ...], digits: str, force: bool, as_json: bool) -> None:
    """Join the shards of one spec into one file; missing, repeated, damaged and foreign shards are named.

    \b
    Example:
      capsbench merge multimnist-trainval.h5 multimnist-trainval-*of16.h5
    """
    from capsbench.cli.describing import file_facts, generated_text
    from capsbench.cli.progress import progress
    from capsbench.files.datafile import DataFile
    from capsbench.files.merging import merge_files

    with progress(out.name) as report:
        merged = merge_files(out, shards, digits=digits, force=force, report=report)
    facts = file_facts(DataFile(out, digits=digits)) | {"seconds": merged.seconds, "written": merged.written}
    click.echo(json.dumps(facts, indent=2) if as_json else generated_text(merged, facts, done="merged"))


@click.command(cls=Command)
@click.argument("file", type=PATH)
@found_digits_option
@json_option
def info(file: Path, digits: str, as_json: bool) -> None:
    """Show what a file holds: spec, counts, digest, and measures such as overlap.

    \b
    Example:
      capsbench info multimnist-test.h5
    """
    from capsbench.cli.describing import facts_text, file_facts
    from capsbench.files.datafile import open_dataset

    data = open_dataset(file, digits=digits)
    facts = file_facts(data)
    click.echo(json.dumps(facts, indent=2) if as_json else facts_text(facts))


@click.command(cls=Command)
@click.argument("file", type=PATH)
@click.option("--out", type=PATH, metavar="DIR", help="The folder to write to; by default that of the file.")
@click.option("--url", default="", help="The page where the file is published.")
@found_digits_option
def card(file: Path, out: Path | None, url: str, digits: str) -> None:
    """Describe a file for others: NAME.croissant.json (Croissant, JSON-LD) and NAME.card.md (a data card).

    \b
    Example:
      capsbench card multimnist-test.h5 --url https://example.org/data
    """
    from capsbench.files.card import croissant, data_card
    from capsbench.files.datafile import open_dataset
    from capsbench.system.disk import make_folder, write_atomically

    data = open_dataset(file, digits=digits)
    folder = out or file.parent
    make_folder(folder)
    texts = {"croissant.json": json.dumps(croissant(data, url), indent=2) + "\n", "card.md": data_card(data, url)}
    for ending, text in texts.items():
        path = folder / f"{file.stem}.{ending}"
        write_atomically(path, text.encode(errors="backslashreplace"))
        click.echo(f"card: {path}")


@click.command(cls=Command)
@click.argument("file", type=PATH)
@click.option("--out", type=PATH, help="The PNG to write; by default beside the file.")
@found_digits_option
def preview(file: Path, out: Path | None, digits: str) -> None:
    """Write a picture of the first samples of a file with their labels, pairs in two colours.

    \b
    Example:
      capsbench preview multimnist-test.h5 --out pairs.png
    """
    from capsbench.files.datafile import open_dataset
    from capsbench.files.preview import preview as draw

    data = open_dataset(file, digits=digits)
    target = out or file.with_suffix(".png")
    number = draw(data, target)
    click.echo(f"{target}: {number} samples.")


@click.command(cls=Command)
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@click.option("--undo", is_flag=True, help="Make the contiguous file again, byte for byte.")
@force_option
def pack(file: Path, out: Path, undo: bool, force: bool) -> None:
    """Pack a file for sending: the same data set, smaller, with the same digest.

    HDF5 tools and all commands here can read a packed file; here it is read into memory. To change it, unpack it first.

    \b
    Example:
      capsbench pack multimnist-test.h5 multimnist-test-packed.h5
      capsbench pack multimnist-test-packed.h5 multimnist-test.h5 --undo
    """
    from capsbench.cli.progress import progress
    from capsbench.files.packing import pack_file, unpack_file
    from capsbench.system.disk import human_bytes

    with progress(out.name) as report:
        made = (
            unpack_file(file, out, force=force, report=report)
            if undo
            else pack_file(file, out, force=force, report=report)
        )
    sizes = f"{human_bytes(file.stat().st_size)} to {human_bytes(made.size)}"
    ending = f"{made.seconds:.2f} s" if made.written else "was whole already, verified and left"
    click.echo(f"{out}: {made.written + made.reused:,} samples, {sizes}, {ending}. Digest {made.digest}")


def _note_embedded(files: Sequence[Any]) -> None:
    from capsbench.data.digits import origin_of

    if any(origin_of(file.spec) == "embedded" for file in files):
        say_embedded(files[0].digits)
