"""Finds folders of pictures that are parts of one set, people or versions, and no classes."""

from __future__ import annotations

import itertools
import re
import shlex
import unicodedata
from collections.abc import Sequence

from dpgen.data.formats.companions import versions
from dpgen.data.formats.location import Located
from dpgen.data.formats.splits import HUMP
from dpgen.images.classes import NO_CLASSES

# Words that stand beside a number where a folder holds a part. A grade, type, stage, level, score,
# group, phase or cluster with a number may be a class and is none of them.
_PARTS = (
    "batch", "part", "fold", "kfold", "cv", "shard", "chunk", "bucket", "piece", "partition",
    "block", "set", "subset", "dataset", "data", "collection", "folder", "subfolder", "dir",
    "directory", "disk", "disc", "volume", "vol", "archive", "download", "upload", "export", "dump",
    "delivery", "release", "version", "round", "run", "session", "sess", "ses", "visit", "trial",
    "experiment", "exp", "sequence", "seq", "series", "scan", "study", "acquisition", "acq",
    "video", "clip", "movie", "film", "frame", "page", "sheet", "album", "day", "week", "month",
    "year", "timepoint", "slide", "specimen", "sample", "plate", "fov", "tile", "patch", "site",
    "center", "centre", "hospital", "clinic", "institution", "scanner", "camera", "cam", "device",
    "worker", "gpu", "split", "image", "img", "picture", "photo", "file",
)  # fmt: skip
_PEOPLE = (
    "patient", "pat", "pt", "pid", "subject", "subj", "sub", "person", "participant", "proband",
    "volunteer", "individual", "case", "user", "client", "customer", "donor", "animal", "mouse",
    "actor", "speaker", "writer", "family",
)  # fmt: skip
_WORD = f"(?P<word>{'|'.join((*_PARTS, *_PEOPLE))})s?"
_BEHIND = re.compile(  # batch_0, part-00001-of-00010, site_a
    rf"(?<![^\W\d_]){_WORD}(?:[\W_]*(?P<number>\d+)|[\W_]+(?P<letter>[a-z]|[ivx]+))(?![^\W_])"
    r"(?:[\W_]*of[\W_]*\d+)?"
)
_BEFORE = re.compile(rf"(?<![^\W_])(?P<number>\d+)(?:st|nd|rd|th)?[\W_]*{_WORD}(?![^\W_])")
_CAMERA = re.compile(r"[1-9]\d\d(?=[A-Z0-9_]{5}$)[A-Z0-9_]*[A-Z][A-Z0-9_]*")  # 100CANON
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_NAMED = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_WHOLE = {  # by what the folders look like, if each of them matches
    "dates": re.compile(
        rf"{_YEAR}(?:[-_. ]?{_MONTH}(?:[-_. ]?{_DAY})?)?|{_DAY}[-_. ]{_MONTH}[-_. ]{_YEAR}"
        rf"|{_YEAR}[-_. ]?[qw]\d\d?"
        rf"|(?:{_YEAR}[-_. ]*|\d\d?[-_. ]*)?(?:{_NAMED})(?:[-_. ]*{_YEAR})?"
        r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    ),
    "the same pictures in several sizes": re.compile(r"\d{2,5}x\d{2,5}|x[2348]|[lhs]r"),
    "splits of one set": re.compile(
        r"tr|te|ts|va|(?:un)?seen|quer(?:y|ies)|gallery|probe|learn(?:ing)?|calibration"
    ),
    "pictures and what belongs to them": re.compile(
        r"inputs?|outputs?|targets?|sources?|gt|ground_?truth|before|after|rgb|depth|nir|infrared"
    ),
    "folders without a name": re.compile(
        r"(?:(?:new|untitled) folder|neuer ordner|nouveau dossier|nueva carpeta|nuova cartella"
        r"|新建文件夹)(?: ?\(?\d+\)?)?"
    ),
    "formats of files": re.compile(r"png|jpe?g|tiff?|bmp|gif|webp|dicom|dcm|nifti"),
    "versions of one set": re.compile(
        r"raw|originals?|(?:pre)?processed|resized|cropped|crops|augment(?:ed|ations?)|enhanced"
        r"|thumb(?:nail)?s?|compressed|full|full_?size|(?:high|low)_?res|cleaned"
    ),
    "records with and without labels": re.compile(r"(?:un|non_?)?labell?ed(?:_.*)?"),
}
_COPY = re.compile(r"(.+?)(?:[\W_]+(?:copy|old|backup|bak|orig)(?:[\W_]*\d+\W?)?| ?\(\d+\))")
_ASIDE = re.compile(
    r"(?:un|not[_ ])(?:sorted|labell?ed|tagged|annotated|classified|assigned)"
    r"|to[_ ](?:sort|check|review)|trash|junk|duplicates?|discard(?:ed)?|deleted|corrupt(?:ed)?"
    r"|exclude[ds]?|ignored?|todo|te?mp|quarantine|backups?|do[_ ]not[_ ]use"
)
_BUCKET = re.compile(r"[0-9]{3,}")
N_NAMED = 8  # folders up to here are listed in the command that takes them for classes


def one_class(
    located: Located, found: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Returns the one class that is declared for folders that look like no classes; None where the
    folders are classes.

    Raises ValueError for such folders where neither they nor one class are declared.

    Args:
        located: the pictures.
        found: names of their folders.
        classes: names of the classes, where they are declared.
    """
    if located.class_names is not None:
        return None
    doubtful, like = _doubtful(located, found)
    if not doubtful or (classes is not None and set(found) <= set(classes)):
        _refuse_set_aside(located, found, classes)
        return None
    if classes is not None and len(classes) == 1 and classes != NO_CLASSES:
        return classes
    few = len(found) <= N_NAMED and "," not in "".join(found)
    listed = shlex.quote(",".join(found)) if few else "NAME,NAME"
    people = (
        "; --unit folder with --max-records-per-unit bounds what a person counts for"
        if like == "people"
        else ""
    )
    raise ValueError(
        f"{located.root}: the folders {doubtful[0]}/ and {doubtful[1]}/ look like {like}, and not "
        "like classes: list the labels beside the folders, in a metadata.csv with the columns "
        "file_name and label or a dataset.json, or take all pictures for one class with --classes 1"
        f"{people}; if the folders are classes, say so with --classes {listed}"
    )


def _refuse_set_aside(
    located: Located, found: Sequence[str], classes: tuple[str, ...] | None
) -> None:
    """Refuses a folder of what was sorted out, or not sorted yet, beside those of classes."""
    aside = next((name for name in found if _ASIDE.fullmatch(_lower(name).strip(" _-."))), None)
    if aside is None or len(found) < 2 or (classes is not None and aside in classes):
        return
    raise ValueError(
        f"{located.root / aside} looks like pictures that were set aside, or not sorted yet, and "
        f"not like a class beside {next(name for name in found if name != aside)}/: move it away; "
        "if it is a class, say so by naming all classes with --classes NAME,NAME"
    )


def _doubtful(located: Located, found: Sequence[str]) -> tuple[list[str], str]:
    """Returns two folders or more that look like no classes, and what they look like."""
    lower = [_lower(name) for name in found]
    for like, pattern in _WHOLE.items():
        if len(found) > 1 and all(pattern.fullmatch(name) for name in lower):
            return list(found), like
    stems: dict[str, list[str]] = {}
    likes: dict[str, str] = {}
    for name in found:
        stem, like = _stem(name)
        if stem:
            stems.setdefault(stem, []).append(name)
            likes[stem] = like
    for stem, names in stems.items():
        if len(names) > 1:
            return names, likes[stem]
    by_lower = dict(zip(lower, found, strict=True))
    for name, text in zip(found, lower, strict=True):
        copy = _COPY.fullmatch(text)
        if copy is not None and copy[1] in by_lower:
            return [by_lower[copy[1]], name], "a folder and its copy"
    same = versions(located.files)
    if same:
        return same, "the same pictures in several versions, as the names in them are the same"
    return _buckets(located), "parts of one set, numbered on from folder to folder"


def _lower(name: str) -> str:
    return HUMP.sub("_", unicodedata.normalize("NFC", name)).lower()


def _stem(name: str) -> tuple[str, str]:
    """Returns the name of a part or a person without its number, and which it is; "" for others."""
    if _CAMERA.fullmatch(name):
        return name[3:], "parts of one set"
    text = _lower(name)
    match = _BEHIND.search(text) or _BEFORE.search(text)
    if match is None:
        return "", ""
    rest = f"{text[: match.start()]} {match['word']} # {text[match.end() :]}"
    stem = "".join(re.findall(r"[^\W_]|#", rest))
    return stem, "people" if match["word"] in _PEOPLE else "parts of one set"


def _buckets(located: Located) -> list[str]:
    """Returns folders 00000, 00001 and so on through which the pictures are numbered on: tools
    write a thousand pictures to a folder.
    """
    numbers: dict[str, list[int]] = {}
    for file in located.files:
        digits = re.findall(r"[0-9]+", file.path.stem)
        if file.class_name is None or not _BUCKET.fullmatch(file.class_name) or not digits:
            return []
        numbers.setdefault(file.class_name, []).append(int(digits[-1]))
    if not numbers or min(numbers)[0] != "0" or len({len(name) for name in numbers}) > 1:
        return []
    ends = [(min(one), max(one)) for _, one in sorted(numbers.items())]
    on = all(last < first for (_, last), (first, _) in itertools.pairwise(ends))
    return sorted(numbers) if on and len(ends) > 1 else []
