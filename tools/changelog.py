#!/usr/bin/env python3
"""Prints the section of a changelog that a tag releases:  tools/changelog.py v0.1.0 [CHANGELOG.md]

The section is `## 0.1.0`, `## v0.1.0` or `## [0.1.0]`, with or without a date after it; `unreleased` is the open one.
Links that other sections define are none of this one's. Leaves with 2 where there is no such section, or an empty one.
"""

import pathlib
import re
import sys

HEADING = re.compile(r"## +\[?v?(?P<name>[^\]\s]+)\]?(?: .*)?$")


def sections(text):
    """Name → lines of every section of the second level, in the file's order; fenced code has no headings."""
    found, lines, fenced = {}, None, False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else HEADING.match(line)
        if heading:
            lines = found.setdefault(heading["name"].lower(), [])
        elif lines is not None:
            lines.append(line)
    return found


def section(text, tag):
    """The section's text without its heading.

    Raises SystemExit with what is there instead.
    """
    name = tag.removeprefix("v").lower()
    found = sections(text)
    if name not in found:
        raise SystemExit(
            f"the changelog has no section for {tag}\nhint: rename `## Unreleased` to `## {name}`; "
            f"it has {', '.join(found) or 'none'}"
        )
    body = "\n".join(found[name]).strip("\n")
    if not body.strip():
        raise SystemExit(f"the changelog's section for {tag} is empty\nhint: say there what changed")
    return body + "\n"


def main(args):
    if len(args) not in (1, 2) or args[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if args[:1] in (["-h"], ["--help"]) else 2
    path = pathlib.Path(args[1] if len(args) == 2 else pathlib.Path(__file__).parents[1] / "CHANGELOG.md")
    try:
        sys.stdout.write(section(path.read_text(encoding="utf-8"), args[0]))
    except (OSError, SystemExit) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
