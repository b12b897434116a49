"""A Python that has torch already: importing it takes most of the time of a short process.

A server imports torch once for all processes that run tests. `start` also writes a program that is called as ``python``
is. A test sees a new process: arguments, environment, folder, streams and process group are those of a fork of the
server, and it ends with the fork's exit code or signal. The fork imports capsbench itself, and ends
as any Python does, but frees nothing.
"""

import atexit
import contextlib
import faulthandler
import fcntl
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

# Few modules, so that it starts in hundredths of a second.
CLIENT = """
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), os.getpgrp()]).encode()
    socket.send_fds(server, [b"%9d" % len(asked)], [0, 1, 2])
    server.sendall(asked)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork has it, too
    code = int(server.recv(16) or b"70")
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def start(folder: Path) -> Iterator[str]:
    """The path of the program, which works until the context ends.

    Args:
        folder: For what the server needs. All who name the same have one server: the first starts it, and waits for it
            in the end. It ends when all others have ended, too: it reads a pipe that each of them can write to. Who
            comes later than that starts another.
    """
    folder.mkdir(exist_ok=True)
    place, program, users = folder / "socket", folder / "python", folder / "users"
    server = None
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not users.exists():
            os.mkfifo(users)
        user = os.open(users, os.O_RDWR)
        if not place.exists():
            server = launch(folder, place, program, users)
    try:
        yield str(program)
    finally:
        os.close(user)
        if server and server.stdout:
            server.wait()
            server.stdout.close()


def launch(folder: Path, place: Path, program: Path, users: Path) -> subprocess.Popen[bytes]:
    """Writes the program, and starts the server."""
    client = folder / "client.py"
    client.write_text(CLIENT.format(place=str(place)))
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{client}" "$@"\n')
    program.chmod(0o755)
    with users.open("rb") as given:
        server = subprocess.Popen([sys.executable, __file__, place], stdin=given, stdout=subprocess.PIPE)
    assert server.stdout and server.stdout.read(1), "the server could not be started"
    return server


def serve(place: str) -> None:
    """Forks for each client, until nobody can write to stdin any more."""
    import scipy.stats  # noqa: F401 - which takes a second, too
    import torch._dynamo  # noqa: F401 - which torch imports for the first optimizer

    gc.freeze()  # else a fork's collector would go through all of torch, for more than a second
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        os.write(1, b"+")
        os.set_blocking(0, False)
        listening.settimeout(0.05)
        while True:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            with contextlib.suppress(BlockingIOError):
                if not os.read(0, 1) and ended(Path(place)):
                    return
            try:
                client, _ = listening.accept()
            except TimeoutError:
                continue
            if not os.fork():
                listening.close()
                client.setblocking(True)
                attend(client)
                return
            client.close()


def ended(place: Path) -> bool:
    """Whether nobody can write to stdin while nobody can come either; then the place is free for another server."""
    with place.with_name("lock").open("w") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.read(0, 1):
            place.unlink()
            return True
    return False


def attend(client: socket.socket) -> None:
    """Forks once more: one process does what the client is for, the other tells the client how it ended."""
    length, streams, *_ = socket.recv_fds(client, 9, 3)
    asked = b""
    while len(asked) < int(length):
        asked += client.recv(int(length) - len(asked))
    arguments, environment, folder, group = json.loads(asked)
    child = os.fork()
    if child:
        for stream in streams:
            os.close(stream)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):
            client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    client.close()
    os.setpgid(0, group)
    for number, (stream, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        fresh = os.fdopen(number, "w" if number else "r", 1 if number == 2 else -1, closefd=False)
        setattr(sys, name, fresh)
        setattr(sys, f"__{name}__", fresh)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        become(arguments)
    except SystemExit as stop:
        if stop.code is not None and not isinstance(stop.code, int):
            raise
        end(stop.code or 0)
    end(0)


def end(code: int) -> NoReturn:
    """Ends as any Python does, but frees nothing: to free what torch has made takes more than half a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream and not stream.closed:
            stream.flush()
    os._exit(code)


def become(arguments: Sequence[str]) -> None:
    """Does what ``python`` does with such arguments."""
    words = list(arguments)
    first: str | None = str(Path.cwd())
    sys.path[0:1] = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    while words[0] in ("-P", "-X"):
        if words.pop(0) == "-P":
            first = None
        elif words.pop(0) == "faulthandler":
            faulthandler.enable()
    if words[0] in ("-m", "-c"):
        kind, what, *rest = words
        sys.argv = [kind, *rest]
    else:
        (what, *_), kind, sys.argv, first = words, "", words, str(Path(words[0]).resolve().parent)
    if first is not None:
        sys.path.insert(0, first)
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        exec(what, {"__name__": "__main__"})
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
