"""A data file for others: its Croissant description as JSON-LD, and a data card in Markdown.

Croissant 1.0 (mlcommons.org/croissant) with the minimal fields of its vocabulary for responsible AI. It describes HDF5
files as a whole: their arrays have no record sets in it, so the card lists them.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from capsbench.data.digits import name_of
from capsbench.errors import DataError
from capsbench.files.datafile import DataFile
from capsbench.files.inspection import classes, measure
from capsbench.files.published import recognise
from capsbench.spec import UNKNOWN
from capsbench.version import VERSION

LICENCE = "https://creativecommons.org/licenses/by-sa/3.0/"
DIGITS = {"embedded": "5,000 digits of MNIST that ship with capsbench", "mnist": "full MNIST"}
CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, "
    "Proceedings of the IEEE 86(11):2278-2324, 1998; S. Sabour, N. Frosst and G. E. Hinton, Dynamic Routing Between "
    "Capsules, 2017, arXiv:1710.09829"
)
SHOWS = {
    "padded": "a handwritten digit at a random place on a black canvas",
    "affnist": "a handwritten digit under a random affine map",
    "multimnist": "two overlapping handwritten digits of different classes",
    "cluttered": "a handwritten digit among scraps of others",
    "crowded": "a handwritten digit between two others, or between shuffled ones",
}
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
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
        "license": LICENCE,
        **where,
        "version": f"{file.spec.version}.0.0",
        "datePublished": datetime.fromtimestamp(file.path.stat().st_mtime, UTC).date().isoformat(),
        "creator": {"@type": "sc:Organization", "name": f"capsbench {VERSION}"},
        "citeAs": CITATION,
        "keywords": ["MNIST", file.spec.generator, "capsule networks", "robustness"],
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
    shown = SHOWS.get(spec.generator, f"a sample of the data set {spec.generator}")
    return (
        f"{len(file):,} images of {height}x{width} pixels, split {spec.split}, seed {spec.seed}: each shows {shown}. "
        f"Made from {_digits(file)} by a pure function of the spec, so that anyone can make the same bytes."
    )


def _digits(file: DataFile) -> str:
    origin = name_of(file.spec.digits) or UNKNOWN
    return DIGITS.get(origin, "digits that are not known here")


def _responsible(file: DataFile) -> dict[str, Any]:
    """The minimal fields for responsible AI."""
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
        ("licence", f"CC BY-SA 3.0, {LICENCE}, as MNIST's"),
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
        "", "## Cite", "", f"{CITATION}.", "",
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
