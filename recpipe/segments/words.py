"""Words of free text in any script, for labels."""

from __future__ import annotations

import functools
import html
import re
import sys
import unicodedata
from collections.abc import Iterable

MAX_UNSPACED_CHARACTERS = 6
"""A longer run of a script written without spaces is a sentence, and cutting it makes nonsense."""

# Scripts written without spaces: Thai to Tibetan's neighbours, kana, Han, in the Basic Multilingual Plane.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")

_UNITS = frozenset({
    "cm", "fl", "ft", "gal", "inch", "inches", "kg", "lb", "lbs", "mg", "ml", "mm", "oz",
    "pack", "packs", "pc", "pcs", "piece", "pieces", "qty", "yd", "yds",
})  # fmt: skip
"""They stand beside every number of a product title and say nothing about it."""

_QUALIFIERS = frozenset({
    "bad", "best", "better", "big", "bigger", "biggest", "early", "good", "great", "large", "late", "little",
    "long", "new", "nice", "old", "short", "small", "tiny",
})  # fmt: skip
"""Too general alone, but a part of names: big bang, short stories, New York."""

_VERBS = frozenset({
    "admit", "admits", "admitted", "answer", "answered", "answering", "answers", "ask", "asked", "asking", "asks",
    "ate", "become", "becomes", "becoming", "began", "begin", "beginning", "begins", "begun", "believe", "believed",
    "believes", "bought", "bring", "bringing", "brings", "brought", "buy", "buying", "buys", "call", "called",
    "calling", "calls", "came", "catch", "catches", "catching", "caught", "change", "changed", "changes", "check",
    "checked", "checks", "choose", "chooses", "chose", "chosen", "come", "comes", "coming", "decide", "decided",
    "decides", "did", "do", "does", "doing", "done", "dropped", "eat", "eats", "end", "ended", "ends", "enjoy",
    "enjoyed", "enjoying", "enjoys", "explain", "explained", "explains", "fall", "fallen", "falls", "feel",
    "feeling", "feels", "fell", "felt", "find", "finding", "finds", "finish", "finished", "finishes", "follow",
    "followed", "follows", "forget", "forgets", "forgot", "forgotten", "found", "gave", "get", "gets", "getting",
    "give", "given", "gives", "giving", "go", "goes", "going", "gone", "got", "gotten", "happen", "happened",
    "happens", "has", "hate", "hated", "hates", "have", "having", "hear", "heard", "hearing", "hears", "held",
    "help", "helped", "helping", "helps", "hold", "holds", "hope", "hoped", "hopes", "keep", "keeping", "keeps",
    "kept", "knew", "know", "knowing", "known", "knows", "lead", "leads", "learn", "learned", "learning", "learns",
    "learnt", "leave", "leaves", "leaving", "left", "let", "lets", "lie", "lies", "like", "liked", "likes",
    "listen", "listens", "live", "lived", "lives", "look", "looked", "looking", "looks", "lose", "loses", "losing",
    "lost", "love", "loved", "loves", "loving", "made", "make", "makes", "making", "manage", "managed", "mean",
    "means", "meant", "meet", "meeting", "meetings", "meets", "met", "mind", "miss", "missed", "misses", "move",
    "moved", "moves", "need", "needed", "needs", "offer", "offers", "own", "owned", "owns", "pass", "passed",
    "passes", "pick", "picked", "picks", "prefer", "prefers", "put", "puts", "putting", "quit", "ran", "remember",
    "remembered", "remembers", "run", "runs", "said", "saw", "say", "saying", "says", "see", "seeing", "seem",
    "seems", "seen", "sees", "sell", "sells", "send", "sends", "sent", "set", "sets", "setting", "share", "shared",
    "shares", "show", "showed", "shown", "shows", "sit", "sits", "sitting", "sold", "speak", "speaks", "spend",
    "spending", "spends", "spent", "spoke", "stand", "standing", "stands", "start", "started", "starting", "starts",
    "stay", "stayed", "stays", "stick", "sticks", "stood", "stop", "stopped", "stops", "swear", "take", "taken",
    "takes", "taking", "talk", "talked", "talking", "talks", "taught", "teach", "teaches", "tell", "telling",
    "tells", "tend", "tends", "think", "thinking", "thinks", "thought", "told", "took", "tried", "tries", "try",
    "trying", "turn", "turned", "turns", "understand", "understands", "understood", "use", "used", "uses", "using",
    "wait", "waited", "waiting", "waits", "wake", "wakes", "want", "wanted", "wants", "went", "win", "wins", "wish",
    "wished", "wishes", "won", "wonder", "wondering", "wonders", "work", "worked", "works",
})  # fmt: skip
"""What anybody does with anything, in all forms; names of pastimes (cooking, reading, running) are not among them."""

_FILLERS = frozenset({
    "able", "actually", "advanced", "awake", "away", "beginner", "beginners", "bit", "complete", "course", "day",
    "days", "easy", "edition", "essential", "everybody", "favorite", "favorites", "favourite", "favourites",
    "friend", "friends", "fun", "guide", "guides", "half", "hour", "hours", "idea", "ideas", "introduction", "just",
    "kind", "life", "lot", "lots", "maybe", "minute", "minutes", "moment", "month", "months", "ok", "page", "pages",
    "people", "person", "place", "places", "quiet", "quite", "really", "simple", "simply", "soon", "sure", "thing",
    "things", "time", "times", "today", "tomorrow", "tonight", "truth", "vol", "volume", "way", "ways", "weakness",
    "week", "weekend", "weekends", "weeks", "year", "years", "yes", "yesterday",
})  # fmt: skip
"""Frequent in any text about oneself and in any title; no subject by themselves."""

_CONTRACTION = re.compile(r"(n't|'(m|re|ve|ll|d))$")
"""Ends of auxiliary verbs: don't, I'm, you're."""


@functools.cache
def _token_pattern() -> re.Pattern[str]:
    """Letters and digits with their combining marks, which `\\w` alone splits words at (Hindi, Thai)."""
    marks = "".join(
        chr(c) for c in range(0x300, min(sys.maxunicode, 0x10000)) if unicodedata.category(chr(c))[0] == "M"
    )
    inside = rf"[^\W_{re.escape(marks)}]|[{re.escape(marks)}]"
    return re.compile(rf"(?:{inside})+(?:['’\-](?:{inside})+)*")


@functools.cache
def stop_words() -> frozenset[str]:
    """English function words (scikit-learn's list), units, verbs and fillers; qualifiers are not among them."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) | _UNITS | _VERBS | _FILLERS


def tokens(text: str) -> list[str | None]:
    """Return the words of a text, lower case; None where a phrase cannot continue.

    Numbers, single letters, English function words, common verbs and fillers, and sentences in
    scripts without spaces are left out; they and punctuation end a phrase.
    """
    found: list[str | None] = []
    normal = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    end = 0
    for match in _token_pattern().finditer(normal):
        word = match.group().replace("’", "'").removesuffix("'s")
        if normal[end : match.start()].strip():
            found.append(None)
        found.append(word if _is_term(word) else None)
        end = match.end()
    return found


def _is_term(word: str) -> bool:
    if _UNSPACED.search(word):
        return 2 <= len(word) <= MAX_UNSPACED_CHARACTERS
    if len(word) < 2 or any(c.isdigit() for c in word) or _CONTRACTION.search(word):
        return False
    return word in _QUALIFIERS or word not in stop_words()


def terms(texts: Iterable[str | None]) -> set[str]:
    """Return the distinct words and two-word phrases of the texts of one user or item.

    A qualifier begins a phrase and is no word by itself.
    """
    found: set[str] = set()
    for text in texts:
        previous = None
        for word in tokens(text) if text else ():
            if word and word not in _QUALIFIERS:
                found.add(word)
                if previous and previous != word:
                    found.add(f"{previous} {word}")
            previous = word
    return found
