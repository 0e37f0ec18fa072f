"""Worlds as they come: no users table, empty texts, users and items nobody knows, ids that look like numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import World
from runs import copy_of_finished, copy_world, manifest_of, vectors_of, write_csv


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path) -> Path:
    """A configuration of three tiny tables in the current folder."""
    monkeypatch.chdir(tmp_path)
    settings = {
        "data": {name: f"{name}.csv" for name in ("users", "items", "interactions")},
        "device": "cpu",
        "encoder": {"model_name": str(tiny_encoder)},
        "cluster": {"n_clusters": 2, "pca_dim": 2, "n_init": 2},
        "score": {"top_n": 4},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _small_tables() -> None:
    write_csv(
        Path("users.csv"), "user_id,text",
        "007,space robot", "7,love night", "1e3,", "mute,", "0.50,a story", "reader,war and comedy",
    )  # fmt: skip
    write_csv(
        Path("items.csv"), "item_id,title,text",
        "001,Space,space robot war", "1,Love,love story", "1.0,Night,", "0x10,,comedy of the city",
        "cold,Cold,nobody took this robot", "bare,Bare,",
    )  # fmt: skip
    write_csv(
        Path("interactions.csv"), "user_id,item_id,rating,timestamp",
        "007,001,5,1600000000", "7,1,4,1600000100", "7,001,3,1600000200", "1e3,1.0,5,1600000300",
        "0.50,0x10,2,1600000400", "007,1,1,1600000500",
    )  # fmt: skip


def _lists(path: str = "work/recommendations.parquet") -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["user_id"], []).append(row)
    return found


def test_ids_that_look_like_numbers_survive_to_the_end(small: Path, run_cli):
    _small_tables()
    run_cli("run", "-c", small)
    users = ["007", "7", "1e3", "mute", "0.50", "reader"]
    items = ["001", "1", "1.0", "0x10", "cold", "bare"]
    for name in ("user_embeddings", "user_profiles"):
        assert pq.read_table(f"work/{name}.parquet").column("user_id").to_pylist() == users
    assert pq.read_table("work/item_embeddings.parquet").column("item_id").to_pylist() == items
    lists = _lists()
    assert set(lists) == set(users)
    seen = {"007": {"001", "1"}, "7": {"1", "001"}, "1e3": {"1.0"}, "0.50": {"0x10"}}
    for user, rows in lists.items():
        taken = {row["item_id"] for row in rows}
        assert taken <= set(items) - seen.get(user, set())
        assert len(taken) == min(4, 6 - len(seen.get(user, ())))
    text = run_cli("recommend", "007", "-c", small).stdout
    assert text.startswith("user 007\n") and "space robot" in text
    run_cli("recommend", "07", "-c", small, expect=3)


def test_a_catalogue_smaller_than_top_n(small: Path, run_cli):
    _small_tables()
    run_cli("run", "-c", small, "--set", "score.top_n=50")
    lists = _lists()
    assert {user: len(rows) for user, rows in lists.items()} == {
        "007": 4, "7": 4, "1e3": 5, "mute": 6, "0.50": 5, "reader": 6,
    }  # fmt: skip
    for rows in lists.values():
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))


def test_a_user_who_took_everything_has_no_list_and_is_counted(small: Path, run_cli):
    _small_tables()
    with Path("interactions.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"reader,{item},5,1600001000\n" for item in ("001", "1", "1.0", "0x10", "cold", "bare"))
    result = run_cli("run", "-c", small)
    assert "reader" not in _lists()
    assert "1 users have no item left to recommend" in result.stderr
    details = manifest_of(Path("work/recommendations.parquet")).details
    assert (details["users"], details["users_without_items"]) == (5, 1)


def test_items_of_nobody_are_recommended(small: Path, run_cli):
    _small_tables()
    run_cli("run", "-c", small, "--set", "score.top_n=50")
    for user, rows in _lists().items():
        assert {"cold", "bare"} <= {row["item_id"] for row in rows}, user


def test_new_items_are_recommended_without_a_new_model(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = copy_of_finished(world, tmp_path)
    grown = copy_world(world, tmp_path / "world", score={"top_n": 100})
    with grown.items.open("a", encoding="utf-8") as file:
        file.write("late,A late robot,robot robot space,Robot\n")
    model = (work / "models" / "content" / "current.json").read_bytes()
    run_cli("embed-items", "-c", grown.config)
    run_cli("score", "-c", grown.config)
    assert (work / "models" / "content" / "current.json").read_bytes() == model
    assert all("late" in {row["item_id"] for row in rows} for rows in _lists().values())


def test_users_are_derived_from_interactions(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = copy_world(world, tmp_path / "world", data={"users": None})
    run_cli("run", "-c", bare.config)
    with bare.interactions.open(encoding="utf-8") as file:
        known = {line.split(",")[0] for line in list(file)[1:]}
    assert set(pq.read_table("work/tables/users.parquet").column("user_id").to_pylist()) == known
    assert len(known) == 38
    embeddings = pq.read_table("work/user_embeddings.parquet")
    assert embeddings.column("profile_embedding").null_count == 38
    assert embeddings.column("history_embedding").null_count == 0
    assert set(_lists()) == known
    assert run_cli("run", "-c", bare.config).stdout == "up to date: work\n"


def test_items_without_text_have_no_vector_and_are_counted(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blank = copy_world(world, tmp_path / "world", encoder={"item_text": ["text"]}, score={"top_n": 60})
    header, *rows = blank.items.read_text(encoding="utf-8").splitlines()
    for number, text in ((0, ""), (3, "   "), (9, "\u00a0")):
        fields = rows[number].split(",")
        rows[number] = ",".join([*fields[:2], text, fields[3]])
    blank.items.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    result = run_cli("run", "-c", blank.config)
    vectors = vectors_of(Path("work/item_embeddings.parquet"))
    assert [name for name, vector in vectors.items() if vector is None] == ["i00", "i03", "i09"]
    assert manifest_of(Path("work/item_embeddings.parquet")).details["empty"] == 3
    assert "items: 57 encoded, 0 from the cache, 3 without text" in result.stderr
    # after all others, where the user is known by a vector; seen ones aside, nothing is missing
    rows_of_warm = _lists()["u00"]
    assert {row["item_id"] for row in rows_of_warm[-3:]} <= {"i00", "i03", "i09"} | set(vectors)
    everything = {row["item_id"] for rows in _lists().values() for row in rows}
    assert {"i00", "i03", "i09"} <= everything


def test_a_user_with_neither_text_nor_history(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = copy_of_finished(world, tmp_path)
    row = pq.read_table(work / "user_embeddings.parquet", filters=[("user_id", "=", "u39")]).to_pylist()[0]
    assert row == {"user_id": "u39", "profile_embedding": None, "history_embedding": None, "embedding": None}
    profile = pq.read_table(work / "user_profiles.parquet", filters=[("user_id", "=", "u39")]).to_pylist()[0]
    assert profile["segment"] == -1 and profile["distance"] is None
    known = [vector for vector in vectors_of(work / "user_embeddings.parquet").values() if vector is not None]
    assert len(known) == 39
    np.testing.assert_allclose(profile["centre"], np.mean(known, axis=0), atol=1e-5)
    assert np.isfinite(profile["features"]).all()

    rows = _lists()["u39"]
    assert {row["source"] for row in rows} == {"popularity"}
    with world.interactions.open(encoding="utf-8") as file:
        counts = Counter(line.split(",")[1] for line in list(file)[1:])
    fifth = sorted(counts.values(), reverse=True)[4]
    assert all(counts[row["item_id"]] >= fifth for row in rows)
    assert [counts[row["item_id"]] for row in rows] == sorted((counts[row["item_id"]] for row in rows), reverse=True)
    details = manifest_of(work / "user_embeddings.parquet").details
    assert (details["without_embedding"], details["empty"], details["with_history"]) == (1, 2, 38)


def test_vectors_are_unit_length_and_mix_text_and_history(world: World, tmp_path: Path):
    path = copy_of_finished(world, tmp_path) / "user_embeddings.parquet"
    profile, history, both = (
        vectors_of(path, name) for name in ("profile_embedding", "history_embedding", "embedding")
    )
    for user, vector in both.items():
        if vector is None:
            continue
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        if profile[user] is not None and history[user] is not None:
            mixed = 0.5 * profile[user] + 0.5 * history[user]
            np.testing.assert_allclose(vector, mixed / np.linalg.norm(mixed), atol=1e-5)
        elif profile[user] is None:
            np.testing.assert_allclose(vector, history[user], atol=1e-5)
        else:
            np.testing.assert_allclose(vector, profile[user], atol=1e-5)


def test_history_none_ignores_what_users_took(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # no interactions, no items and no item embeddings are needed
    words = ("embed-users", "-c", world.config, "--set", "users.history=none")
    run_cli(*words)
    path = Path("work/user_embeddings.parquet")
    assert [user for user, vector in vectors_of(path).items() if vector is None] == ["u05", "u39"]
    assert pq.read_table(path).column("history_embedding").null_count == 40
    assert manifest_of(path).details["history"] == "none"
    assert not Path("work/tables/interactions.parquet").exists()


def test_history_text_encodes_titles_with_the_text(world: World, run_cli, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("embed-users", "-c", world.config, "--set")
    run_cli(*words, "users.history=none")
    plain = vectors_of(Path("work/user_embeddings.parquet"))
    run_cli(*words, "users.history=text")
    path = Path("work/user_embeddings.parquet")
    told = vectors_of(path)
    assert manifest_of(path).details["history"] == "text"
    assert [user for user, vector in told.items() if vector is None] == ["u39"]
    assert (told["u00"] != plain["u00"]).any(), "the titles were not read"
    assert (told["u38"] == plain["u38"]).all(), "a user without history was changed"
    assert pq.read_table(path).column("history_embedding").null_count == 40
    assert not Path("work/item_embeddings.parquet").exists()
    for command in ("embed-items", "cluster", "train", "score"):
        run_cli(command, "-c", world.config, "--set", "users.history=text")
    assert len(_lists()) == 40


def test_history_text_without_titles_is_refused(small: Path, run_cli):
    _small_tables()
    write_csv(Path("items.csv"), "item_id,text", "001,a", "1,b", "1.0,c", "0x10,d")
    result = run_cli("embed-users", "-c", small, "--set", "users.history=text", expect=2)
    assert "needs titles" in result.stderr and "set users.history: mean" in result.stderr


def test_no_ratings_and_no_times(small: Path, run_cli):
    _small_tables()
    write_csv(Path("interactions.csv"), "user_id,item_id", "007,001", "7,1", "1e3,1.0")
    result = run_cli("run", "-c", small, expect=3)  # one each: nothing can be held out
    assert "the split leaves nothing for validation and test" in result.stderr
    run_cli("run", "-c", small, "--skip-evaluation", "--set", "train.model=content")
    features = set(pq.read_table("work/profile_features.parquet").column("kind").to_pylist())
    assert not features & {"rating", "hour", "weekday", "recency"}
    assert set(_lists()) == {"007", "7", "1e3", "mute", "0.50", "reader"}


def test_no_interactions_yet(small: Path, run_cli):
    """The first night: a header and no row."""
    _small_tables()
    write_csv(Path("interactions.csv"), "user_id,item_id")
    result = run_cli("run", "-c", small, expect=3)
    assert "interactions" in result.stderr and "interactions.csv" in result.stderr


def test_columns_of_other_names_and_formats(small: Path, run_cli, tmp_path: Path):
    write_csv(Path("people.tsv"), "uid\tbio\thobbies", "1\tspace robot\twar", "2\tlove\t")
    Path("things.jsonl").write_text(
        '{"sku": "a", "name": "Space robot"}\n{"sku": "b", "name": "Love night"}\n{"sku": "c", "name": "War"}\n',
        encoding="utf-8",
    )
    write_csv(Path("log.csv"), "who;what", "1;a", "2;b")
    settings = yaml.safe_load(small.read_text(encoding="utf-8"))
    settings["data"] = {
        "users": "people.tsv",
        "items": "things.jsonl",
        "interactions": "log.csv",
        "columns": {
            "users": {"user_id": "uid", "text": ["bio", "hobbies"]},
            "items": {"item_id": "sku", "title": "name"},
            "interactions": {"user_id": "who", "item_id": "what"},
        },
    }
    small.write_text(yaml.safe_dump(settings), encoding="utf-8")
    run_cli("run", "-c", small, "--skip-evaluation", "--set", "train.model=content")
    lists = {user: {row["item_id"] for row in rows} for user, rows in _lists().items()}
    assert lists == {"1": {"b", "c"}, "2": {"a", "c"}}
    assert pq.read_table("work/tables/users.parquet").column("text").to_pylist() == ["space robot. war", "love"]
