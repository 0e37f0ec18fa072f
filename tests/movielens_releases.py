"""Small MovieLens data sets by hand, one for each layout, and how they come: folders and zips."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Kind = Callable[[dict[str, bytes]], Path]

# what u.item flags: "unknown", then the 18 genres in the order of u.genre
_FLAGS_OF_LEON = "0|1|0|0|0|0|1|0|1|0|0|0|0|0|0|0|1|0|0"
_NO_FLAGS = "1|" + "|".join("0" * 18)
WITH_USERS = {"items.parquet", "interactions.parquet", "users.parquet"}
WITH_TAGS = {"items.parquet", "interactions.parquet", "tags.parquet"}

LAYOUTS: dict[str, dict[str, bytes]] = {
    "ml-100k": {
        "u.data": b"196\t1\t3\t881250949\n186\t2\t4\t891717742\n196\t2\t5\t881250949\n",
        "u.item": (
            f"1|Léon, The (1994)|01-Jan-1995||http://leon|{_FLAGS_OF_LEON}\n"
            f"2|Dinosaurs (1995) (V)|01-Jan-1996||http://dinosaurs|{_NO_FLAGS}\n"
            f"267|unknown||||{_NO_FLAGS}\n"
        ).encode("latin-1"),
        "u.user": b"186|39|F|executive|00000\n196|49|M|writer|V1G4L\n",
        "u.genre": b"unknown|0\n",
        "u1.base": b"1\t1\t1\t1\n",
    },
    "ml-1m": {
        "ratings.dat": b"1::2::5::978300760\n1::1::3::978302109\n2::1::4::978298413\n",
        "movies.dat": (
            "1::Léon, The (1994)::Crime|Romance\n2::Star Wars:: Special Edition (1977)::Action|Sci-Fi\n"
        ).encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::02460-0001\n",
        "README": b"no table",
    },
    "ml-10m": {
        "ratings.dat": b"1::2::4.5::838985046\n1::1::3::838983525\n",
        "movies.dat": "1::Léon, The (1994)::Crime\n2::Heat (1995)::(no genres listed)\n".encode(),
        "tags.dat": b'15::1::"a::b: c", really::1215184630\n15::2::007::1215184631\n',
    },
    "ml-25m": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,4.5,1147880044\n1,1,3.0,1147868817\n",
        "movies.csv": 'movieId,title,genres\n1,"Léon, The (1994)",Crime\n2,Heat (1995),(no genres listed)\n'.encode(),
        "tags.csv": b'userId,movieId,tag,timestamp\n3,1,"so, classic",1439472355\n',
        "genome-scores.csv": b"movieId,tagId,relevance\n1,1,0.02875\n",
        "links.csv": b"movieId,imdbId,tmdbId\n1,0114709,862\n",
    },
}


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_zip(files: dict[str, bytes], path: Path, *, inner: str = "ml/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{inner}{name}", content)
    return path


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def rows(name: str, folder: str = "out") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{folder}/{name}.parquet").to_pylist()
    return rows


def shown(folder: str = "out") -> set[str]:
    return {path.name for path in Path(folder).iterdir() if not path.name.startswith(".")}


def as_folder(files: dict[str, bytes]) -> Path:
    return write_folder(files, Path("downloaded"))


def as_inner_folder(files: dict[str, bytes]) -> Path:
    return write_folder(files, Path("downloaded/any name")).parent


def as_zip(files: dict[str, bytes]) -> Path:
    return write_zip(files, Path("any name"))  # neither .zip nor ml- in the name


def as_flat_zip(files: dict[str, bytes]) -> Path:
    return write_zip(files, Path("flat.zip"), inner="")
