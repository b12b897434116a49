"""What shells complete, and the scripts that make them."""

import shutil
import subprocess

import pytest
from click.shell_completion import ShellComplete, get_completion_class

from capsbench.cli import cli


def completed(*words: str) -> list[str]:
    """What the last word may become."""
    shell = ShellComplete(cli, {}, "capsbench", "_CAPSBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--suite", "a"], ["affine"]),
        (["run", "--model", "cnn"], ["cnn", "cnn-pair", "cnn-pool"]),
        (["run", "--suite", "overlap", "--preset", "z"], ["zero-shot"]),
        (["run", "--suite", "affine", "--preset", "z"], []),
        (["generate", "mu"], ["multimnist"]),
        (["generate", "affnist", "--preset", "p"], ["paper"]),
        (["generate", "affnist", "--split", "t"], ["train", "trainval", "test"]),
        (["check", "caps"], ["capsnet"]),
        (["report", "--format", "la"], ["latex_booktabs"]),
        (["judge", "--suite", "cr"], ["crowding"]),
        (["comp"], ["compare"]),
    ],
)
def test_names_are_completed(words: list[str], expected: list[str]) -> None:
    assert completed(*words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind
    script = kind(cli, {}, "capsbench", "_CAPSBENCH_COMPLETE").source_vars()
    text = kind.source_template % script
    assert "_CAPSBENCH_COMPLETE" in text and f"{shell}_complete" in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)
