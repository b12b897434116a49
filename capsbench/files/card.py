"""A data file for others: its Croissant description as JSON-LD, and a data card in Markdown.

Croissant 1.0 (mlcommons.org/croissant) with the minimal fields of its vocabulary for responsible AI. It describes HDF5
files as a whole: their arrays have no record sets in it, so the card lists them.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from capsbench.data.digits import origin_of
from capsbench.data.sets import SETS
from capsbench.errors import DataError
from capsbench.files.datafile import DataFile
from capsbench.files.inspection import classes, measure
from capsbench.files.published import recognise
from capsbench.spec import UNKNOWN, told_digits
from capsbench.version import VERSION

LICENCE = "https://creativecommons.org/licenses/by-sa/3.0/"  # of MNIST
DIGITS = {"embedded": "5,000 digits of MNIST that ship with capsbench", "mnist": "full MNIST"}
CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, "
    "Proceedings of the IEEE 86(11):2278-2324, 1998; S. Sabour, N. Frosst and G. E. Hinton, Dynamic Routing Between "
    "Capsules, 2017, arXiv:1710.09829"
)
SHOWS = {
    "padded": "{one} at a random place on a black canvas",
    "affnist": "{one} under a random affine map",
    "multimnist": "two overlapping {several} of different classes",
    "cluttered": "{one} among scraps of others",
    "crowded": "{one} between two others, or between shuffled ones",
}
"""What an image of each data set shows; ``{one}`` is what a source image shows, ``{several}`` what several do."""
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
"""Croissant's own context."""


def croissant(file: DataFile, url: str = "") -> dict[str, Any]:
    """The Croissant description of a file, as plain JSON types.

    Args:
        file: A data file.
        url: The page where it is published; left out where there is none.
    """
    name = file.path.name
    where = {"url": url} if url else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": file.path.stem,
        "description": _description(file),
        "license": _licence(file),
        **where,
        "version": f"{file.spec.version}.0.0",
        "datePublished": datetime.fromtimestamp(file.path.stat().st_mtime, UTC).date().isoformat(),
        "creator": {"@type": "sc:Organization", "name": f"capsbench {VERSION}"},
        "citeAs": _citation(file),
        "keywords": [_title(file), file.spec.generator, "capsule networks", "robustness"],
        "isLiveDataset": False,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "description": f"HDF5; root digest {file.digest}, spec {file.spec.to_json()}",
                "contentUrl": f"{url.rstrip('/')}/{name}" if url else name,
                "contentSize": f"{file.path.stat().st_size} B",
                "encodingFormat": "application/x-hdf5",
                "sha256": _sha256(file.path),
            }
        ],
        **_responsible(file),
    }


def _description(file: DataFile) -> str:
    spec = file.spec
    height, width = file.images.shape[1:]
    one, several = SETS["qmnist"].shows
    if spec.digits_name:
        named = (f"an image of {spec.digits_name!r}", f"images of {spec.digits_name!r}")
        one, several = SETS[spec.digits_name].shows if spec.digits_name in SETS else named
    shown = f"a sample of the data set {spec.generator}"
    if spec.generator in SHOWS:
        shown = SHOWS[spec.generator].format(one=one, several=several)
    return (
        f"{len(file):,} images of {height}x{width} pixels, split {spec.split}, seed {spec.seed}: each shows {shown}. "
        f"Made from {_digits(file)} by a pure function of the spec, so that anyone can make the same bytes."
    )


def _digits(file: DataFile) -> str:
    if file.spec.digits_name:
        return told_digits(file.spec.digits_name)
    origin = origin_of(file.spec) or UNKNOWN
    return DIGITS.get(origin, "digits that are not known here")


def _title(file: DataFile) -> str:
    """What people call the source of the digits."""
    name = file.spec.digits_name
    return SETS[name].title if name in SETS else name or "MNIST"


def _licence(file: DataFile) -> str:
    """The licence of the source, which is that of the file."""
    name = file.spec.digits_name
    return SETS[name].licence if name in SETS else f"not known here: that of the digits {name!r}" if name else LICENCE


def _citation(file: DataFile) -> str:
    """What to cite: the source of the digits, and what the data sets are made after."""
    name = file.spec.digits_name
    if not name:
        return CITATION
    own = [SETS[name].made] if name in SETS else []
    return "; ".join([*own, CITATION.partition("; ")[2]])


def _responsible(file: DataFile) -> dict[str, Any]:
    """The minimal fields for responsible AI."""
    if file.spec.digits_name:
        return _responsible_for_others(file)
    return {
        "rai:dataCollection": "Synthetic: drawn by capsbench from MNIST, whose digits were written by employees of the "
        "US Census Bureau and by high-school students and collected by NIST.",
        "rai:dataCollectionType": ["Software Collection", "Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": f"The generator {file.spec.generator} (version {file.spec.version}) with "
        f"{json.dumps(dict(file.spec.parameters), sort_keys=True)}; integer arithmetic, Philox random numbers.",
        "rai:dataAnnotationProtocol": "Labels are MNIST's; an image has those of the digits that it shows.",
        "rai:dataLimitations": "Small grey digits of MNIST's writers; an accuracy here says little about other images. "
        "Images of one source digit are not independent.",
        "rai:dataBiases": "Those of MNIST: digits as they were written in the USA around 1990.",
        "rai:personalSensitiveInformation": "None is known: single handwritten digits without names.",
        "rai:dataUseCases": "Measuring the robustness of classifiers; not for reading documents.",
        "rai:dataSocialImpact": "None is expected.",
    }


def _responsible_for_others(file: DataFile) -> dict[str, Any]:
    """The same where the digits are not MNIST's: what is not known of them is not said."""
    title, spec = _title(file), file.spec
    return {
        "rai:dataCollection": f"Synthetic: drawn by capsbench from the images of {title}, which are not MNIST's; their "
        "publisher says how they were collected.",
        "rai:dataCollectionType": ["Software Collection", "Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": f"The generator {spec.generator} (version {spec.version}) with "
        f"{json.dumps(dict(spec.parameters), sort_keys=True)}; integer arithmetic, Philox random numbers.",
        "rai:dataAnnotationProtocol": f"Labels are those of {title}; an image has those of what it shows.",
        "rai:dataLimitations": "Small grey images; an accuracy here says little about others, and stands beside no "
        "value for MNIST. Images of one source image are not independent.",
        "rai:dataBiases": f"Those of {title}.",
        "rai:personalSensitiveInformation": "Not known here.",
        "rai:dataUseCases": "Measuring the robustness of classifiers.",
        "rai:dataSocialImpact": "Not known here.",
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def data_card(file: DataFile, url: str = "") -> str:
    """The data card of a file in Markdown."""
    spec = file.spec
    known = recognise(file.digest)
    facts = [
        ("file", f"`{file.path.name}`, {file.path.stat().st_size:,} bytes" + (f", {url}" if url else "")),
        ("SHA-256 of the file", f"`{_sha256(file.path)}`"),
        ("root digest of the samples", f"`{file.digest}`" + (f" ({known})" if known else "")),
        ("data set", f"{spec.generator}, version {spec.version}"),
        ("split, seed", f"{spec.split}, {spec.seed}"),
        ("parameters", f"`{json.dumps(dict(spec.parameters), sort_keys=True)}`"),
        ("source digits", f"{_digits(file)} (`{spec.digits[:12]}`)"),
        ("licence", _licence(file) if spec.digits_name else f"CC BY-SA 3.0, {LICENCE}, as MNIST's"),
    ]
    counts = classes(file)
    lines = [
        f"# {file.path.stem}", "", _description(file), "", "| | |", "|---|---|",
        *(f"| {name} | {said} |" for name, said in facts),
        "", "## Arrays", "", "| array | shape | type |", "|---|---|---|",
        *(f"| `/{one.name}` | {[len(file), *one.shape]} | {one.dtype} |" for one in file.columns),
        "", "## Classes", "", "| " + " | ".join(map(str, range(len(counts["classes"])))) + " |",
        "|" + "---|" * len(counts["classes"]), "| " + " | ".join(f"{number:,}" for number in counts["classes"]) + " |",
        "", *_measures(file), "## Notes", "",
        *(f"- {said if isinstance(said, str) else ', '.join(said)}" for said in _responsible(file).values()),
        "", "## Cite", "", f"{_citation(file)}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _measures(file: DataFile) -> list[str]:
    """The table of measures; nothing where they need what is not here."""
    if file.spec.imported:
        return []
    try:
        found = measure(file)
    except DataError:
        return []
    rows = [
        f"| {one.name} | {one.mean:.2f} | " + " | ".join(f"{p:.2f}" for p in one.percentiles) + " |" for one in found
    ]
    return ["## Measures", "", "| | mean | 5th percentile | median | 95th |", "|---|---|---|---|---|", *rows, ""]
