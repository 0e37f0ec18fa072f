"""Columns that only a simulated world has: attributes of its users and items, and its truth."""

from __future__ import annotations

from recpipe.schemas import Column, Type

AGE_GROUP = Column("age_group", Type.STRING, "Age in ten- to fifteen-year bands; leans a little to some themes.")
COUNTRY = Column("country", Type.STRING, "Two-letter country code; unrelated to taste.")
CATEGORY = Column("category", Type.STRING, "Shelf of the shop: the theme of the main topic.")
ITEM_TAGS = Column("tags", Type.STRINGS, "Words the shop files the item under: topics and style.")
PRICE = Column("price", Type.FLOAT32, "Price in euros; unrelated to preference.")
YEAR = Column("year", Type.INT32, "Year of release.")

TASTE_START = Column("taste_start", Type.VECTOR, "Taste on day 0, one weight a topic, sum 1.")
TASTE_END = Column("taste_end", Type.VECTOR, "Taste on the last day, one weight a topic, sum 1.")
RATING_BIAS = Column("rating_bias", Type.FLOAT32, "How much higher than others the user rates, in stars.")
TRAIT = Column("trait", Type.VECTOR, "What the item is about, one weight a topic, unit length.")
QUALITY = Column("quality", Type.FLOAT32, "How good the item is for anybody; about 0 on average.")
ATTRACTION = Column("attraction", Type.FLOAT32, "How well known the item is, lasting part; 1 on average.")
LOOK = Column("look", Type.FLOAT32, "What the picture shows, or the look the user likes, in radians.")
SOUND = Column("sound", Type.FLOAT32, "What the sound is like, or the sound the user likes, in radians.")
RELEASE_DAY = Column("release_day", Type.INT32, "Day it came on sale; negative: before day 0.")
