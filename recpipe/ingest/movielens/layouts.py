"""The layouts MovieLens came in, and which one a folder or zip has: told by its files, never by its name.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015;
columns, codes and encodings are those of the README in each data set.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from recpipe import schemas
from recpipe.errors import MissingInputError

USER, MOVIE, TITLE, TAG = "userId", "movieId", "title", schemas.TAG.name
GENRES, RELEASED = "genres", "release_date"
AGE, GENDER, OCCUPATION, ZIP = "age", "gender", "occupation", "zip"
_RATINGS = (USER, MOVIE, "rating", "timestamp")
_TAGS = (USER, MOVIE, TAG, "timestamp")
_MOVIES = (MOVIE, TITLE, GENRES)

EXPECTED = (
    "expected ml-100k (u.data, u.item, u.user), ml-1m (ratings.dat, movies.dat, users.dat), ml-10m (ratings.dat, "
    "movies.dat, tags.dat), or ml-20m, ml-25m, ml-32m, ml-latest or ml-latest-small (ratings.csv, movies.csv, "
    "tags.csv): the zip, or its folder"
)

# "unknown", the first flag of u.item, is no genre
GENRE_FLAGS = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_AGES = {
    "1": "Under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56+",
}
_OCCUPATIONS = [
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
]


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a layout.

    Attributes:
        columns: Its columns, in order.
        header: Its first line names them.
        text_column: Number of the column of free text, which may hold the separator.
    """

    name: str
    columns: tuple[str, ...]
    separator: str
    encoding: str = "utf-8"
    header: bool = False
    text_column: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a release.

    Attributes:
        codes: Column of the users -> its codes -> what they stand for.
    """

    name: str
    ratings: Member
    movies: Member
    users: Member | None = None
    tags: Member | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def members(self) -> list[Member]:
        """Return the files there are."""
        return [member for member in (self.ratings, self.movies, self.users, self.tags) if member is not None]


LAYOUTS = (
    Layout(
        "ml-latest",  # and ml-20m, ml-25m, ml-32m; their genome tables and links.csv are not read
        Member("ratings.csv", _RATINGS, ",", header=True),
        Member("movies.csv", _MOVIES, ",", header=True),
        tags=Member("tags.csv", _TAGS, ",", header=True),
    ),
    Layout(
        "ml-1m",
        Member("ratings.dat", _RATINGS, "::", "latin-1"),
        Member("movies.dat", _MOVIES, "::", "latin-1", text_column=1),
        users=Member("users.dat", (USER, GENDER, AGE, OCCUPATION, ZIP), "::", "latin-1"),
        codes={AGE: _AGES, OCCUPATION: {str(code): name for code, name in enumerate(_OCCUPATIONS)}},
    ),
    Layout(
        "ml-10m",
        Member("ratings.dat", _RATINGS, "::"),
        Member("movies.dat", _MOVIES, "::", text_column=1),
        tags=Member("tags.dat", _TAGS, "::", text_column=2),
    ),
    Layout(
        "ml-100k",
        Member("u.data", _RATINGS, "\t", "latin-1"),
        Member(
            "u.item",
            (MOVIE, TITLE, RELEASED, "video_release_date", "imdb_url", "unknown", *GENRE_FLAGS),
            "|",
            "latin-1",
        ),
        users=Member("u.user", (USER, AGE, GENDER, OCCUPATION, ZIP), "|", "latin-1"),
    ),
)
RATINGS_FILES = frozenset(layout.ratings.name for layout in LAYOUTS)
KNOWN_FILES = frozenset(member.name for layout in LAYOUTS for member in layout.members())


def find_layout(names: Collection[str], *, where: str) -> Layout:
    """Return the layout that has these files.

    Args:
        names: Files of one folder.
        where: That folder, for the message.

    Raises:
        MissingInputError: The files of no layout are all there.
    """
    missing = {
        layout.name: [member.name for member in layout.members() if member.name not in names] for layout in LAYOUTS
    }
    for layout in LAYOUTS:
        if not missing[layout.name]:
            return layout
    fewest = min(len(absent) for absent in missing.values())
    if not KNOWN_FILES & set(names):
        raise MissingInputError("no files of MovieLens are there", where=where, next_step=EXPECTED)
    told = [
        f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there; this looks like {name}"
        for name, absent in missing.items()
        if len(absent) == fewest
    ]
    raise MissingInputError("; or ".join(told), where=where, next_step=EXPECTED)
