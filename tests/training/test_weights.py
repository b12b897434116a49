"""Files of weights: what anyone writes fits, or is named in a line; nothing in a file is ever run."""

import importlib.util
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from capsbench.errors import CapsbenchError, DataFileError, UsageError
from capsbench.training.weights import fitted, largest_file, read_weights, write_weights

needs_safetensors = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is an extra"
)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 3, 3), norm=nn.BatchNorm2d(3), last=nn.Linear(6, 2)))


STATE = network().state_dict()


def loaded(path: Path, *, own: dict[str, Any] | None = None, part: str = "", largest: int = 2**27) -> dict[str, Any]:
    found, digest = read_weights(path, largest=largest)
    assert len(digest) == 64
    return fitted(path, found, own or dict(STATE), network="net", part=part)


def assert_fits(path: Path, **options: Any) -> None:
    found = loaded(path, **options)
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    network().load_state_dict(found)


def prefixed(prefix: str, state: Any = STATE) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


FORMS: dict[str, Callable[[], Any]] = {
    "a state dict": lambda: STATE,
    "of DataParallel": lambda: prefixed("module."),
    "of torch.compile": lambda: prefixed("_orig_mod."),
    "compiled, then distributed": lambda: prefixed("module._orig_mod."),
    "with a compiled part": lambda: {name.replace("conv.", "conv._orig_mod."): one for name, one in STATE.items()},
    "in a class that holds it": lambda: prefixed("model."),
    "state_dict": lambda: {"state_dict": prefixed("model."), "epoch": 3, "loss": 0.1},
    "model": lambda: {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{}]}},
    "model_state_dict": lambda: {"model_state_dict": prefixed("module."), "optimizer_state_dict": {"state": {}}},
    "a name of one's own": lambda: {"teacher": {"weights": STATE}},
    "averaged": lambda: {"n_averaged": torch.tensor(3), **prefixed("module.")},
    "two that fit": lambda: {"ema": {name: one * 0 for name, one in STATE.items()}, "model": STATE},
    "parameters": lambda: {name: nn.Parameter(one) if one.is_floating_point() else one for name, one in STATE.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_fit_in_whatever_form_a_training_loop_saves_them(form: str, tmp_path: Path) -> None:
    torch.save(FORMS[form](), tmp_path / "net.pt")
    assert_fits(tmp_path / "net.pt")


def test_a_network_inside_another_takes_weights_with_and_without_its_prefix(tmp_path: Path) -> None:
    inside = prefixed("network.")
    for state in (STATE, inside):
        torch.save(state, tmp_path / "net.pt")
        assert loaded(tmp_path / "net.pt", own=inside).keys() == inside.keys()


def test_of_several_networks_in_a_file_each_gets_its_own(tmp_path: Path) -> None:
    other = {name: one * 0 for name, one in STATE.items()}
    for state in (prefixed("single.") | prefixed("pairs.", other), {"pairs": other, "single": STATE}):
        torch.save(state, tmp_path / "net.pt")
        assert_fits(tmp_path / "net.pt", part="single")
    torch.save(STATE, tmp_path / "net.pt")
    with pytest.raises(DataFileError, match="holds no weights by name of the network 'single', each named single"):
        loaded(tmp_path / "net.pt", part="single")


def test_half_precision_is_taken_as_it_is(tmp_path: Path) -> None:
    torch.save(
        {name: one.half() if one.is_floating_point() else one for name, one in STATE.items()}, tmp_path / "net.pt"
    )
    net = network()
    net.load_state_dict(loaded(tmp_path / "net.pt"))
    assert torch.equal(net.get_parameter("conv.weight"), STATE["conv.weight"].half().float())


@pytest.mark.parametrize("name", ["net.pt", pytest.param("net.safetensors", marks=needs_safetensors)])
def test_what_is_written_is_read_and_loads_in_torch(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_weights(path, dict(STATE))
    assert_fits(path)
    if path.suffix == ".pt":
        network().load_state_dict(torch.load(path, weights_only=True))
    else:
        import safetensors.torch

        network().load_state_dict(safetensors.torch.load_file(path))
    for wrong in ("net.npz", "net"):
        with pytest.raises(UsageError, match=r"ends in \.pt or \.safetensors"):
            write_weights(tmp_path / wrong, dict(STATE))


def test_extra_state_goes_into_a_pt_file(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(2), "_extra_state": {"seen": torch.arange(3).numpy()}}
    write_weights(tmp_path / "net.pt", state)
    found = loaded(tmp_path / "net.pt", own=state)
    assert found["_extra_state"]["seen"].tolist() == [0, 1, 2]


@needs_safetensors
def test_extra_state_is_refused_for_safetensors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds tensors alone, and _extra_state is none"):
        write_weights(tmp_path / "net.safetensors", {"weight": torch.zeros(2), "_extra_state": {"seen": 3}})


def test_without_the_package_a_safetensors_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    (tmp_path / "net.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    with pytest.raises(UsageError, match=r"pip install 'capsbench\[safetensors\]'"):
        read_weights(tmp_path / "net.safetensors", largest=100)


RAN: list[str] = []


def ran(what: str = "") -> dict[str, Any]:
    RAN.append(what)
    return {}


class Runs:
    """Runs something when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def archive(content: bytes) -> bytes:
    """An archive like torch's with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("net/data.pkl", content)
        file.writestr("net/byteorder", "little")
        file.writestr("net/version", "3\n")
    return buffer.getvalue()


def torch_file(content: Any = STATE) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def repacked(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_file())) as whole, zipfile.ZipFile(buffer, "w", compression) as file:
        for name in whole.namelist():
            file.writestr(name, change(name, whole.read(name)))
    return buffer.getvalue()


def deep(levels: int) -> Any:
    """Dictionaries in dictionaries, each in two places: 2 ** levels to whoever walks through all."""
    here: dict[str, Any] = {"weight": torch.zeros(1)}
    for _ in range(levels):
        here = {"first": here, "second": here}
    return here


def wide() -> Any:
    inner = {str(number): {"x": torch.zeros(1)} for number in range(60)}
    return {str(number): {str(other): inner for other in range(60)} for number in range(60)}


def huge(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(1).expand(shape)


def flipped(content: bytes, place: float) -> bytes:
    data = content.index(STATE["conv.weight"].numpy().tobytes())
    at = data + int(place * STATE["conv.weight"].nbytes)
    return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]


def turned(place: float) -> bytes:
    return flipped(torch_file(), place)


def cut(share: float) -> bytes:
    return torch_file()[: int(share * len(torch_file()))]


def shaped(name: str, value: Any) -> bytes:
    return torch_file({**STATE, name: value})


HOSTILE: dict[str, list[Callable[[], bytes]]] = {
    "pickles that execute": [
        lambda: archive(pickle.dumps(Runs(ran, "an archive"), 2)),
        lambda: archive(pickle.dumps({"state_dict": Runs(ran, "wrapped")}, 2)),
        lambda: archive(pickle.dumps(Runs(exec, "import test_weights; test_weights.ran('exec')"), 2)),
        lambda: archive(pickle.dumps({"conv.weight": Runs(eval, "print('eval')")}, 4)),
        lambda: pickle.dumps(Runs(ran, "a bare pickle")),
        lambda: torch_file({**STATE, "module": network()}),
    ],
    "bombs": [
        lambda: repacked(lambda name, one: one, zipfile.ZIP_DEFLATED),
        lambda: repacked(lambda name, one: one + bytes(1_000_000), zipfile.ZIP_DEFLATED),
        lambda: repacked(lambda name, one: one.replace(b"K\x1b", b"J\xff\xff\xff\x7f") if "pkl" in name else one),
        lambda: torch_file(deep(60)),
        lambda: torch_file(wide()),
        lambda: torch_file({**STATE, "conv.weight": huge((2**20, 2**20))}),
    ],
    "cut": [partial(cut, share) for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999)],
    "flipped": [partial(turned, place) for place in (0, 0.1, 0.3, 0.5, 0.7, 0.9)],
    "wrong shapes": [
        lambda: shaped("conv.weight", torch.zeros(3, 1, 3, 4)),
        lambda: shaped("last.bias", torch.zeros(())),
        lambda: shaped("last.weight", torch.zeros(2, 6, dtype=torch.int64)),
        lambda: shaped("last.weight", torch.zeros(2, 6).to_sparse()),
        lambda: shaped("last.weight", "words"),
        lambda: shaped("last.weight", torch.full((2, 6), torch.nan)),
    ],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_ends_in_a_line_and_runs_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(HOSTILE[kind]) == 6
    for number, make in enumerate(HOSTILE[kind]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(make())
        with pytest.raises(DataFileError) as caught:
            loaded(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value), number
    assert not RAN and not capsys.readouterr().out


@needs_safetensors
def test_hostile_safetensors_files_end_in_a_line(tmp_path: Path) -> None:
    write_weights(tmp_path / "net.safetensors", dict(STATE))
    whole = (tmp_path / "net.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])

    def with_header(changed: Any) -> bytes:
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + whole[8 + length :]

    far = {**header, "conv.bias": {**header["conv.bias"], "data_offsets": [0, 2**40]}}
    shape = {**header, "conv.bias": {**header["conv.bias"], "shape": [2**31, 2**31]}}
    hostile = [
        b"",
        whole[:-1],
        whole[:20],
        struct.pack("<Q", 2**62) + whole[8:],
        with_header(far),
        with_header(shape),
        with_header([]),
        *(flipped(whole, place) for place in (0, 0.5, 0.9)),
    ]
    for content in hostile:
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(DataFileError) as caught:
            loaded(tmp_path / "bad.safetensors")
        assert "\n" not in str(caught.value)


def test_names_are_told_in_one_message(tmp_path: Path) -> None:
    state = {name: one for name, one in STATE.items() if name != "last.bias"} | {"head.weight": torch.zeros(1)}
    state["conv.weight"] = torch.zeros(3, 1, 5, 5)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(DataFileError) as caught:
        loaded(tmp_path / "net.pt")
    assert str(caught.value) == (
        f"{tmp_path}/net.pt does not fit net: missing: last.bias; superfluous: head.weight; "
        "conv.weight is [3, 1, 5, 5], needs [3, 1, 3, 3]."
    )


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {1: torch.zeros(1)}, torch.zeros(3), "words"], ids=str)
def test_what_holds_no_weights_is_named(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(DataFileError, match=r"torch\.save\(net\.state_dict\(\), FILE\)"):
        loaded(tmp_path / "net.pt")


@pytest.mark.parametrize(("part", "writer"), [("constants.pkl", "torch.jit"), ("archive_format", "torch.export")])
def test_a_program_of_torch_is_called_one(part: str, writer: str, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"net/{part}", "anything")
    with pytest.raises(DataFileError, match=rf"net.pt is of {writer}.save: a program, .* Save them with torch\.save"):
        loaded(tmp_path / "net.pt")


def test_what_is_missing_or_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="There is no file"):
        loaded(tmp_path / "net.pt")
    with pytest.raises(DataFileError, match="There is no file"):
        loaded(tmp_path)
    torch.save(STATE, tmp_path / "net.pt")
    with pytest.raises(DataFileError, match=r"have 1\.0 kB at most"):
        loaded(tmp_path / "net.pt", largest=1000)
    adam = {"model": STATE, "optimizer": {"state": {0: {"exp_avg": STATE, "exp_avg_sq": STATE}}}, "ema": STATE}
    torch.save(adam, tmp_path / "all.pt")
    assert_fits(tmp_path / "all.pt", largest=largest_file(dict(STATE)))


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(DataFileError, CapsbenchError) and DataFileError.exit_code == 3
