"""Captures of CUDA graphs, with every call to CUDA replaced by a note of it."""

from typing import Any

import pytest
import torch

from capsbench.training.capture import capture, on_side_stream, place_of, waiting_refused


class FakeStream:
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def wait_stream(self, other: object) -> None:
        self.notes.append("wait")


class FakeGenerator:
    """Its state is the number of draws."""

    def __init__(self, device: str = "cuda") -> None:
        self.state = 0

    def get_state(self) -> int:
        return self.state

    def set_state(self, state: int) -> None:
        self.state = state

    def graphsafe_set_state(self, other: "FakeGenerator") -> None:
        self.state = other.state


class FakeContext:
    """Ends with an error where one is given, as ``torch.cuda.graph`` does when the driver refuses the capture."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was noted (``notes``), how captures end (``error``), and the generator."""
    notes: list[str] = []
    seen: dict[str, Any] = {"notes": notes, "error": None, "generator": FakeGenerator(), "pools": [], "modes": [0]}
    current = FakeStream(notes)

    def graph(made: Any, pool: object) -> FakeContext:
        seen["pools"].append(pool)
        return FakeContext(seen["error"])

    def end(device: int, pool: object) -> None:
        notes.append("end")
        assert (device, pool) == (0, (0, 7))
        if seen["error"] is None or "out of memory" in str(seen["error"]):
            raise RuntimeError("not currently recording to mempool_id")

    class FakeGraph:
        def replay(self) -> None:
            notes.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: notes.append(f"set {stream is current}"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: FakeStream(notes))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: FakeContext())
    monkeypatch.setattr(torch.cuda, "default_generators", [seen["generator"]])
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: seen["modes"][-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", seen["modes"].append)
    monkeypatch.setattr(torch, "Generator", FakeGenerator)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    return seen


def test_a_capture_is_replayed_and_returns_the_same_memory(cuda: dict[str, Any]) -> None:
    result = torch.zeros(3)
    replay = capture(lambda: result)
    assert cuda["notes"] == [] and cuda["pools"] == [(0, 7)]
    assert replay() is result and replay() is result
    assert cuda["notes"] == ["replay", "replay"]


@pytest.mark.parametrize("words", ["operation failed due to a previous error during capture", "CUDA out of memory"])
def test_a_capture_that_fails_leaves_everything_as_it_was(cuda: dict[str, Any], words: str) -> None:
    """Torch 2.11 leaves its allocator in a capture that the driver refused, and the next ``empty_cache`` fails."""
    cuda["error"] = RuntimeError(words)

    def draw() -> None:
        cuda["generator"].state += 100

    cuda["generator"].state = 5
    with pytest.raises(RuntimeError, match=words):
        capture(draw)
    assert cuda["notes"] == ["set True", "end"]
    assert cuda["generator"].state == 5


def test_work_on_the_side_lies_between_what_comes_before_and_after(cuda: dict[str, Any]) -> None:
    assert on_side_stream(lambda: len(cuda["notes"])) == 1
    assert cuda["notes"] == ["wait", "wait"]


def test_work_on_the_side_that_fails_is_waited_for(cuda: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        on_side_stream(lambda: 1 // 0)
    assert cuda["notes"] == ["wait", "wait"]


def test_waiting_is_refused_inside_only(cuda: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError), waiting_refused():
        assert cuda["modes"] == [0, "error"]
        raise ZeroDivisionError
    assert cuda["modes"] == [0, "error", 0]


def test_the_place_of_an_error_is_the_last_line_outside_torch() -> None:
    try:
        torch.nn.Sequential(torch.nn.Linear(3, 3))(torch.zeros(2, 4))
    except RuntimeError as error:
        assert place_of(error).startswith("test_capture.py, line 1")
