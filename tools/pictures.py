"""Folders of pictures for `isoflop fewshot`, one for each class, out of what a system's packages hold. No network.

    python tools/pictures.py clipart /usr/share/openclipart/svg clipart      # Debian's openclipart-svg; plain Python
    python tools/pictures.py glyphs /usr/share/fonts glyphs --first AC00     # needs Pillow and fontTools

`clipart` copies drawings of things (public domain), a class for each folder with enough of them; folders of icon
themes, shapes, flags and signs are left out, and what stands in a folder twice is copied once. `glyphs` draws the
characters of a block of Unicode in as many typefaces as have them, dark on white, one weight of each family; a class is
a character. What was left out, and why, is said at the end.
"""

import argparse
import collections
import hashlib
import pathlib
import shutil

# Parts of a path that hold no drawings of things: pictures of pictures, signs, and the same card fifty-four times.
NO_THINGS = ("computer/icons", "computer/buttons", "shapes", "signs_and_symbols", "special", "unsorted", "geography",
             "decorations", "recreation/games", "transportation/aiga-symbols", "transportation/roadsigns")


def clipart(args):
    root, seen, classes = pathlib.Path(args.source), set(), collections.defaultdict(list)
    files = sorted(root.rglob("*.svg"))
    if not files:
        raise SystemExit(f"{root} has no SVG files\nhint: apt-get install openclipart-svg, or unpack that package")
    for path in files:
        folder = path.parent.relative_to(root).as_posix()
        if any(folder == part or folder.startswith(f"{part}/") for part in NO_THINGS):
            continue
        digest = hashlib.sha256(path.read_bytes()).digest()
        # The same drawing in two classes would be right and wrong at once.
        if digest not in seen:
            seen.add(digest)
            classes[folder.replace("/", "-")].append(path)
    written = 0
    large = sorted(name for name, paths in classes.items() if len(paths) >= args.fewest)
    # What lies above folders that are classes is a mixture of them and of what fits nowhere.
    mixed = [name for name in large if any(other.startswith(f"{name}-") for other in large)]
    for name in large:
        if name in mixed:
            continue
        paths = classes[name]
        written += 1
        target = pathlib.Path(args.out) / name
        target.mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, target / path.name)
    print(f"{args.out}: {written} classes; left out: {len(classes) - len(large)} with fewer than {args.fewest} drawings, "
          f"{len(mixed)} mixed ({', '.join(mixed)})")


def faces(root):
    """One typeface of each family: the plainest, by its name."""
    from fontTools.ttLib import TTFont

    found = {}
    for path in sorted(p for ending in ("*.ttf", "*.otf") for p in pathlib.Path(root).rglob(ending)):
        try:
            font = TTFont(path, lazy=True)
            names = font["name"]
            family = names.getDebugName(16) or names.getDebugName(1) or path.stem
            style = names.getDebugName(17) or names.getDebugName(2) or ""
            characters = set(font.getBestCmap() or ())
        except Exception as error:  # a typeface that does not parse is no reason to stop
            print(f"{path}: {error}")
            continue
        rank = (style not in ("Regular", "Book", "Roman", "Normal"), "Italic" in style or "Oblique" in style, len(style))
        if family not in found or rank < found[family][0]:
            found[family] = (rank, path, characters)
    if not found:
        raise SystemExit(f"{root} has no TrueType or OpenType files\nhint: name a folder of fonts")
    return {family: (path, characters) for family, (_, path, characters) in sorted(found.items())}


def glyphs(args):
    from PIL import Image, ImageDraw, ImageFont

    side, written, small = args.side, 0, 0
    fonts = {family: (ImageFont.truetype(str(path), side * 3), characters)
             for family, (path, characters) in faces(args.source).items()}
    for code in range(args.first, args.first + args.count):
        drawings = {}
        for family, (font, characters) in fonts.items():
            if code not in characters:
                continue
            box = font.getbbox(chr(code))
            width, height = box[2] - box[0], box[3] - box[1]
            if width <= 0 or height <= 0:
                continue
            # Whole and in the middle, with a twelfth of the side around it.
            whole = max(width, height) * 6 // 5
            image = Image.new("L", (whole, whole), 255)
            place = ((whole - width) // 2 - box[0], (whole - height) // 2 - box[1])
            ImageDraw.Draw(image).text(place, chr(code), font=font, fill=0)
            image = image.resize((side, side), Image.Resampling.BOX)
            drawings.setdefault(image.tobytes(), (family, image))
        if len(drawings) < args.fewest:
            small += 1
            continue
        written += 1
        target = pathlib.Path(args.out) / f"U+{code:04X}"
        target.mkdir(parents=True, exist_ok=True)
        for family, image in drawings.values():
            image.save(target / f"{family.replace('/', ' ')}.png")
    print(f"{args.out}: {written} characters by up to {len(fonts)} families; {small} by fewer than {args.fewest}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    of = {"clipart": clipart, "glyphs": glyphs}
    for name, fewest in (("clipart", 20), ("glyphs", 20)):
        each = what.add_parser(name)
        each.add_argument("source", help="where they are")
        each.add_argument("out", help="where the folders of classes go")
        each.add_argument("--fewest", type=int, default=fewest, help="pictures that a class must have [%(default)s]")
        if name == "glyphs":
            each.add_argument("--first", type=lambda text: int(text, 16), default=0x21, help="first character, hexadecimal")
            each.add_argument("--count", type=int, default=94, help="characters that are tried [%(default)s]")
            each.add_argument("--side", type=int, default=28, help="pixels of a side [%(default)s]")
    args = parser.parse_args()
    of[args.what](args)


if __name__ == "__main__":
    main()
