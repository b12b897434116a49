"""Reads a file of affNIST in a test that is about something else: in this process, which has scipy already."""

import os
import subprocess
import warnings

from capsbench.importing import matfile


def in_this_process(source: int, target: int) -> "subprocess.CompletedProcess[bytes]":
    """What `capsbench.importing.affnist.in_child` answers about a file on which no process dies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a child
        # Of copies: it closes the handles.
        return subprocess.CompletedProcess([], 0, matfile.answer(os.dup(source), os.dup(target)).encode(), b"")
