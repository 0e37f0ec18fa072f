"""The phrase bank: what the books are about, and what people say who like it.

Every topic speaks twice: in the shop's words (tags, subjects, objects, activities) and in
its customers' words (confessions), which avoid the tags, so that matching a user to an item
takes understanding and not string comparison. A test holds the confessions to that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """Phrases about one topic.

    Attributes:
        tags: Words the shop files it under.
        subjects: Noun phrases in title case that a title is built around.
        objects: Plural noun phrases, things a description mentions.
        activities: Gerund phrases, things a description teaches.
        confessions: First-person clauses of a user who likes the topic.
    """

    tags: tuple[str, ...]
    subjects: tuple[str, ...]
    objects: tuple[str, ...]
    activities: tuple[str, ...]
    confessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Theme:
    """A shelf of the shop: related topics and the habits of those who like them.

    Attributes:
        peak_hour: Hour of the day, UTC, around which they buy.
        weekend_share: Share of their purchases made on Saturday or Sunday; 2/7 is even.
        age_group: Index of the age group that likes it most.
    """

    name: str
    peak_hour: int
    weekend_share: float
    age_group: int
    topics: tuple[Topic, ...]


def topic(*, tags: str, subjects: str, objects: str, activities: str, confessions: str) -> Topic:
    """Build a topic from lists written as text, separated by semicolons."""
    return Topic(*(_split(text) for text in (tags, subjects, objects, activities, confessions)))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";"))


TITLES: dict[str, tuple[str, ...]] = {
    "beginner": (
        "{} for Beginners", "{} Made Simple", "A First Book of {}", "{} from Scratch", "{} Without Fuss",
        "Start Here: {}",
    ),
    "step by step": (
        "{}, Step by Step", "A Year of {}", "The Weekend Book of {}", "{} Week by Week",
        "{} in Fifty Lessons", "{}, One Evening at a Time",
    ),
    "reference": (
        "A Handbook of {}", "The Complete Book of {}", "{}: A Practical Guide", "{} from A to Z",
        "The Essential Guide to {}", "A Hundred Questions about {}",
    ),
    "stories": (
        "In Praise of {}", "Notes on {}", "What {} Taught Me", "My Year with {}", "The Quiet Joy of {}",
        "Letters about {}",
    ),
    "advanced": (
        "Mastering {}", "Beyond the Basics: {}", "The Finer Points of {}", "{} in Depth", "{}: Advanced Lessons",
        "Serious about {}",
    ),
}  # fmt: skip
"""Style of a book → titles around a subject."""

CLOSINGS: dict[str, tuple[str, ...]] = {
    "beginner": (
        "Written for people who start from nothing.", "No experience needed.", "A gentle start, with little to buy.",
        "Ideal as a first book on the subject.",
    ),
    "step by step": (
        "Every step has its own picture.", "Each chapter fits into one weekend.",
        "Short tasks build up to something you will be proud of.", "Follow it from front to back or dip in.",
    ),
    "reference": (
        "Tables and an index make it easy to look things up.", "A book to keep within reach.",
        "Thorough, well illustrated and up to date.", "Answers the questions everybody asks sooner or later.",
    ),
    "stories": (
        "Warm, funny and honest about failure.", "Part memoir, part encouragement.",
        "To be read in an armchair.", "It reads like a conversation with a friend.",
    ),
    "advanced": (
        "Assumes that you know the basics.", "For readers who want to go further.",
        "Demanding, and worth the effort.", "The author does not shy away from the difficult parts.",
    ),
}  # fmt: skip
"""Style of a book → last sentence of its description."""

OPENINGS: tuple[str, ...] = (
    "From {object} to {object2}, this book takes you through {activity}.",
    "All about {activity}, with chapters on {object} and {object2}.",
    "The author has spent half a lifetime {activity}, and shares what worked.",
    "Learn what matters when {activity}: {object}, {object2} and a little patience.",
    "This book makes sense of {object} and {object2} and shows how they help in {activity}.",
    "Good advice on {activity}, and plain talk about {object}.",
    "{Object}, {object2} and the pleasure of {activity}: it is all here.",
    "What does {activity} really take? Start with {object}, says the author.",
)
MIDDLES: tuple[str, ...] = (
    "Later chapters turn to {activity2}.",
    "There is a long section on {object3}.",
    "Half of it deals with {activity2}, the rest with {object3}.",
    "You will also find ideas for {activity2}.",
    "It does not forget {object3}, nor the mistakes one makes when {activity2}.",
    "The pages on {object3} alone are worth the price.",
)
SIDELINES: tuple[str, ...] = (
    "A surprising chapter is about {activity}.",
    "The last part leads on to {activity}.",
    "It pairs well with {activity}, to which an appendix is devoted.",
    "Readers drawn to {object} will find plenty here too.",
)
"""Sentences about a second topic of the same book."""

SUBTITLES: tuple[str, ...] = tuple(
    f"{kind} from {place}"
    for place in (
        "Lisbon", "Bergen", "Kyoto", "the Alps", "Galway", "Ghent", "Kraków", "Oaxaca", "Cape Town", "Hobart",
        "the Hebrides", "Tallinn", "Bologna", "Vancouver", "Seville", "the Ardennes",
    )
    for kind in ("Lessons", "Ideas", "Notes")
)  # fmt: skip
"""Added to titles once a topic has used up its plain ones."""

ABOUT_ME: tuple[str, ...] = (
    "I teach at a primary school.", "Retired postman, two grandchildren.", "Nurse on night shifts.",
    "I moved here last year and am still settling in.", "Father of three, short of time.",
    "I work at a desk all day and need something for my hands or my head.", "Student, always broke.",
    "My flat is small but I make it work.", "Self-employed, so my weeks are never the same.",
    "I live with two cats and a patient partner.", "Accountant by day.", "Hello!", "Not sure what to write here.",
    "I commute by train and read a lot on the way.", "New to this shop, a friend told me about it.",
    "My sister gave me a voucher, so here I am.",
)  # fmt: skip
FRAMES: tuple[str, ...] = (
    "{Clause}.", "Truth be told, {clause}.", "{Clause}!", "My friends will tell you that {clause}.", "{Clause}.",
    "And yes, {clause}.", "{Clause}.", "I admit it: {clause}.",
)  # fmt: skip
"""Sentences around a confession."""
FAREWELLS: tuple[str, ...] = (
    "Open to suggestions.", "Surprise me.", "Looking for something to keep me busy.", "Always happy to learn.",
    "No thrillers, please.", "That is about it.", "Gifts for others do not count!",
)  # fmt: skip

AGE_GROUPS: tuple[str, ...] = ("18-24", "25-34", "35-49", "50-64", "65+")
COUNTRIES: tuple[str, ...] = ("DE", "FR", "GB", "NL", "ES", "PL", "SE", "IE")
