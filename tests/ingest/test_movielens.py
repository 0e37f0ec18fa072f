"""Importing MovieLens folders."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recpipe import schemas
from recpipe.errors import DataError, MissingInputError
from recpipe.ingest.movielens.convert import import_movielens
from recpipe.ingest.movielens.titles import split_title

REAL = Path(__file__).parents[3] / "shared" / "data" / "movielens-latest-small" / "raw"

FILES = {
    "movies.csv": (
        "movieId,title,genres\r\n"
        "1,Toy Story (1995),Adventure|Animation\r\n"
        '2,"Matrix, The (1999)",Action\r\n'
        "3,Babylon 5,(no genres listed)\r\n"
    ),
    "ratings.csv": "userId,movieId,rating,timestamp\r\n1,2,4.5,964982703\r\n1,1,4.0,964981247\r\n",
    "tags.csv": 'userId,movieId,tag,timestamp\r\n2,1,2001,1445714994\r\n2,1,"fun, really",1445714996\r\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "ml"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content.encode())
    return source


def test_import(folder: Path, tmp_path: Path) -> None:
    done = import_movielens(folder, tmp_path / "out")
    assert (done.n_items, done.n_interactions, done.n_tags) == (3, 2, 2)
    assert pq.read_table(done.items).to_pylist() == [
        {
            "item_id": "1", "title": "Toy Story", "text": "Adventure, Animation", "year": 1995,
            "genres": ["Adventure", "Animation"],
        },
        {"item_id": "2", "title": "The Matrix", "text": "Action", "year": 1999, "genres": ["Action"]},
        {"item_id": "3", "title": "Babylon 5", "text": None, "year": None, "genres": []},
    ]  # fmt: skip
    interactions = pq.read_table(done.interactions)
    assert interactions.column_names == ["user_id", "item_id", "rating", "timestamp"]
    assert [(row["item_id"], row["rating"]) for row in interactions.to_pylist()] == [("1", 4.0), ("2", 4.5)]
    assert str(interactions.to_pylist()[0]["timestamp"]) == "2000-07-30 18:20:47+00:00"
    tags = pq.read_table(done.tags)
    assert tags.column_names == [column.name for column in schemas.TAGS.columns]
    assert not any(field.nullable for field in tags.schema)
    assert tags.column("tag").to_pylist() == ["2001", "fun, really"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "interactions.parquet",
        "items.parquet",
        "tags.parquet",
    ]


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (La Cité des enfants perdus)",
            1995,
        ),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura (The Adventure)", 1960),
        ("Cry, the Beloved Country (1995)", "Cry, the Beloved Country", 1995),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("2001: A Space Odyssey (1968) ", "2001: A Space Odyssey", 1968),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", 2009),
        ("1984", "1984", None),
        ("Babylon 5", "Babylon 5", None),
    ],
)
def test_titles(raw: str, title: str, year: int | None) -> None:
    assert split_title(raw) == (title, year)


def test_a_missing_file(folder: Path, tmp_path: Path) -> None:
    (folder / "tags.csv").unlink()
    with pytest.raises(MissingInputError, match=r"tags.csv is not there") as caught:
        import_movielens(folder, tmp_path / "out")
    assert "ml-latest" in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingInputError, match="folder or zip not found"):
        import_movielens(tmp_path / "nowhere", tmp_path / "out")


def test_another_layout(folder: Path, tmp_path: Path) -> None:
    (folder / "ratings.csv").write_text("user,item,rating\n1,2,3\n")
    with pytest.raises(DataError, match="header is 'user,item,rating'") as caught:
        import_movielens(folder, tmp_path / "out")
    assert "ratings.csv, line 1" in str(caught.value)
    old = tmp_path / "ml-1m"
    old.mkdir()
    (old / "ratings.dat").write_text("1::2::3::4\n")
    with pytest.raises(MissingInputError, match="looks like ml-1m"):
        import_movielens(old, tmp_path / "out")


def test_a_bad_row_leaves_no_half_file(folder: Path, tmp_path: Path) -> None:
    with (folder / "ratings.csv").open("a") as file:
        file.write("1,3,great,964981247\n")
    with pytest.raises(DataError, match="1 bad_rating") as caught:
        import_movielens(folder, tmp_path / "out")
    assert "ratings.csv, line 4" in str(caught.value)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["bad_interactions.parquet", "items.parquet"]


@pytest.mark.skipif(not REAL.exists(), reason="the MovieLens files are not here")
def test_the_real_files(tmp_path: Path) -> None:
    done = import_movielens(REAL, tmp_path)
    assert (done.n_items, done.n_interactions, done.n_tags) == (9742, 100_836, 3683)
    assert len(set(pq.read_table(done.interactions).column("user_id").to_pylist())) == 610
