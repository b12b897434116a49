"""Fused routing against the reference in float64: on a GPU where there is one, else under Triton's interpreter.

The interpreter must be asked for before Triton is imported, and torchvision imports it. So the functions that route run
in a process of its own, which is this file run as a program, and imports Triton once more.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from capsbench.errors import UsageError
from capsbench.models.routing import fused
from capsbench.models.routing.accuracy import largest_error, worst_error
from capsbench.models.routing.reference import route_reference

AT_START = "capsbench.models.routing.kernels" in sys.modules
"""Whether the kernels come with the package, in a process that is new."""

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GRADIENTS = ["exact", "detached"]
ABSENT = importlib.util.find_spec("triton") is None

ALLOWED = largest_error(DEVICE)
"""Of `worst_error`, which scatters where values are few: its mean is a half, and for some sizes, not those below, it
passes 1 under the interpreter."""

MORE = pytest.mark.campaign
"""Cases that repeat, in other sizes, what one beside them shows: the interpreter takes seconds for them."""

Sizes = tuple[int, int, int, int, int]
Run = Callable[..., Any]


class Interpreter:
    """A process in which functions of this file run under TRITON_INTERPRET=1.

    Args:
        python: The program.
        whole: Whether the interpreter stays as it is, see `patch_once`.
    """

    def __init__(self, python: str, whole: bool) -> None:
        root = str(Path(__file__).parents[3])  # else what is installed would run
        environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": root}
        self.process = subprocess.Popen(
            [python, __file__, *(["whole"] if whole else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def __call__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        pickle.dump((function.__name__, arguments, options), self.process.stdin)
        self.process.stdin.flush()
        result = pickle.load(self.process.stdout)
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def serve() -> None:
    """The other side of `Interpreter`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what something prints must not come between
    torch.set_num_threads(1)
    for name in [name for name in sys.modules if name.startswith("triton") and not name.startswith("triton._C")]:
        del sys.modules[name]
    if sys.argv[1:] != ["whole"]:
        patch_once()
        fused.ROWS = 16  # more than the usual four, so that fewer programs of squash run
    while True:
        try:
            name, arguments, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            result = globals()[name](*arguments, **options)
        except Exception as error:
            result = error
        pickle.dump(result, answers)
        answers.flush()


def patch_once() -> None:
    """Makes the interpreter do a fifth of its work; these tests do not need the rest, and campaigns keep it.

    - Triton patches its whole language at each call of a function. Here it does so once.
    - It checks each sum of integers for an overflow, by another sum in 64 bits. No size here can overflow.
    - It lists all types of numbers whenever it needs one, and unwraps each side of a shape several times.
    - It makes the type of a block once more for each block.
    """
    import triton.runtime.interpreter as interpreter
    from triton import language
    from triton.language.core import is_builtin

    patch_language = interpreter._patch_lang

    @cache
    def seen_by(function: Any) -> list[Any]:
        return [
            one for one in (language, language.core) if any(one is value for value in function.__globals__.values())
        ]

    def patch_unless_done(function: Any) -> Any:
        done = not any(is_builtin(one.load) for one in seen_by(function))
        return interpreter._LangPatchScope() if done else patch_language(function)

    interpreter._patch_lang = patch_unless_done
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    numpy_type, known = interpreter._get_np_dtype, {}

    def known_type(kind: Any) -> Any:
        if (name := str(kind)) not in known:
            known[name] = numpy_type(kind)
        return known[name]

    def unwrapped(shape: Any) -> list[int]:
        sides = shape.value if isinstance(shape, language.constexpr) else shape
        return [one.value if isinstance(one, language.constexpr) else one for one in sides]

    interpreter._get_np_dtype = known_type
    language.core._unwrap_shape = unwrapped
    remember_types(language.core, unwrapped)


def remember_types(core: ModuleType, unwrapped: Callable[[Any], list[int]]) -> None:
    """Makes each type of block once, with what a tensor of the type says of itself."""
    make_type, make_tensor = core.block_type.__init__, core.tensor.__init__
    types: dict[tuple[Any, ...], dict[str, Any]] = {}
    tensors: dict[str, dict[str, Any]] = {}

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = element_ty.name, *unwrapped(shape)
        if key not in types:
            make_type(self, element_ty, shape)
            types[key] = dict(vars(self))
        vars(self).update(types[key])

    def tensor(self: Any, handle: Any, type: Any) -> None:
        if type.name not in tensors:
            make_tensor(self, handle, type)
            tensors[type.name] = {key: value for key, value in vars(self).items() if key != "handle"}
        vars(self).update(tensors[type.name], handle=handle)

    core.block_type.__init__, core.tensor.__init__ = block_type, tensor


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, warm_python: str) -> Iterator[Run]:
    """Calls a function of this file where Triton's kernels run."""
    if ABSENT:
        pytest.skip("Triton is not installed")
    if DEVICE == "cuda":
        yield lambda function, *arguments, **options: function(*arguments, **options)
        return
    interpreter = Interpreter(warm_python, whole=request.config.getoption("--campaign"))
    yield interpreter
    interpreter.close()


def error(
    sizes: Sizes,
    iterations: int,
    gradient: str,
    *,
    processors: int = 1,
    draws: int = 1,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> float:
    """`worst_error` in memory that holds NaN until it is written, as if for a GPU of so many multiprocessors.

    Each has two programs of `agree`, so that three tiles of capsules are two splits. Where images are many, a program
    of squash has more rows: dozens of programs show nothing more.
    """
    torch.set_deterministic_debug_mode("warn")  # unlike use_deterministic_algorithms it imports no compiler
    rows = fused.ROWS if sizes[0] < 33 or DEVICE == "cuda" else 32
    tiles = fused.TILES[dtype]
    options |= {"dtype": dtype, "device": DEVICE, "draws": draws}
    try:
        assert torch.empty(3).isnan().all()
        with (
            patch.multiple(fused, _multiprocessors=lambda device: processors, ROWS=rows),
            patch.dict(tiles, agree=replace(tiles["agree"], programs=2)),
        ):
            return worst_error(fused.route_fused, sizes, iterations, gradient, **options)
    finally:
        torch.set_deterministic_debug_mode("default")


def results(
    u: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    gradient: str = "exact",
    upstream: Tensor | None = None,
    leaky: bool = False,
    iterations: int = 3,
) -> list[Tensor]:
    """The output and the gradients of u, weight and bias, all on the CPU."""
    leaves = [tensor.to(DEVICE).requires_grad_() for tensor in (u, weight, bias) if tensor is not None]
    v = fused.route_fused(leaves[0], leaves[1], iterations, leaves[2] if bias is not None else None, gradient, leaky)
    given = torch.ones_like(v[..., :1]).expand_as(v) if upstream is None else upstream.to(DEVICE)
    return [one.detach().cpu() for one in (v, *torch.autograd.grad(v, leaves, given))]


def couplings(u: Tensor, weight: Tensor, kept: int, leaky: bool) -> tuple[Tensor, Tensor]:
    """What four iterations store, ``[min(kept, 3), B / 16, I, J, 16]``, and the sums of output capsules of all."""
    _, (_, agreed, c, _) = fused.route_fused.forward(u.to(DEVICE), weight.to(DEVICE), None, 4, kept, leaky)
    return c.cpu(), agreed.cpu()


def second_derivative(u: Tensor, weight: Tensor) -> None:
    u = u.to(DEVICE).requires_grad_()
    v = fused.route_fused(u, weight.to(DEVICE), 2, None, "exact")
    (first,) = torch.autograd.grad(v.sum(), u, create_graph=True)
    torch.autograd.grad(first.sum(), u)


def kernels_came_along() -> bool:
    return AT_START


def refusal(u: Tensor, weight: Tensor) -> str | None:
    return fused.refusal(u.to(DEVICE), weight.to(DEVICE))


def draw(B: int, I: int, J: int, O: int, D: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    u, weight, bias = (torch.randn(shape, generator=generator) for shape in ((B, I, D), (I, J, O, D), (J, O)))
    return 0.5 * u, 0.5 * weight, 0.1 * bias


@pytest.mark.parametrize(
    ("iterations", "gradient"),  # 3 iterations in most tests below
    [
        (1, "exact"),
        (2, "exact"),
        (4, "detached"),
        *(pytest.param(*case, marks=MORE) for case in ((1, "detached"), (2, "detached"), (4, "exact"))),
    ],
)
def test_error_is_that_of_the_reference(run: Run, iterations: int, gradient: str) -> None:
    assert run(error, (7, 9, 3, 16, 8), iterations, gradient, bias=iterations != 4) <= ALLOWED


# What the detached gradient leaves out, the exact one has: it is tested where tiles, splits and padding differ.
@pytest.mark.parametrize(
    ("sizes", "gradient"),
    [
        ((1, 1, 1, 16, 8), "exact"),
        ((3, 9, 2, 16, 8), "exact"),  # several tiles of capsules for each kernel, the last ragged, and splits
        ((67, 1, 2, 16, 8), "exact"),  # several tiles of images, the last ragged
        ((1, 2, 16, 8, 16), "exact"),
        ((33, 4, 3, 4, 4), "detached"),
        ((3, 4, 2, 32, 8), "exact"),
        ((3, 3, 2, 16, 32), "exact"),
        ((3, 9, 2, 5, 3), "exact"),  # padded in both dimensions
        ((2, 3, 2, 20, 6), "exact"),
        ((2, 5, 2, 1, 1), "exact"),
        pytest.param((5, 4, 10, 16, 8), "exact", marks=MORE),
        *(pytest.param((3, 21, 2, 16, 8), gradient, marks=MORE) for gradient in GRADIENTS),
        *(pytest.param((3, 19, 2, 5, 3), gradient, marks=MORE) for gradient in GRADIENTS),
    ],
    ids=str,
)
def test_odd_sizes(run: Run, sizes: Sizes, gradient: str) -> None:
    # Of 5 images and 4 capsules one draw says little: with a plain product of float32 too, some reach 1.2.
    assert run(error, sizes, 3, gradient, draws=2 if sizes[:2] == (5, 4) else 1) <= ALLOWED


@pytest.mark.parametrize(
    ("sizes", "iterations", "gradient"),
    [
        ((3, 9, 2, 16, 8), 3, "exact"),
        ((1, 1, 1, 16, 8), 2, "detached"),
        ((7, 9, 3, 5, 3), 1, "exact"),
        *(pytest.param((3, 21, 2, 16, 8), 3, gradient, marks=MORE) for gradient in GRADIENTS),
        pytest.param((1, 1, 1, 16, 8), 2, "exact", marks=MORE),
        pytest.param((7, 9, 3, 5, 3), 1, "detached", marks=MORE),
    ],
)
def test_error_with_an_orphan_category(run: Run, sizes: Sizes, iterations: int, gradient: str) -> None:
    assert run(error, sizes, iterations, gradient, leaky=True) <= ALLOWED


@pytest.mark.parametrize(
    ("capsules", "iterations"), [(69, 1), pytest.param(37, 3, marks=MORE)]
)  # 18 splits, more than are loaded together
def test_many_splits_are_summed(run: Run, capsules: int, iterations: int) -> None:
    assert run(error, (2, capsules, 1, 16, 8), iterations, "exact", processors=132) <= ALLOWED


@pytest.mark.parametrize(
    ("sizes", "gradient"),
    [((5, 5, 2, 16, 8), "exact"), *(pytest.param((5, 9, 3, 16, 8), gradient, marks=MORE) for gradient in GRADIENTS)],
)
def test_bfloat16(run: Run, sizes: Sizes, gradient: str) -> None:
    assert run(error, sizes, 3, gradient, dtype=torch.bfloat16) <= ALLOWED


def test_bfloat16_is_summed_in_float32(run: Run) -> None:
    # 270 capsules that vote 1/64 for one output: sums of bfloat16 stand still at 4, the next number being 4 1/32.
    u = torch.ones(1, 270, 1, dtype=torch.bfloat16)
    weight = torch.full((270, 1, 1, 1), 1 / 64, dtype=torch.bfloat16)
    v, du, dweight = run(results, u, weight, iterations=2)
    s = 270 / 64
    assert v.dtype == torch.float32 and du.dtype == dweight.dtype == torch.bfloat16
    assert v.item() == pytest.approx(s * s / (1 + s * s), rel=1e-6)


@pytest.mark.parametrize(("kept", "leaky"), [(0, False), (1, False), (4, True), pytest.param(4, False, marks=MORE)])
def test_couplings_of_kept_iterations_are_stored_by_rows_of_images(run: Run, kept: int, leaky: bool) -> None:
    u, weight, _ = draw(19, 6, 2, 16, 8)
    c, agreed = run(couplings, u, weight, kept, leaky)
    assert c.shape == (min(kept, 3), 2, 6, 2, 16)
    for t in range(len(c)):
        logits = torch.einsum("bid,ijod,bjo->ijb", u, weight, agreed[t - len(c)])
        found = c[t].permute(1, 2, 0, 3).flatten(2)[..., :19]
        exponents = logits.exp()
        torch.testing.assert_close(found, exponents / (exponents.sum(1, keepdim=True) + leaky), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-18, 30.0])
def test_short_and_long_vectors_are_as_accurate(run: Run, scale: float) -> None:
    u, weight, _ = draw(3, 3, 2, 16, 8)
    u *= scale
    upstream = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(1))
    exact = [tensor.double().requires_grad_() for tensor in (u, weight)]
    v = route_reference(exact[0], exact[1], 3, None, "exact")
    expected = [v, *torch.autograd.grad(v, exact, upstream.double())]
    for ours, truth in zip(run(results, u, weight, upstream=upstream), expected, strict=True):
        assert truth.any()
        assert (ours - truth).abs().max() <= 2e-6 * truth.abs().max()


def test_zeros_have_zero_gradients(run: Run) -> None:
    assert not any(one.any() for one in run(results, torch.zeros(2, 1, 8), torch.zeros(1, 2, 16, 8)))


@pytest.mark.parametrize("leaky", [False, True])
def test_large_logits_saturate_instead_of_overflowing(run: Run, leaky: bool) -> None:
    u, weight, _ = draw(2, 5, 2, 16, 8)
    v = run(results, u, 1e4 * weight, leaky=leaky)[0]
    expected = route_reference(u.double(), 1e4 * weight.double(), 3, None, "exact", leaky)
    torch.testing.assert_close(v, expected.float())


def test_the_same_bits_each_time(run: Run) -> None:
    tensors = draw(3, 5, 2, 16, 8)
    for first, second in zip(*(run(results, *tensors, iterations=2) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


def test_inputs_need_not_be_contiguous(run: Run) -> None:
    u, weight, bias = draw(5, 3, 2, 16, 8)
    plain = run(results, u, weight, bias, iterations=2)  # the gradient of the output is expanded already
    views = [u.transpose(0, 1).contiguous().transpose(0, 1), weight.mT.contiguous().mT, bias.mT.contiguous().mT]
    assert not any(view.is_contiguous() for view in views)
    upstream = torch.ones(2, 5, 16).transpose(0, 1)
    for ours, expected in zip(run(results, *views, "exact", upstream, iterations=2), plain, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("sizes", [(0, 3, 2, 16, 8), (2, 0, 2, 16, 8)], ids=str)
def test_nothing_comes_of_nothing(run: Run, sizes: Sizes) -> None:
    u, weight, bias = draw(*sizes)
    v, du, dweight, _ = run(results, u, weight, bias)
    torch.testing.assert_close(v, route_reference(u, weight, 3, bias, "exact"))
    assert du.shape == u.shape and dweight.shape == weight.shape
    assert not du.any() and not dweight.any()


def test_a_second_derivative_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="'fused', which has only the first"):
        run(second_derivative, *draw(2, 3, 2, 16, 8)[:2])


def test_what_it_can_do_is_not_refused(run: Run) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert run(refusal, torch.zeros(1, 2, 8, dtype=dtype), torch.zeros(2, 16, 32, 8, dtype=dtype)) is None


@pytest.mark.parametrize(
    ("outputs", "output_dim", "input_dim", "dtype", "reason"),
    [
        (10, 16, 8, torch.float64, "float64 capsules; it takes float32 and bfloat16"),
        (10, 16, 8, torch.float16, "float16 capsules; it takes float32 and bfloat16"),
        (17, 16, 8, torch.float32, "17 output capsules; it takes 1 to 16"),
        (0, 16, 8, torch.float32, "0 output capsules; it takes 1 to 16"),
        (10, 33, 8, torch.float32, "capsules of 8 and 33 dimensions; it takes 1 to 32"),
        (10, 16, 64, torch.float32, "capsules of 64 and 16 dimensions; it takes 1 to 32"),
        (10, 16, 0, torch.float32, "capsules of 0 and 16 dimensions; it takes 1 to 32"),
        (10, 16, 8, torch.float32, "it needs a CUDA device"),
    ],
)
def test_refusals(
    outputs: int, output_dim: int, input_dim: int, dtype: torch.dtype, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    u = torch.zeros(1, 2, input_dim, dtype=dtype)
    assert fused.refusal(u, torch.zeros(2, outputs, output_dim, input_dim, dtype=dtype)) == reason


def test_refusal_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "capsbench.models.routing.kernels", raising=False)
    monkeypatch.delattr("capsbench.models.routing.kernels", raising=False)
    assert fused.refusal(torch.zeros(1, 2, 8), torch.zeros(2, 1, 16, 8)) == "Triton is not installed"


def test_refusal_when_the_interpreter_was_asked_for_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(fused, "_kernels", lambda: type("kernels", (), {"INTERPRETED": False}))
    reason = fused.refusal(torch.zeros(1, 2, 8), torch.zeros(2, 1, 16, 8))
    assert reason == "Triton was imported before TRITON_INTERPRET=1 was set"


@pytest.mark.parametrize(("capability", "hip"), [((7, 5), None), ((9, 4), "6.2")])
def test_refusal_of_other_gpus(capability: tuple[int, int], hip: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    reason = fused._refusal_of_device(torch.device("cuda", 0))
    assert reason == "it needs an NVIDIA GPU of compute capability 8.0 or above"


@pytest.mark.skipif(ABSENT, reason="Triton is not installed")
def test_triton_is_imported_late(run: Run, warm_python: str) -> None:
    other = (
        Interpreter(warm_python, whole=False) if DEVICE == "cuda" else None
    )  # else it is this process that runs functions
    assert (other or run)(kernels_came_along) is False
    if other:
        other.close()


if __name__ == "__main__":
    serve()
