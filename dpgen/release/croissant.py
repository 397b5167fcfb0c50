"""``croissant.json``: describes the set in Croissant 1.1, with the fields of its responsible AI
vocabulary (RAI 1.0) and its provenance (PROV-O).
"""

from __future__ import annotations

import json
from typing import Any

from dpgen.data.formats.table import FORMATS
from dpgen.privacy.statements.statement import is_enforced
from dpgen.release.subject import MARKED, Subject
from dpgen.release.wording import (
    WARNING,
    attacks,
    guarantee,
    limits,
    not_covered,
    public_facts,
    why_none,
)

CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(subject: Subject) -> str:
    """Writes the description in JSON-LD."""
    return json.dumps(_metadata(subject), indent=2, ensure_ascii=False) + "\n"


def _metadata(subject: Subject) -> dict[str, Any]:
    words, content = subject.words, subject.content
    stated = {
        "license": words.of("license"),
        "datePublished": words.of("publication_date"),
        "creator": [{"@type": "Organization", "name": name} for name in words.curators],
        "rai:dataUseCases": words.of("intended_use"),
        "rai:dataReleaseMaintenancePlan": words.of("retention"),
    }
    privacy = guarantee(subject) if subject.certified else WARNING
    more = attacks(subject) if subject.certified else [why_none(subject)]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": subject.name,
        "description": f"{subject.description}. {privacy}",
        "version": "1.0.0",
        "dateCreated": subject.created,
        "keywords": [
            "synthetic",
            "differential privacy" if subject.certified else "no privacy guarantee",
        ],
        **{key: value for key, value in stated.items() if value},
        "rai:dataCollection": "Synthetic: drawn from a generative model that was trained on "
        "private images.",
        "rai:dataCollectionType": ["Software Collection"],
        "rai:personalSensitiveInformation": [privacy, *more, *public_facts(subject)],
        "rai:dataLimitations": limits(subject)
        + (not_covered(subject) if subject.certified else []),
        **_provenance(subject),
        **({"additionalProperty": _properties(subject)} if subject.certified else {}),
        "distribution": _files(subject),
        "recordSet": _records(subject),
        "identifier": f"sha256:{content['sha256']}",
        "additionalType": MARKED,
    }


def _provenance(subject: Subject) -> dict[str, Any]:
    parents = subject.content["artifact"]["parents"]
    return {
        "prov:wasDerivedFrom": [
            {"@type": "prov:Entity", "prov:label": f"statement sha256:{parent}"}
            for parent in parents
        ],
        "prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": subject.methods},
    }


def _properties(subject: Subject) -> list[dict[str, Any]]:
    """Returns the parameters of the guarantee, for which Croissant has no field of its own."""
    stated = subject.content["guarantee"]
    keys = ("epsilon", "delta", "adjacency", "unit", "max_records_per_unit")
    told = [*keys, *(["unit_bound"] if is_enforced(stated) else [])]
    return [{"@type": "PropertyValue", "propertyID": key, "value": stated[key]} for key in told]


def _files(subject: Subject) -> list[dict[str, Any]]:
    hashes, row = subject.hashes(), FORMATS[subject.layout]
    described: list[dict[str, Any]] = []
    for name, sha256 in hashes.items():
        kind = "application/json" if name.endswith(".json") else row.media_type
        described.append(
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "encodingFormat": kind,
                "sha256": sha256,
            }
        )
    if subject.layout == "folder":
        described.append(_file_set("pictures", "*/*.png", row.media_type))
    elif subject.layout == "parquet":
        described.append(_file_set("tables", row.shards, row.media_type))
    return described


def _file_set(name: str, includes: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "includes": includes,
        "encodingFormat": kind,
    }


def _records(subject: Subject) -> list[dict[str, Any]]:
    """Returns the classes, and the images if a reader of Croissant can read them: Croissant has no
    arrays, and `mlcroissant` stores the unpacked members of a tar by its name, in one place for all
    sets.
    """
    fields = {
        "folder": [
            _field("image", "sc:ImageObject", "pictures", {"fileProperty": "content"}),
            _field(
                "label", "sc:Text", "pictures", {"fileProperty": "fullpath"},
                {"regex": r"([^/\\]+)[/\\][^/\\]+$"},
            ),
        ],
        "parquet": [
            _field(
                "image", "sc:ImageObject", "tables", {"column": "image"}, {"jsonPath": "bytes"}
            ),
            _field("label", "sc:Integer", "tables", {"column": "label"}),
        ],
    }.get(subject.layout)  # fmt: skip
    classes = [
        {"classes/number": number, "classes/name": name}
        for number, name in enumerate(subject.class_names)
    ]
    kinds = {"number": "sc:Integer", "name": "sc:Text"}
    named = {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/number"},
        "field": [
            {"@type": "cr:Field", "@id": f"classes/{key}", "name": key, "dataType": kind}
            for key, kind in kinds.items()
        ],
        "data": classes,
    }
    images = {"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": fields}
    return [named] + ([images] if fields else [])


def _field(
    name: str, kind: str, files: str, extract: dict[str, str], transform: Any = None  # noqa: ANN401
) -> dict[str, Any]:  # fmt: skip
    source: dict[str, Any] = {"fileSet": {"@id": files}, "extract": extract}
    if transform is not None:
        source["transform"] = transform
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "dataType": kind,
        "source": source,
    }
