"""Errors in one line."""

import pytest

from capsbench.errors import UnknownNameError, UsageError, first_line, plain


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too wide\nby two"), "ValueError: too wide"),
        (NotImplementedError(), "NotImplementedError: no message"),
        (RuntimeError("\n"), "RuntimeError: "),
        (UsageError("Give one seed.\nOr two."), "Give one seed."),
        (UsageError(""), "no message"),
    ],
)
def test_first_line_names_a_class_that_is_not_ours_and_never_fails(error: Exception, line: str) -> None:
    assert first_line(error) == line


SPLITS = ("train", "validation", "trainval", "test")
DEVICES = ("auto", "cpu", "cuda")
DATA_SETS = ("padded", "affnist", "multimnist", "crowded", "cluttered")
SUITES = ("mnist", "affine", "overlap", "reconstruction", "crowding", "clutter", "throughput")


@pytest.mark.parametrize(
    ("names", "words", "meant"),
    [
        (SPLITS, "val VAL valid dev validate validation_set", "validation"),
        (SPLITS, "training Train trainn", "train"),
        (SPLITS, "testing tset t10k", "test"),
        (SPLITS, "train+val train_valid Trainval", "trainval"),
        (DEVICES, "gpu GPU gpu:1 cuda:0 CUDA gpus nvidia", "cuda"),
        (DATA_SETS, "mnist MNIST", "padded"),
        (DATA_SETS, "rotated-mnist", "affnist"),
        (SUITES, "affnist afine", "affine"),
        (SUITES, "MultiMNIST", "overlap"),
        (("smoke", "small", "paper"), "full large", "paper"),
        (("capsnet", "cnn", "cnn-pool", "cnn-pair"), "cnn_pool", "cnn-pool"),
        (("learning_rate", "batch_size", "epochs"), "lr", "learning_rate"),
    ],
)
def test_words_of_the_field_lead_to_our_names(names: tuple[str, ...], words: str, meant: str) -> None:
    for word in words.split():
        assert f"{word!r}. Did you mean {meant!r}?" in str(UnknownNameError("name", word, names))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (SPLITS, "eval evaluation holdout traintest x"),
        (DEVICES, "tpu xpu npu mps rocm bpu"),
        (("capsnet", "cnn", "cnn-pool", "cnn-pair"), "resnet mlp vit"),
        (("smoke", "paper"), "md"),
    ],
)
def test_what_only_resembles_a_name_leads_to_all_names(names: tuple[str, ...], words: str) -> None:
    for word in words.split():
        assert f"{word!r}. Known: {', '.join(sorted(names))}." in str(UnknownNameError("name", word, names))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("a\rb\x9bc\u202ed", r"a\rb\x9bc\u202ed"),
        ("two\nlines\tand ±", "two\nlines\tand ±"),
        ("x" * 5000, "x" * 100 + "..."),
        ("x y " * 2000, "x y " * 500 + "..."),
    ],
)
def test_messages_control_no_terminal_and_are_cut(given: str, shown: str) -> None:
    assert plain(given) == str(UsageError(given)) == shown
    assert len(str(UnknownNameError("model", given, ["capsnet"]))) < 1000
