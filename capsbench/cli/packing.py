"""The command that packs data files for sending, and unpacks them."""

from pathlib import Path

import click

from capsbench.cli.options import force_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--undo", is_flag=True, help="Make the contiguous file again, byte for byte.")
@force_option
def pack(file: Path, out: Path, undo: bool, force: bool) -> None:
    """Pack a file for sending: the same data set, smaller, with the same digest.

    Every HDF5 tool reads a packed file, and so does every command here, into memory; it cannot be written in place.

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
    ending = f"{made.seconds:.2f} s" if made.drawn else "was whole already, verified and left"
    click.echo(f"{out}: {made.drawn + made.kept:,} samples, {sizes}, {ending}. Digest {made.digest}")
