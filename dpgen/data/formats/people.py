"""Folders of people or of silos: pictures in PERSON/, CLASS/PERSON/ or SILO/CLASS/, whose folder is
their unit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dpgen.data.formats.location import DataFile, visible

LIST = "or name the people in a column, --unit COLUMN, or in a list, --unit FILE.csv"


def people_files(folder: Path) -> list[DataFile]:
    """Lists the pictures of one folder, which is a person's, or a class's with folders of people.
    """
    entries = visible(folder)
    inner = [entry for entry in entries if entry.is_dir()]
    if inner and len(inner) < len(entries):
        loose = next(entry for entry in entries if not entry.is_dir())
        raise ValueError(
            f"{folder} must hold the pictures of a person or the folders of people, got "
            f"{loose.name} and {inner[0].name}/: move one away, {LIST}"
        )
    class_name, people = (folder.name, inner) if inner else (None, [folder])
    files = []
    for person in people:
        pictures = visible(person)
        if not pictures:
            raise ValueError(f"{person} holds no images: remove the folder or fill it")
        deeper = next((entry for entry in pictures if entry.is_dir()), None)
        if deeper is not None:
            raise ValueError(
                f"{person} must hold the pictures of a person, got the folder {deeper.name}/: "
                f"move them up, {LIST}"
            )
        files += [DataFile(file, "", class_name, unit=person.name) for file in pictures]
    return files


def silo_files(folder: Path) -> list[DataFile]:
    """Lists the pictures in the class folders of one folder, which is their unit: UNIT/CLASS/."""
    files: list[DataFile] = []
    for inner in visible(folder):
        if not inner.is_dir():
            raise ValueError(
                f"{folder} must hold the folders of its classes, got {inner.name}: move it into one"
            )
        pictures = visible(inner)
        deeper = next((entry for entry in pictures if entry.is_dir()), None)
        if not pictures or deeper is not None:
            told = "nothing" if deeper is None else f"the folder {deeper.name}/"
            raise ValueError(f"class folder {inner} must hold pictures only, got {told}")
        files += [DataFile(file, "", inner.name, unit=folder.name) for file in pictures]
    if not files:
        raise ValueError(f"{folder} holds no images: remove the folder or fill it")
    return files


def in_peoples_folders(
    files: Sequence[DataFile], path: Path, splits: Collection[str]
) -> list[DataFile]:
    """Adds to listed pictures the person in whose folder they lie, PERSON/ or SPLIT/PERSON/.

    Args:
        files: the pictures, with their labels from a list.
        path: path of the list.
        splits: the folders beside it that name splits.
    """
    found = []
    for file in files:
        place = file.path.relative_to(path.parent)
        above = place.parts[:-1]
        if len(above) != (2 if above and above[0] in splits else 1):
            raise ValueError(
                f"{path}: with --unit folder a picture lies in PERSON/, got {place}: move it, "
                f"{LIST}"
            )
        if file.label is None:
            raise ValueError(
                f"{path} gives {place} no label, so its folder would be class and person at once: "
                f"add a column label, {LIST}"
            )
        found.append(replace(file, unit=above[-1]))
    return found


def require_one_level(files: Sequence[DataFile], folder: Path) -> None:
    """Refuses people's folders on two levels: PERSON/ beside CLASS/PERSON/."""
    bare = next((file for file in files if file.class_name is None), None)
    inner = next((file for file in files if file.class_name is not None), None)
    if bare is not None and inner is not None:
        raise ValueError(
            f"{folder} must have the folders of people on one level, got {bare.path} and "
            f"{inner.path}: move all into CLASS/PERSON/, or all into PERSON/"
        )
