from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recpipe.errors import DataError, MissingInputError, RecpipeError
from recpipe.schemas import (
    EMBEDDING,
    ITEM_EMBEDDINGS,
    ITEM_ID,
    RECOMMENDATIONS,
    SCORE,
    USER_ID,
    Artifact,
    Column,
    Scope,
    Type,
)
from recpipe.store import artifacts, publish
from recpipe.store.arrow import vector_array
from recpipe.store.artifacts import ArtifactReader, ArtifactWriter, check
from recpipe.store.manifest import Manifest, read_manifest

WHOLE = Column("whole", Type.VECTOR, "A vector that is never missing.")
EVENTS = Artifact(
    "events", 3, Scope.TABLE, "Something with a number.", (USER_ID, SCORE), key=(USER_ID.name,), extra=True
)
WHOLES = Artifact("wholes", 1, Scope.TABLE, "", (USER_ID, WHOLE), key=(USER_ID.name,))


def manifest(artifact: Artifact = EVENTS, **changes: object) -> Manifest:
    values: dict[str, object] = {
        "artifact": artifact.name,
        "schema_version": artifact.version,
        "stage": "embed_items",
        "stage_version": 2,
        "view": "production",
        "settings": {"encoder": {"prompt": 'größe: "', "lengths": [1, 2]}},
        "fingerprint": "ab12",
        "inputs": {"items": "cd34"},
        "identity": "tiny@ef56",
        "seed": 42,
        "recpipe_version": "0",
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def events(n_rows: int, first: int = 0) -> pa.Table:
    ids = range(first, first + n_rows)
    return pa.table({
        "user_id": pa.array([f"u{i}" for i in ids], pa.string()),
        "score": pa.array(ids, pa.float32()),
        "extra": pa.array([i * 2 for i in ids], pa.int64()),
    })  # fmt: skip


def write(path: Path, table: pa.Table, artifact: Artifact = EVENTS) -> Manifest:
    with ArtifactWriter(path, artifact, manifest(artifact)) as writer:
        writer.write(table)
        return writer.commit(counted=3)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(publish.TEMPORARY)]


class TestPublication:
    def test_rows_and_manifest_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "events.parquet"
        with ArtifactWriter(path, EVENTS, manifest(details={"before": 1})) as writer:
            writer.write(events(3))
            writer.write(events(2, first=3))
            written = writer.commit(truncated=4)
        reader = ArtifactReader(path, EVENTS)
        assert reader.table().equals(events(5))
        assert reader.manifest == written == read_manifest(path)
        assert written.rows == 5
        assert written.details == {"before": 1, "truncated": 4}
        assert written.created_at.endswith("+00:00")
        assert written.settings == manifest().settings
        assert leftovers(path.parent) == []

    def test_other_programs_read_it(self, tmp_path: Path) -> None:
        write(tmp_path / "events.parquet", events(3))
        assert pq.read_table(tmp_path / "events.parquet").to_pylist()[2] == {"user_id": "u2", "score": 2.0, "extra": 4}

    def test_vectors_are_not_compressed_and_the_rest_is(self, tmp_path: Path) -> None:
        table = pa.table({"item_id": ["a"] * 50, "embedding": vector_array(np.ones((50, 4), np.float32))})
        write(tmp_path / "x.parquet", table, ITEM_EMBEDDINGS)
        group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
        assert [group.column(i).compression for i in range(2)] == ["ZSTD", "UNCOMPRESSED"]

    def test_an_exception_publishes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "events.parquet"
        write(path, events(1))
        before = path.read_bytes()
        with pytest.raises(RuntimeError, match="half way"), ArtifactWriter(path, EVENTS, manifest()) as writer:
            writer.write(events(5))
            raise RuntimeError("half way")
        assert path.read_bytes() == before
        assert leftovers(tmp_path) == []

    def test_without_commit_nothing_is_published(self, tmp_path: Path) -> None:
        with ArtifactWriter(tmp_path / "events.parquet", EVENTS, manifest()) as writer:
            writer.write(events(5))
        assert list(tmp_path.iterdir()) == []

    def test_a_bad_row_publishes_nothing(self, tmp_path: Path) -> None:
        bad = events(2).set_column(1, "score", pa.array([1.0, None], pa.float32()))
        with pytest.raises(DataError), ArtifactWriter(tmp_path / "events.parquet", EVENTS, manifest()) as writer:
            writer.write(events(2))
            writer.write(bad)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_written_is_a_mistake_but_no_rows_are_not(self, tmp_path: Path) -> None:
        with pytest.raises(RecpipeError, match="nothing was written"), ArtifactWriter(
            tmp_path / "events.parquet", EVENTS, manifest()
        ) as writer:  # fmt: skip
            writer.commit()
        assert write(tmp_path / "events.parquet", events(0)).rows == 0
        assert ArtifactReader(tmp_path / "events.parquet", EVENTS).table().num_rows == 0

    def test_a_full_disk_fails_before_the_first_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = artifacts.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(artifacts.shutil, "disk_usage", lambda _: usage._replace(free=2**20))
        with pytest.raises(RecpipeError, match="only 1 MiB of disk are free"):
            write(tmp_path / "events.parquet", events(1))

    def test_declared_columns_get_their_declared_types(self, tmp_path: Path) -> None:
        table = pa.table({"user_id": pa.array(["a"], pa.large_string()), "score": pa.array([1.0], pa.float64())})
        write(tmp_path / "events.parquet", table)
        assert pq.read_schema(tmp_path / "events.parquet").types == [pa.string(), pa.float32()]

    def test_a_writer_killed_before_the_rename_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "events.parquet"
        write(path, events(1))
        process = multiprocessing.get_context("spawn").Process(target=_die_before_rename, args=(path,))
        process.start()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
        assert ArtifactReader(path, EVENTS).rows == 1
        assert len(leftovers(tmp_path)) == 1
        # of another file whose name ends in this one's
        other = ".tmp-1-0123abcd-popular-events.parquet"
        (tmp_path / other).touch()
        (tmp_path / ".tmp-notes").touch()
        publish.sweep(tmp_path, path.name)
        assert sorted(leftovers(tmp_path)) == [other, ".tmp-notes"]
        publish.sweep(tmp_path)
        assert leftovers(tmp_path) == [".tmp-notes"]
        assert path.exists()


def _die_before_rename(path: Path) -> None:
    publish.finish = lambda temporary, final: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    write(path, events(100))


def test_two_writers_of_one_path_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert publish.temporary_for(path) != publish.temporary_for(path)
    with publish.replacing(path) as first, publish.replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert leftovers(tmp_path) == []


class TestCheck:
    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("user_id", ["a", None, "c"], "recommendations.user_id is null for user_id None, rank 2"),
            ("score", [0.5, float("nan"), 1], "recommendations.score is not finite for user_id 'b', rank 2"),
            ("score", [0.5, 1, float("-inf")], "recommendations.score is not finite for user_id 'c', rank 3"),
            ("score", [0.5, None, 1], "recommendations.score is null for user_id 'b', rank 2"),
        ],
    )
    def test_names_the_bad_row(self, column: str, values: list[object], message: str) -> None:
        good = {
            "user_id": ["a", "b", "c"],
            "rank": pa.array([1, 2, 3], pa.int32()),
            "item_id": ["x", "y", "z"],
            "title": ["X", None, "Z"],
            "score": pa.array([1, 2, 3], pa.float32()),
            "source": ["content"] * 3,
            "predicted_rating": pa.array([4.5, None, None], pa.float32()),
        }
        check(pa.table(good), RECOMMENDATIONS, "x")
        type_ = pa.array(good[column]).type
        table = pa.table({**good, column: pa.array(values, type_)})
        with pytest.raises(DataError) as caught:
            check(table, RECOMMENDATIONS, "out.parquet")
        assert caught.value.what == message
        assert caught.value.where == "out.parquet"

    def test_a_missing_column(self) -> None:
        with pytest.raises(DataError, match="events lacks the column score"):
            check(pa.table({"user_id": ["a"]}), EVENTS, "x")

    @pytest.mark.parametrize("value", [[np.nan, 1], [np.inf, 1], [np.inf, -np.inf]])
    @pytest.mark.parametrize("start", [0, 2])
    def test_vectors_that_are_not_finite(self, value: list[float], start: int) -> None:
        matrix = np.ones((6, 2), np.float32)
        matrix[3] = value
        present = np.array([True, False, True, True, False, True])
        table = pa.table({"item_id": list("abcdef"), "embedding": vector_array(matrix, present)}).slice(start)
        with pytest.raises(DataError, match="embedding is not finite for item_id 'd'"):
            check(table, ITEM_EMBEDDINGS, "x")

    def test_what_is_below_a_null_vector_does_not_matter(self) -> None:
        matrix = np.array([[np.nan, 1], [1, 1]], np.float32)
        table = pa.table({"item_id": ["a", "b"], "embedding": vector_array(matrix, np.array([False, True]))})
        check(table, ITEM_EMBEDDINGS, "x")

    def test_large_finite_vectors_are_finite(self) -> None:
        largest = np.full((1, 8), np.finfo(np.float32).max, np.float32)
        check(pa.table({"item_id": ["a"], "embedding": vector_array(largest)}), ITEM_EMBEDDINGS, "x")

    def test_a_vector_that_may_not_be_missing(self) -> None:
        column = vector_array(np.ones((3, 2), np.float32), np.array([True, True, False]))
        table = pa.table({"user_id": ["a", "b", "c"], "whole": column})
        check(table.slice(0, 2), WHOLES, "x")
        with pytest.raises(DataError, match=r"wholes\.whole is null for user_id 'c'"):
            check(table.slice(1), WHOLES, "x")


def many_groups(path: Path, sizes: list[int]) -> pa.Table:
    table = events(sum(sizes))
    with pq.ParquetWriter(path, table.schema) as writer:
        row = 0
        for size in sizes:
            writer.write_table(table.slice(row, size), row_group_size=max(size, 1))
            row += size
    return table


class TestReading:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(
        sizes=st.lists(st.integers(0, 7), max_size=6),
        ranges=st.lists(
            st.tuples(
                st.integers(0, 30), st.integers(0, 30), st.sampled_from([None, ["user_id"], ["extra", "user_id"]])
            ),
            min_size=1,
            max_size=6,
        ),
    )
    def test_a_row_range_is_a_slice(
        self, tmp_path: Path, sizes: list[int], ranges: list[tuple[int, int, list[str] | None]]
    ) -> None:
        path = tmp_path / "groups.parquet"
        table = many_groups(path, sizes)
        reader = ArtifactReader(path, EVENTS)
        assert reader.rows == table.num_rows
        for start, stop, columns in ranges:
            expected = table.select(columns) if columns else table
            assert reader.row_range(start, stop, columns).equals(expected.slice(start, max(0, stop - start)))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
    @given(sizes=st.lists(st.integers(0, 7), max_size=6), batch_rows=st.integers(1, 20))
    def test_batches_are_all_rows_in_order(self, tmp_path: Path, sizes: list[int], batch_rows: int) -> None:
        path = tmp_path / "groups.parquet"
        table = many_groups(path, sizes)
        batches = list(ArtifactReader(path, EVENTS).batches(["extra", "user_id"], batch_rows))
        assert all(0 < batch.num_rows <= batch_rows for batch in batches)
        expected = table.select(["extra", "user_id"])
        assert pa.concat_tables([expected.schema.empty_table(), *batches]).equals(expected)

    def test_columns_come_in_the_order_asked_for(self, tmp_path: Path) -> None:
        many_groups(tmp_path / "x.parquet", [2])
        assert ArtifactReader(tmp_path / "x.parquet", EVENTS).table(["score", "user_id"]).column_names == [
            "score",
            "user_id",
        ]

    def test_a_file_of_another_program_has_no_manifest(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"embedding": [[1.0, 2.0], None], "item_id": [1, 2]}), path)
        reader = ArtifactReader(path, ITEM_EMBEDDINGS)
        assert reader.manifest is None
        assert reader.table().to_pylist() == [
            {"embedding": [1.0, 2.0], "item_id": "1"},
            {"embedding": None, "item_id": "2"},
        ]
        assert reader.row_range(0, 1, ["item_id", "embedding"]).column_names == ["item_id", "embedding"]

    def test_a_missing_column(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"id": ["a"], "score": [1.0]}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match="events lacks the column user_id") as caught:
            ArtifactReader(tmp_path / "x.parquet", EVENTS)
        assert "columns: id, score" in str(caught.value.where)

    def test_another_schema_version(self, tmp_path: Path) -> None:
        write(tmp_path / "x.parquet", events(1))
        newer = Artifact("events", 4, Scope.TABLE, "", EVENTS.columns, key=EVENTS.key)
        with pytest.raises(DataError, match="events has schema version 3, not 4") as caught:
            ArtifactReader(tmp_path / "x.parquet", newer)
        assert caught.value.next_step == "run: recpipe embed-items --force"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match="events missing"):
            ArtifactReader(tmp_path / "x.parquet", EVENTS)

    @pytest.mark.parametrize("damage", ["empty", "text", "cut", "footer"])
    def test_a_damaged_file_is_bad_data(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "x.parquet"
        write(path, events(50))
        content = bytearray(path.read_bytes())
        footer = int.from_bytes(content[-8:-4], "little")
        changed = {
            "empty": b"",
            "text": b"user_id,score\n",
            "cut": content[: len(content) // 2],
            "footer": content[: -8 - footer] + b"\xff" * footer + content[-8:],
        }
        path.write_bytes(changed[damage])
        with pytest.raises(DataError) as caught:
            ArtifactReader(path, EVENTS)
        assert caught.value.where == str(path)
        assert caught.value.next_step

    @pytest.mark.parametrize("how", ["table", "row_range", "batches"])
    def test_a_flipped_bit_in_the_body_is_bad_data(self, tmp_path: Path, how: str) -> None:
        path = tmp_path / "x.parquet"
        table = pa.table({"item_id": ["a", "b"], "embedding": vector_array(np.array([[1.5, 2.5], [3.5, 4.5]]))})
        write(path, table, ITEM_EMBEDDINGS)
        content = bytearray(path.read_bytes())
        stored = np.array([3.5], "<f4").tobytes()
        assert content.count(stored) >= 1
        content[content.find(stored) + 2] ^= 0x40
        path.write_bytes(content)
        reader = ArtifactReader(path, ITEM_EMBEDDINGS)
        with pytest.raises(DataError, match="item_embeddings is damaged") as caught:
            {
                "table": reader.table,
                "row_range": lambda: reader.row_range(0, 2),
                "batches": lambda: [*reader.batches()],
            }[how]()
        assert caught.value.where == str(path)
        assert caught.value.next_step == "run: recpipe embed-items --force"

    @pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"artifact": "x"}', b"\xff"])
    def test_a_damaged_manifest_is_bad_data(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(events(1).replace_schema_metadata({b"recpipe": content}), path)
        with pytest.raises(DataError, match="not a readable artifact"):
            read_manifest(path)

    def test_keys_of_a_newer_manifest_are_ignored(self) -> None:
        assert Manifest.from_json({**manifest().to_json(), "later": 1}) == manifest()


def test_embedding_column_is_declared() -> None:
    assert EMBEDDING.nullable
    assert ITEM_EMBEDDINGS.column(ITEM_ID.name) is ITEM_ID
    with pytest.raises(KeyError, match="item_embeddings declares no column x"):
        ITEM_EMBEDDINGS.column("x")
