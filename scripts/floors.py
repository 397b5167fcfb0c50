"""Counts the rooms of the package, their floors and who imports whom.

    python scripts/floors.py
    python scripts/floors.py --root OTHER_CHECKOUT --rooms
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Not as tests.rooms: torch-fidelity installs a package called tests.
sys.path.insert(0, str(ROOT / "tests"))

from rooms import arrows, floors, modules  # noqa: E402

MOST_LINES = 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="a checkout; default: this one")
    parser.add_argument("--rooms", action="store_true", help="list what each room imports")
    args = parser.parse_args()
    known, table = modules(args.root), arrows(args.root)
    table.pop("", None)
    loose = [m for m, p in known.items() if p.parent == args.root / "dpgen" and "__" not in p.name]
    lines = {module: len(path.read_text().splitlines()) for module, path in known.items()}
    try:
        high: list[list[str]] = floors(table)
        n_floors = str(len(high))
    except ValueError as error:
        high, n_floors = [], f"none: {error}"
    print(f"files                 {len(known)}")
    print(f"loose in dpgen/       {len(loose)}")
    print(f"rooms                 {len(table)}")
    print(f"arrows between rooms  {sum(map(len, table.values()))}")
    print(f"floors                {n_floors}")
    long = [f"{module} {n}" for module, n in lines.items() if n > MOST_LINES]
    print(f"over {MOST_LINES} lines        {', '.join(long) or 'none'}")
    for number, names in enumerate(high, start=1):
        print(f"{number:3}  {'  '.join(names)}")
    if args.rooms:
        for name, row in sorted(table.items()):
            print(f"{name}: {', '.join(f'{there} {n}' for there, n in sorted(row.items()))}")


if __name__ == "__main__":
    main()
