"""What may be done to a file of any kind, to JSON, XML and lists, before a job reads it.

Each mutator changes a file and says in a few words how. All that it draws comes from the generator it is given.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """What mutations may name.

    Attributes:
        folder: What is mutated lies in it.
        outside: Holds secret.tif, secret.txt, secret.gpkg and a folder `images`, which nothing may open.
        address: Of a server that nothing may call.
    """

    folder: Path
    outside: Path
    address: str

    def elsewhere(self, rng: random.Random) -> str:
        """A text that names something outside of the folder, or nothing at all."""
        secret, up = self.outside / "secret.tif", os.path.relpath(self.outside, self.folder)
        names = [
            str(secret), f"{up}/secret.tif", f"images/../{up}/secret.tif", f"./{up}/secret.txt", f"file://{secret}",
            f"/vsicurl/{self.address}/x.tif", f"/VSICURL/{self.address}/x.tif", f"{self.address}/x.tif",
            f"/vsizip/{self.outside}/secret.zip/a.tif", f"/vsisubfile/0_1000,{secret}", f"GTIFF_DIR:1:{secret}",
            f"NETCDF:{secret}:x", f"vrt://{secret}", r"\\server\share\x.tif", f"C:{secret}", f"images//{secret}",
            "/dev/zero", "/dev/stdin", "/vsistdin/", "/proc/self/environ", "images", "", ".", "..",
            "images/" + "x" * 5000, "images/a\0b.tif", "~/secret.tif", "images/%2e%2e/secret.tif",
            "MEM:::DATAPOINTER=0,PIXELS=9,LINES=9",
        ]  # fmt: skip
        return rng.choice(names)

    def crs(self, rng: random.Random) -> str:
        """A text in the place of a coordinate system."""
        secret = self.outside / "secret.txt"
        grids = f'EXTENSION["PROJ4_GRIDS","{secret}"]'
        texts = [
            str(secret), f"{self.address}/crs", f"ESRI::{secret}", f"+init={secret}:1", "PROJCS[]", "EPSG:4326", "\0",
            f"+proj=longlat +nadgrids={secret}", f"IGNF:{secret}", "urn:ogc:def:crs:EPSG::999999", "GEOGCS[" * 5000,
            'LOCAL_CS["x"]', f'VERT_CS["x",VERT_DATUM["y",2005,{grids}],UNIT["metre",1]]',
            '{"type":"GeographicCRS"}', f'PROJCRS["{"x" * 200_000}"]', "COMPD_CS[" + '"a",' * 3000 + "]",
        ]  # fmt: skip
        return rng.choice(texts)

    def junk(self, rng: random.Random) -> Any:
        """A value that JSON can hold, in the place of another."""
        deep: Any = []
        for _ in range(rng.choice([5, 300])):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        values = [
            None, True, False, -1, 0, 1, 2, 255, 256, 65536, 2**31 - 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400,
            1e308, -1e308, 5e-324, 0.5, float("nan"), float("inf"), -float("inf"), "", " ", "x" * 100_000, "\ud800",
            "\0", "NaN", "1e999", "0x10", "uint8", "complex64", "object", "a'; DROP TABLE chips; --", "%s%n",
            "{0.__class__}", "<script>alert(1)</script>", "\u202e\u0000\u2028", [], {}, [None], [[]], ["x"] * 300,
            [0] * 100_000, {"": ""}, deep, self.elsewhere(rng), self.elsewhere(rng), self.crs(rng),
        ]  # fmt: skip
        return rng.choice(values)


Mutator = Callable[[Path, random.Random, Target], str]


# Any file


def flip(path: Path, rng: random.Random, target: Target) -> str:
    """Change some bytes."""
    data = bytearray(path.read_bytes())
    count = rng.choice([1, 1, 3, 20])
    for _ in range(count if data else 0):
        # Headers are at the begin, and say what follows.
        end = len(data) if rng.random() < 0.4 else min(len(data), 400)
        data[rng.randrange(end)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    path.write_bytes(data)
    return f"{count} bytes changed"


def truncate(path: Path, rng: random.Random, target: Target) -> str:
    """Cut the end off."""
    data = path.read_bytes()
    size = rng.choice([0, 1, 8, rng.randrange(max(1, len(data))), max(0, len(data) - 1)])
    path.write_bytes(data[:size])
    return f"cut to {min(size, len(data))} bytes"


def repeat(path: Path, rng: random.Random, target: Target) -> str:
    """Put a part in a second time, or very often."""
    data = path.read_bytes()
    begin = rng.randrange(max(1, len(data)))
    part = data[begin : begin + rng.choice([1, 100, 5000])]
    times = rng.choice([1, 50, 100_000 // max(1, len(part))])
    path.write_bytes(data[:begin] + part * times + data[begin:])
    return f"{len(part)} bytes repeated {times} times"


def swap(path: Path, rng: random.Random, target: Target) -> str:
    """Put another file of the folder in its place."""
    others = [other for other in sorted(target.folder.rglob("*")) if other.is_file() and other != path]
    if not others:
        return truncate(path, rng, target)
    other = rng.choice(others)
    shutil.copyfile(other, path)
    return f"is {other.name} now"


def absent(path: Path, rng: random.Random, target: Target) -> str:
    """Remove it."""
    path.unlink()
    return "removed"


def pipe(path: Path, rng: random.Random, target: Target) -> str:
    """Put a named pipe in its place, at which a reader waits for ever."""
    path.unlink()
    os.mkfifo(path)
    return "a named pipe"


def folder_instead(path: Path, rng: random.Random, target: Target) -> str:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()
    return "a folder"


def link(path: Path, rng: random.Random, target: Target) -> str:
    """Put a link in its place: outside, to a device, or in a circle."""
    kind = path.suffix if path.suffix in (".gpkg", ".txt") else ".tif"
    outside = [target.outside / f"secret{kind}", target.outside]
    if path.parent == target.folder:  # the user's own choice, which may be a link
        outside = []
    to = rng.choice([*outside, Path("/dev/zero"), Path("/dev/full"), path])
    path.unlink()
    path.symlink_to(to)
    return f"a link to {'itself' if to == path else to}"


def link_folder(path: Path, rng: random.Random, target: Target) -> str:
    """Put a link in the place of the folder that holds the file, as far as there is one."""
    if target.folder in (path.parent, path.parent.parent):  # what the user names may be a link
        return link(path, rng, target)
    to = rng.choice([target.outside / "images", target.outside, Path("/")])
    for entry in path.parent.glob("*"):
        if to == target.outside / "images" and entry.is_file():
            shutil.copyfile(entry, to / entry.name)
    shutil.rmtree(path.parent)
    path.parent.symlink_to(to, target_is_directory=True)
    return f"its folder is a link to {to}"


def vast(path: Path, rng: random.Random, target: Target) -> str:
    """Make it huge, without using the disk."""
    size = rng.choice([3 * 10**9, 10**11])
    with path.open("ab") as file:
        file.truncate(size)
    return f"grown to {size} bytes"


def hidden_waiting(path: Path, rng: random.Random, target: Target) -> str:
    """Lay links at names under which something may be written."""
    for name in (f".{path.name}.partial", f".{path.name}.new", f".{path.name}.lock", f"{path.name}-journal",
                 f"{path.name}-wal", f"{path.name}.aux.xml"):  # fmt: skip
        waiting = path.with_name(name)
        if not waiting.exists():
            waiting.symlink_to(target.outside / rng.choice(["secret.txt", "new.txt", "images"]))
    return "links wait beside it"


ANY: tuple[Mutator, ...] = (
    flip, flip, flip, truncate, repeat, swap, absent, pipe, folder_instead, link, link, link_folder, vast,
    hidden_waiting,
)  # fmt: skip


# JSON


def places(values: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values are in a tree of JSON."""
    found = [before] if before else []
    if isinstance(values, dict):
        for name in values:
            found += places(values[name], (*before, name))
    elif isinstance(values, list):
        for number in range(min(len(values), 8)):
            found += places(values[number], (*before, number))
    return found


def mutate_tree(values: Any, rng: random.Random, target: Target) -> tuple[str, str]:
    """Change one value of a tree of JSON, in place; gives the text of the whole, and what was done."""
    found = places(values)
    if not found:
        return json.dumps(target.junk(rng)), "junk as a whole"
    # Those near the root matter more, and there are fewer.
    place = rng.choice(found) if rng.random() < 0.5 else rng.choice([one for one in found if len(one) <= 2])
    parent = values
    for step in place[:-1]:
        parent = parent[step]
    what = rng.choice(["junk"] * 8 + ["gone", "wrapped", "digits", "deep", "twice", "elsewhere", "crs", "raw"])
    mark = "\u2603mark\u2603"
    raw = mark
    if what == "gone":
        del parent[place[-1]]
    elif what == "wrapped":
        parent[place[-1]] = [parent[place[-1]]]
    elif what == "elsewhere":
        parent[place[-1]] = target.elsewhere(rng)
    elif what == "crs":
        parent[place[-1]] = target.crs(rng)
    elif what == "junk":
        parent[place[-1]] = target.junk(rng)
    else:
        parent[place[-1]] = mark
        raw = {
            "digits": "9" * rng.choice([400, 4301, 200_000]),
            "deep": rng.choice("[{").replace("{", '{"a":') * rng.choice([2000, 100_000]),
            "twice": f'1, "{place[-1]}": 2' if isinstance(parent, dict) else "1, 2",
            "raw": rng.choice(["NaN", "-Infinity", "1e999", "-0", "tru", "'x'", '"\\ud800"', '"\t"', ""]),
        }[what]
    try:
        text = json.dumps(values)
    except ValueError:  # more digits than Python writes
        text = json.dumps(values, default=str).replace(str(values), "0")
    return text.replace(json.dumps(mark), raw), f"{'/'.join(map(str, place))[:80]}: {what}"


def json_value(path: Path, rng: random.Random, target: Target) -> str:
    """Change one value."""
    text, what = mutate_tree(json.loads(path.read_text(encoding="utf-8-sig")), rng, target)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return what


def json_whole(path: Path, rng: random.Random, target: Target) -> str:
    """Something else in its place."""
    many = "{" + '"a":1,' * 200_000 + '"a":1}'
    short = ["", "null", "[]", "{}", "3", '"x"', "\ufeff{}", "{} {}"]
    text = rng.choice([*short, "[" * 200_000, '{"a":' * 200_000, "9" * 100_000, many])
    path.write_text(text)
    return f"is {text[:12]!r} ({len(text)} letters)"


JSON: tuple[Mutator, ...] = (*(json_value,) * 12, json_whole)


# XML and lists


def xml_text(path: Path, rng: random.Random, target: Target) -> str:
    """Change a text, or put in what XML can be made to do."""
    text = path.read_text(encoding="utf-8", errors="replace")
    what = rng.choice(["text", "text", "text", "bomb", "external", "deep", "many", "long", "attributes"])
    bomb = "".join(f'<!ENTITY a{number + 1} "{f"&a{number};" * 10}">' for number in range(9))
    texts = list(re.finditer(r">([^<]+)<", text))
    if what == "text" and texts:
        found = rng.choice(texts)
        junk = target.junk(rng)
        new = junk if isinstance(junk, str) else str(junk)[:200_000]
        new = new.replace("&", "&amp;").replace("<", "&lt;")
        text = text[: found.start(1)] + new + text[found.end(1) :]
    elif what == "bomb":
        text = f'<!DOCTYPE x [<!ENTITY a0 "lol">{bomb}]><annotation><object><name>&a9;</name></object></annotation>'
    elif what == "external":
        text = f'<!DOCTYPE x SYSTEM "{rng.choice([self_uri(target), target.address])}"><annotation>&x;</annotation>'
    elif what == "deep":
        text = "<object>" * 100_000 + "</object>" * 100_000
    elif what == "many":
        text = "<annotation>" + "<object><name>a</name></object>" * 60_000 + "</annotation>"
    elif what == "long":
        text = f"<annotation><object><name>{'x' * 5_000_000}</name></object></annotation>"
    else:
        text = "<annotation " + " ".join(f'a{number}="1"' for number in range(50_000)) + "/>"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"XML: {what}"


def self_uri(target: Target) -> str:
    """The secret text as an address."""
    return (target.outside / "secret.txt").as_uri()


def list_line(path: Path, rng: random.Random, target: Target) -> str:
    """Change a line of a list."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    place = rng.randrange(len(lines))
    words = lines[place].split()
    what = rng.choice(["word", "word", "word", "line", "many", "long", "binary", "wide"])
    if what == "word" and words:
        word = rng.randrange(len(words))
        junk = target.elsewhere(rng) if rng.random() < 0.6 else str(target.junk(rng))[:100_000]
        words[word] = junk
        lines[place] = "  ".join(words)
    elif what == "line":
        lines[place] = str(target.junk(rng))[:100_000]
    elif what == "many":
        lines *= 100  # more are a long job, and none that hangs
    elif what == "long":
        lines[place] = "x" * 20_000_000
    elif what == "binary":
        path.write_bytes(rng.randbytes(3000))
        return "list: binary"
    else:
        path.write_text("\n".join(lines), encoding="utf-16", errors="surrogatepass")
        return "list: UTF-16"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return f"list: {what}"


XML: tuple[Mutator, ...] = (xml_text,) * 10
LISTS: tuple[Mutator, ...] = (list_line,) * 10
