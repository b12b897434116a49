"""The words that tables, charts and pages use, each in one line, with its formula where it has one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of the tables.

    Attributes:
        word: As tables write it.
        meaning: One sentence.
        formula: How it is computed; empty where there is nothing to compute.
    """

    word: str
    meaning: str
    formula: str = ""


WORDS = "The words are explained in docs/glossary.md."
"""A note of every table."""

GLOSSARY = (
    Word(
        "% of GEMM, % of copy", "The speed reached, as a share of that of a large product of matrices, of a large copy."
    ),
    Word("absent digit", "A reconstruction from the capsule of a digit that the image does not show."),
    Word("affine", "Accuracy on affnist: test digits rotated, sheared, scaled and moved.", "right / images"),
    Word("alone", "Accuracy on targets without flankers.", "right / images"),
    Word("as given", "The only checkpoint of a network that was not trained here."),
    Word(
        "AUC",
        "The chance that a measure is larger where the digit is there than where it is absent.",
        "P(present > absent)",
    ),
    Word(
        "base digit", "A digit of the test split. Its variants are not independent, so intervals resample base digits."
    ),
    Word("best validation", "The checkpoint of the highest accuracy on validation digits; test digits never select."),
    Word("board", "The networks that one protocol measured, in order, the best first."),
    Word("cell", "One suite, one network and one seed: what one result file holds."),
    Word("centered", "Accuracy on clean digits that all lie in the middle.", "right / images"),
    Word("checkpoint", "The weights that a network has at one validation; each row of a table names which."),
    Word("clean", "Accuracy on test digits at random places, without maps and without scraps.", "right / images"),
    Word(
        "critical clutter",
        "The largest number of scraps up to which accuracy stays near that on a clean canvas.",
        "max n: accuracy(m) >= 0.9 accuracy(clean) for all m <= n",
    ),
    Word(
        "critical spacing",
        "The smallest distance of the flankers at which, and beyond which, accuracy stays near that of a digit alone.",
        "min s: accuracy(t) >= 0.9 accuracy(alone) for all t >= s",
    ),
    Word("error", "The share of images that are classified wrongly.", "1 - right / images"),
    Word(
        "exact pair",
        "A pair is right only if its two digits have the two highest scores; guessing has an error of 44/45.",
        "exact-pair error = 1 - right / pairs",
    ),
    Word(
        "first at target",
        "The first validation whose accuracy is at least the target, so that networks are compared at "
        "equal clean accuracy.",
    ),
    Word("flanker", "A digit, or its shuffled pixels, beside the target."),
    Word(
        "gap", "How much accuracy is lost: to affine maps, in clutter to 8 scraps.", "clean - affine, clean - 8 scraps"
    ),
    Word("ink", "Pixels of a digit that are not black; where digits overlap, those of half of white and above."),
    Word("interval", "A 95 % interval: over base digits and, of several seeds, over both."),
    Word("layer", "One digit of a pair alone, at its place."),
    Word("named", "How many answers, of all and of the wrong ones, are the class of a flanker."),
    Word(
        "neither",
        "The share of pairs where neither digit has one of the two highest scores.",
        "pairs with none found / pairs",
    ),
    Word(
        "owner",
        "How often, over pixels of one digit's ink only, the larger reconstruction is that digit's; 0.5 is chance.",
        "mean of [R_owner > R_other], a tie counts 1/2",
    ),
    Word("peak MB", "The most memory that torch's tensors took, beyond inputs, weights and the optimizer's state."),
    Word("paired difference", "The difference of two networks on the same images.", "mean of (right_B - right_A)"),
    Word("protocol", "All that networks must share to be compared: suite, version, preset, settings, digits."),
    Word("PSNR", "How near a reconstruction is to its image, in decibels.", "-10 log10(mean squared error)"),
    Word(
        "relative IoU",
        "How well the pixels that a reconstruction claims match a digit's ink.",
        "mean of |S_k and M_k| / |S_k or M_k|, S_k = ink where R_k >= 0.5 max(R_a, R_b)",
    ),
    Word("scores", "Behind a network's name: it ran elsewhere, and its scores were judged here."),
    Word("seed", "The number that all random choices of a training follow from."),
    Word("shared-ink F1", "How well pixels of both digits are found.", "F1 of S_a and S_b against M_a and M_b"),
    Word("shuffled", "Flankers whose pixels are permuted inside the box of their ink."),
    Word("spec", "All that determines a data set: generator, parameters, split, seed, number of samples, digits."),
    Word("squared error a pixel", "Mean squared difference of reconstruction and image, in grey levels 0..1."),
    Word(
        "target",
        "In affine the clean accuracy on validation digits at which networks are compared; in crowding and clutter the "
        "digit to classify.",
    ),
    Word(
        "tie",
        "Two networks that the test digits do not tell apart.",
        "interval of the paired difference holds 0, or p >= 0.05",
    ),
    Word("validation", "A measurement on validation digits during training, every so many steps."),
    Word("variant", "One of several images of the same test digit, each moved or transformed in its own way."),
    Word(
        "writer",
        "Who wrote a test digit. Where labels say it, as QMNIST's do, intervals and tests resample writers, not base "
        "digits.",
    ),
    Word(
        "within reach", "Affine images whose digit lies no further off the centre than in training.", "offset < 6.5 px"
    ),
    Word("x reference", "How many times as fast as the reference of routing, at the same sizes."),
)


def glossary_page() -> str:
    """docs/glossary.md."""
    lines = [
        "# Words of the tables\n\n`make docs` makes this page from `capsbench/report/glossary.py`.\n",
        "| word | meaning | formula |",
        "|---|---|---|",
    ]
    for one in GLOSSARY:
        formula = f"`{one.formula}`".replace("|", "\\|") if one.formula else ""
        lines.append(f"| {one.word} | {one.meaning} | {formula} |")
    return "\n".join(lines) + "\n"
