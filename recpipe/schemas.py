"""Every artifact recpipe reads or writes, declared once.

This is the only place where a column name is spelled: other modules use the `Column`
objects (`ITEM_ID`, `EMBEDDING`, ...) or their names through them. No Arrow here; the
store turns these declarations into Arrow schemas and checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """Column types and how they are stored in Parquet."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BOOL = "bool"
    TIMESTAMP = "timestamp[us, UTC]"
    STRINGS = "list<string>"
    VECTOR = "fixed_size_list<float32>"


class Scope(StrEnum):
    """Where an artifact lives below the work directory."""

    TABLE = "table"
    """`tables/`: a validated source table, shared by both views."""
    SHARED = "shared"
    """Computed from no interaction, shared by both views."""
    VIEW = "view"
    """One in production, one in `evaluation/`."""
    EVALUATION = "evaluation"
    """Exists in `evaluation/` only."""
    MODEL = "model"
    """Inside the folder of a fitted model."""
    STUDY = "study"
    """Inside the folder of one study of `recpipe tune`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, type and meaning.

    Attributes:
        optional: The column may be absent.
        nullable: A present column may hold nulls.
    """

    name: str
    type: Type
    meaning: str
    optional: bool = False
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """One Parquet file (or, with `folder`, one model folder) with a fixed meaning.

    Attributes:
        key: Names of the columns that identify a row; unique together unless `repeats`.
        extra: Columns beyond the declared ones are kept (attributes of users and items).
        repeats: The key may occur on several rows.
        per_model: There is one for each model name (`train.name`), beside the model's folders.
    """

    name: str
    version: int
    scope: Scope
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    extra: bool = False
    repeats: bool = False
    folder: bool = False
    per_model: bool = False

    def column(self, name: str) -> Column:
        """Return the column of that name; KeyError when it is not declared."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} declares no column {name}")


USER_ID = Column("user_id", Type.STRING, "The user. Always text, also when it looks like a number.")
ITEM_ID = Column("item_id", Type.STRING, "The item. Always text, also when it looks like a number.")
TITLE = Column("title", Type.STRING, "A short name people recognise.", optional=True, nullable=True)
TEXT = Column("text", Type.STRING, "Free text that describes the row.", optional=True, nullable=True)
IMAGE = Column("image", Type.STRING, "Path of a picture.", optional=True, nullable=True)
AUDIO = Column("audio", Type.STRING, "Path of a sound.", optional=True, nullable=True)
RATING = Column("rating", Type.FLOAT32, "How the user rated the item.", optional=True, nullable=True)
TIMESTAMP = Column("timestamp", Type.TIMESTAMP, "When it happened.", optional=True, nullable=False)
POSITION = Column("position", Type.INT64, "Order within the user where no time is known.", optional=True)
TAG = Column("tag", Type.STRING, "A word a user gave an item.")

EMBEDDING = Column("embedding", Type.VECTOR, "Unit-length vector from the encoder; null when nothing to embed.", nullable=True)
BLOCK_PREFIX = "embedding_"
"""Columns of this prefix are vectors of single blocks of an item or user (title, image, audio, ...), null where it has none."""

PROFILE_EMBEDDING = Column("profile_embedding", Type.VECTOR, "Embedding of the user's own text.", optional=True, nullable=True)
HISTORY_EMBEDDING = Column("history_embedding", Type.VECTOR, "Recency-weighted mean of the embeddings of the user's items.", optional=True, nullable=True)

MEDIA_COLUMN = Column("column", Type.STRING, "The column that names the file: image or audio.")
MEDIA_PATH = Column("path", Type.STRING, "The file as it was looked for: below data.media_root.")
FAILURE_CODE = Column("code", Type.STRING, "What is wrong: missing, outside, unreadable, too_large, unsupported, empty, silent or no_vector.")
FAILURE_MESSAGE = Column("message", Type.STRING, "The same in a sentence, with its figures.")

FEATURE = Column("feature", Type.STRING, "Name of one behaviour feature: a coordinate of x.")
FEATURE_KIND = Column("kind", Type.STRING, "How it is computed: count, recency, rating, share, hour, weekday, numeric or category.")
FEATURE_SOURCE = Column("source_column", Type.STRING, "Column it is computed from.", nullable=True)
FEATURE_VALUE = Column("source_value", Type.STRING, "Value of that column it counts, for shares and categories.", nullable=True)
FEATURE_MEAN = Column("mean", Type.FLOAT64, "Mean over users; the value of a user for whom it is unknown.")
FEATURE_SCALE = Column("scale", Type.FLOAT64, "Standard deviation over users; 1 for a constant feature.")
FEATURES = Column("features", Type.VECTOR, "Behaviour features x, raw, in the order of profile_features.")

SEGMENT = Column("segment", Type.INT32, "Number of the segment; -1: the user has nothing to embed.")
CENTRE = Column("centre", Type.VECTOR, "Mean of the members' embeddings, in the encoder's space.")
DISTANCE = Column("distance", Type.FLOAT32, "Euclidean distance to the centre, in the space clustered; null without embedding.", nullable=True)
SIZE = Column("size", Type.INT64, "Number of members.")
SHARE = Column("share", Type.FLOAT32, "Members as a share of all users.")
LABEL = Column("label", Type.STRING, "What sets the segment apart, in a few words.")
TERMS = Column("terms", Type.STRINGS, "Words and attribute values more frequent here than elsewhere.")
TOP_ITEMS = Column("items", Type.STRINGS, "Ids of the items that set the segment apart.")
TOP_TITLES = Column("titles", Type.STRINGS, "Their titles.")
COMPONENT = Column("component", Type.INT32, "Number of the principal component, largest variance first.")
COMPONENT_MEAN = Column("mean", Type.FLOAT64, "Projection of the mean embedding; subtracted from a projected embedding.")
COMPONENT_VECTOR = Column("vector", Type.VECTOR, "Unit vector of the component in the encoder's space.")

ITEM_VECTOR = Column("vector", Type.VECTOR, "Vector of the item, from the trained model.")

CHOSEN = Column("setting", Type.STRING, "What was chosen: model, or a hyper-parameter such as n_epochs.")
CHOSEN_VALUE = Column("value", Type.STRING, "Its value, as JSON.")
EPOCH = Column("epoch", Type.INT32, "Pass over the interactions; 1 is the first.")
TRAIN_LOSS = Column("train_loss", Type.FLOAT64, "Mean loss over the steps of the pass.")
VALIDATION = Column("validation", Type.FLOAT64, "Validation metric after the pass; the model's manifest names it.", nullable=True)
SECONDS = Column("seconds", Type.FLOAT64, "Wall-clock seconds of the pass.")

TRIAL = Column("trial", Type.INT32, "Number of the trial; 1 is the configuration as it is.")
TRIAL_STATE = Column("state", Type.STRING, "complete or failed.")
TRIAL_METRIC = Column("metric", Type.STRING, "What was measured on the validation interactions: ndcg over the whole ranking, or rmse.", nullable=True)
TRIAL_VALUE = Column("value", Type.FLOAT64, "The figure; null where the trial failed.", nullable=True)
TRIAL_SETTINGS = Column("settings", Type.STRING, "The settings searched, with their values, as JSON.")
TRIAL_SECONDS = Column("seconds", Type.FLOAT64, "Wall-clock seconds.")
TRIAL_REASON = Column("reason", Type.STRING, "Why it failed.", nullable=True)

RANK = Column("rank", Type.INT32, "1 is best.")
SCORE = Column("score", Type.FLOAT32, "Ranking score of the model; comparable within a user.")
SOURCE = Column("source", Type.STRING, "Path that produced it: the model's name, segment or popularity.")
PREDICTED_RATING = Column("predicted_rating", Type.FLOAT32, "Rating the model expects the user to give; never the ranking score. Null where the model predicts none.", nullable=True)
PREDICTED_RATING_LOW = Column("predicted_rating_low", Type.FLOAT32, "Lower end of the interval that holds nine of ten such ratings. Null where the model gives none.", nullable=True, optional=True)
PREDICTED_RATING_HIGH = Column("predicted_rating_high", Type.FLOAT32, "Upper end of that interval.", nullable=True, optional=True)
RECOMMENDED_TITLE = Column("title", Type.STRING, "Title of the item.", nullable=True)

MODEL_NAME = Column("model", Type.STRING, "Name of the model.")
REFERENCE = Column("reference", Type.STRING, "Model whose value is subtracted.")
SLICE = Column("slice", Type.STRING, "Part of the evaluation: all, warm_users, cold_users, cold_items, cold_items_only or segment_3.")
ITEM_SLICE = Column("slice", Type.STRING, "What is ranked and what counts: all, cold_items (cold ones found in the full list) or cold_items_only (ranked among themselves).")
METRIC = Column("metric", Type.STRING, "Name of the metric; the manifest holds its definition.")
LIST_LENGTH = Column("k", Type.INT32, "Length of list the metric looks at; 0 where there is no list.")
VALUE = Column("value", Type.FLOAT64, "The figure: a mean over users, or over ratings for rmse and mae.")
DIFFERENCE = Column("difference", Type.FLOAT64, "The model's figure minus the reference's, over the same users.")
LOW = Column("low", Type.FLOAT64, "Lower end of the interval; null where none can be given.", nullable=True)
HIGH = Column("high", Type.FLOAT64, "Upper end of the interval; null where none can be given.", nullable=True)
N_USERS = Column("n_users", Type.INT64, "Users behind the figure.")
WARM = Column("warm", Type.BOOL, "The user has training interactions.")
N_RELEVANT = Column("n_relevant", Type.INT32, "Held-out items of the user; in rows with k = 0, held-out ratings.")
NDCG = Column("ndcg", Type.FLOAT64, "Normalised discounted cumulative gain.", nullable=True)
RECALL = Column("recall", Type.FLOAT64, "Share of the held-out items found.", nullable=True)
HIT_RATE = Column("hit_rate", Type.FLOAT64, "1 where a held-out item was found, else 0.", nullable=True)
MRR = Column("mrr", Type.FLOAT64, "1 / rank of the first held-out item found, else 0.", nullable=True)
MAP = Column("map", Type.FLOAT64, "Average precision.", nullable=True)
NOVELTY = Column("novelty", Type.FLOAT64, "Mean surprise of the listed items, in bits.", nullable=True)
POPULARITY_PERCENTILE = Column("popularity_percentile", Type.FLOAT64, "Mean share of the catalogue less popular than a listed item.", nullable=True)
POPULARITY_BIAS = Column("popularity_bias", Type.FLOAT64, "Mean popularity of the listed items over that of the items people take.", nullable=True)
DIVERSITY = Column("diversity", Type.FLOAT64, "1 minus the mean cosine of all pairs of listed items.", nullable=True)
SQUARED_ERROR = Column("squared_error", Type.FLOAT64, "Sum of the squared errors of the predicted ratings; rows with k = 0 only.", nullable=True)
ABSOLUTE_ERROR = Column("absolute_error", Type.FLOAT64, "Sum of the absolute errors of the predicted ratings; rows with k = 0 only.", nullable=True)

USERS = Artifact(
    "users", 1, Scope.TABLE, "Users, validated. Derived from the interactions where no table is given.",
    (USER_ID, TEXT, IMAGE, AUDIO), key=("user_id",), extra=True,
)
ITEMS = Artifact(
    "items", 1, Scope.TABLE, "Items, validated; at least one of title, text, image and audio.",
    (ITEM_ID, TITLE, TEXT, IMAGE, AUDIO), key=("item_id",), extra=True,
)
INTERACTIONS = Artifact(
    "interactions", 1, Scope.TABLE,
    "Interactions, validated; the rows of one user stand together, oldest first, users in the order of the users table.",
    (USER_ID, ITEM_ID, RATING, TIMESTAMP, POSITION), key=("user_id", "item_id"), extra=True, repeats=True,
)
ITEM_EMBEDDINGS = Artifact(
    "item_embeddings", 1, Scope.SHARED,
    "Items as vectors v; a column embedding_BLOCK for each block encoded apart (texts, image, audio).",
    (ITEM_ID, EMBEDDING), key=("item_id",), extra=True,
)
USER_EMBEDDINGS = Artifact(
    "user_embeddings", 1, Scope.VIEW, "Users as vectors z: the normalised weighted mean of the parts that exist.",
    (USER_ID, PROFILE_EMBEDDING, HISTORY_EMBEDDING, EMBEDDING), key=("user_id",), extra=True,
)
ITEM_MEDIA_ERRORS = Artifact(
    "item_media_errors", 1, Scope.SHARED, "Pictures and sounds of items that give no vector, and why; written also when too many do.",
    (ITEM_ID, MEDIA_COLUMN, MEDIA_PATH, FAILURE_CODE, FAILURE_MESSAGE), key=("item_id", "column"),
)
USER_MEDIA_ERRORS = Artifact(
    "user_media_errors", 1, Scope.VIEW, "The same of users.",
    (USER_ID, MEDIA_COLUMN, MEDIA_PATH, FAILURE_CODE, FAILURE_MESSAGE), key=("user_id", "column"),
)
USER_PROFILES = Artifact(
    "user_profiles", 1, Scope.VIEW, "Profiles p = [x, c, centre of c].",
    (USER_ID, FEATURES, SEGMENT, CENTRE, DISTANCE), key=("user_id",),
)
PROFILE_FEATURES = Artifact(
    "profile_features", 1, Scope.VIEW, "What each coordinate of x means, and how to standardise it.",
    (FEATURE, FEATURE_KIND, FEATURE_SOURCE, FEATURE_VALUE, FEATURE_MEAN, FEATURE_SCALE), key=("feature",),
)
SEGMENTS = Artifact(
    "segments", 1, Scope.VIEW, "Segments: size, centre and what sets them apart.",
    (SEGMENT, SIZE, SHARE, LABEL, TERMS, TOP_ITEMS, TOP_TITLES, CENTRE), key=("segment",),
)
SEGMENT_SPACE = Artifact(
    "segment_space", 1, Scope.VIEW, "The PCA basis of the clustered space; no rows when cluster.pca_dim is null.",
    (COMPONENT, COMPONENT_MEAN, COMPONENT_VECTOR), key=("component",),
)
MODEL = Artifact(
    "model", 1, Scope.VIEW, "A fitted model: a folder with current.json, weights in safetensors and ids in Parquet.",
    (), key=(), folder=True,
)
ITEM_VECTORS = Artifact(
    "item_vectors", 1, Scope.MODEL, "The item side of a model whose score is a dot product.",
    (ITEM_ID, ITEM_VECTOR), key=("item_id",),
)
TRAINING_HISTORY = Artifact(
    "training_history", 1, Scope.MODEL, "Loss and validation metric pass by pass; no rows for models that learn in one go.",
    (EPOCH, TRAIN_LOSS, VALIDATION, SECONDS), key=("epoch",),
)
MODEL_CHOICE = Artifact(
    "model_choice", 1, Scope.EVALUATION, "What validation chose for the production fit; one file for each model name.",
    (CHOSEN, CHOSEN_VALUE), key=("setting",), per_model=True,
)
RECOMMENDATIONS = Artifact(
    "recommendations", 2, Scope.VIEW, "The result: items for every user, best first.",
    (
        USER_ID, RANK, ITEM_ID, RECOMMENDED_TITLE, SCORE, SOURCE, PREDICTED_RATING, PREDICTED_RATING_LOW,
        PREDICTED_RATING_HIGH,
    ),
    key=("user_id", "rank"),
)
TRAIN_INTERACTIONS = Artifact(
    "train_interactions", 1, Scope.EVALUATION, "What the evaluation view may learn from; stands for interactions there.",
    INTERACTIONS.columns, key=("user_id", "item_id"), extra=True, repeats=True,
)
VALIDATION_INTERACTIONS = Artifact(
    "validation_interactions", 1, Scope.EVALUATION, "Held out to choose hyper-parameters and epochs.",
    INTERACTIONS.columns, key=("user_id", "item_id"), extra=True, repeats=True,
)
TEST_INTERACTIONS = Artifact(
    "test_interactions", 1, Scope.EVALUATION, "Held out for the one table of metrics.",
    INTERACTIONS.columns, key=("user_id", "item_id"), extra=True, repeats=True,
)
METRICS = Artifact(
    "metrics", 1, Scope.EVALUATION, "How good each model's lists and predicted ratings are on the test interactions.",
    (MODEL_NAME, SLICE, METRIC, LIST_LENGTH, VALUE, LOW, HIGH, N_USERS), key=("model", "slice", "metric", "k"),
)
METRIC_DIFFERENCES = Artifact(
    "metric_differences", 1, Scope.EVALUATION, "Paired differences between models; real where the interval excludes 0.",
    (MODEL_NAME, REFERENCE, SLICE, METRIC, LIST_LENGTH, DIFFERENCE, LOW, HIGH, N_USERS),
    key=("model", "reference", "slice", "metric", "k"),
)
USER_METRICS = Artifact(
    "user_metrics", 1, Scope.EVALUATION, "The metrics of each user with held-out items, for paired comparisons later.",
    (
        MODEL_NAME, USER_ID, ITEM_SLICE, LIST_LENGTH, WARM, SEGMENT, N_RELEVANT, NDCG, RECALL, HIT_RATE, MRR, MAP,
        NOVELTY, POPULARITY_PERCENTILE, POPULARITY_BIAS, DIVERSITY, SQUARED_ERROR, ABSOLUTE_ERROR,
    ),
    key=("model", "user_id", "slice", "k"),
)
TRIALS = Artifact(
    "trials", 1, Scope.STUDY, "What `recpipe tune` tried, trial by trial; one file for each study.",
    (TRIAL, TRIAL_STATE, TRIAL_METRIC, TRIAL_VALUE, TRIAL_SETTINGS, TRIAL_SECONDS, TRIAL_REASON), key=("trial",),
)
TAGS = Artifact(
    "tags", 1, Scope.TABLE, "Tags users gave items: interactions, never item attributes.",
    (USER_ID, ITEM_ID, TAG, TIMESTAMP), key=("user_id", "item_id"), repeats=True,
)

ARTIFACTS: dict[str, Artifact] = {
    artifact.name: artifact
    for artifact in (
        USERS, ITEMS, INTERACTIONS, TAGS, ITEM_EMBEDDINGS, ITEM_MEDIA_ERRORS, USER_EMBEDDINGS, USER_MEDIA_ERRORS,
        USER_PROFILES, PROFILE_FEATURES,
        SEGMENTS, SEGMENT_SPACE, MODEL, ITEM_VECTORS, TRAINING_HISTORY, MODEL_CHOICE, RECOMMENDATIONS, TRAIN_INTERACTIONS, VALIDATION_INTERACTIONS, TEST_INTERACTIONS,
        METRICS, METRIC_DIFFERENCES, USER_METRICS, TRIALS,
    )
}
