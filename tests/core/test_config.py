from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt

from recpipe.config import Execution, Settings, did_you_mean, identity_of, nearest, read_raw, to_yaml, validate
from recpipe.errors import ConfigError


class Colour(StrEnum):
    RED = "red"


class Leaf(Settings):
    width: PositiveInt = 3
    batch: Annotated[PositiveInt, Execution()] = 8
    names: tuple[str, ...] = ("a",)


class Branch(Settings):
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    kind: Literal["auto"] | PositiveInt = "auto"
    threads: Annotated[int, Execution] = 1


class Root(Settings):
    branch: Branch = Branch()
    device: Annotated[str, Execution()] = "cpu"
    folder: Path = Path("work")
    words: frozenset[str] = frozenset()
    since: datetime | None = None
    colour: Colour = Colour.RED
    required_when_given: dict[str, int] = Field(default_factory=dict)


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problem(folder: Path, text: str, *overrides: str) -> ConfigError:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        validate(Root, read_raw(path, overrides), path=path, overrides=overrides)
    assert caught.value.where == str(path)
    return caught.value


class TestDidYouMean:
    def test_the_likely_word_comes_first_and_all_are_listed(self) -> None:
        assert did_you_mean("widht", ["names", "width", "batch"]) == "did you mean 'width'? valid: width, batch, names"

    def test_nothing_is_guessed_where_nothing_is_like_it(self) -> None:
        assert did_you_mean("xyz", ["width", "batch"]) == "valid: batch, width"

    @given(st.text(), st.sets(st.text(min_size=1)))
    def test_nearest_lists_every_word_once(self, word: str, known: set[str]) -> None:
        assert sorted(nearest(word, known)) == sorted(known)


class TestReading:
    def test_nothing_given_is_all_defaults(self) -> None:
        assert validate(Root, read_raw(None)) == Root()

    def test_an_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        assert read_raw(write(tmp_path, "# nothing\n")) == {}

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="not found") as caught:
            read_raw(tmp_path / "none.yaml")
        assert caught.value.where == str(tmp_path / "none.yaml")

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            read_raw(tmp_path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"device: \xff\xfe")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_raw(path)

    @pytest.mark.parametrize("text", ["- a\n- b\n", "word\n", "12\n"])
    def test_a_configuration_is_a_mapping(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match="mapping of sections"):
            read_raw(write(tmp_path, text))

    def test_wrong_yaml_names_line_and_column(self, tmp_path: Path) -> None:
        path = write(tmp_path, "device: cpu\nbranch: {leaf: [1, 2\n")
        with pytest.raises(ConfigError, match="invalid YAML") as caught:
            read_raw(path)
        assert str(caught.value.where).startswith(f"{path}, line ")

    @pytest.mark.parametrize(
        ("text", "key"),
        [("device: cpu\nbranch: {}\ndevice: cuda\n", "device"), ("branch:\n  kind: 1\n  kind: 2\n", "branch.kind")],
    )
    def test_a_key_that_stands_twice(self, tmp_path: Path, text: str, key: str) -> None:
        with pytest.raises(ConfigError, match=f"key '{key}' stands twice: lines . and 3"):
            read_raw(write(tmp_path, text))

    def test_the_same_name_in_two_sections_is_no_repetition(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a: &a {x: 1}\nb: *a\nc: {x: 1}\n")
        assert read_raw(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}

    def test_yaml_cannot_make_objects(self, tmp_path: Path) -> None:
        path = write(tmp_path, "device: !!python/object/apply:os.getcwd []\n")
        with pytest.raises(ConfigError, match="invalid YAML"):
            read_raw(path)


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("branch.leaf.width=5", {"branch": {"leaf": {"width": 5}}}),
            ("device=cuda:1", {"device": "cuda:1"}),
            ("since=null", {"since": None}),
            ("since=", {"since": None}),
            ("branch.leaf.names=[a, 'b c']", {"branch": {"leaf": {"names": ["a", "b c"]}}}),
            ("branch.leaf={width: 7}", {"branch": {"leaf": {"width": 7}}}),
            ("folder=/a b/c=d.csv", {"folder": "/a b/c=d.csv"}),
            ("folder=C:\\data\\x", {"folder": "C:\\data\\x"}),
            ("folder=data/*.csv", {"folder": "data/*.csv"}),
            ("folder=*.csv", {"folder": "*.csv"}),
            ("folder=~/größe #1.csv", {"folder": "~/größe"}),
            ('folder="~/größe #1.csv"', {"folder": "~/größe #1.csv"}),
            ("device=|", {"device": "|"}),
            ("device=,", {"device": ","}),
            ("device=#", {"device": "#"}),
            ('device="8"', {"device": "8"}),
            (" device = cpu ", {"device": "cpu"}),
        ],
    )
    def test_values_are_yaml_and_signs_are_text(self, override: str, expected: dict[str, object]) -> None:
        assert read_raw(None, [override]) == expected

    @pytest.mark.parametrize("override", ["device", "=1", ".a=1", "a.=1", "a..b=1", ""])
    def test_malformed(self, override: str) -> None:
        with pytest.raises(ConfigError, match="--set") as caught:
            read_raw(None, [override])
        assert "section.key=value" in str(caught.value.next_step)

    def test_broken_value(self) -> None:
        with pytest.raises(ConfigError, match="invalid YAML") as caught:
            read_raw(None, ["branch.leaf.names=[a, b"])
        assert "--set branch.leaf.names" in str(caught.value.where)

    def test_a_value_is_no_section(self) -> None:
        with pytest.raises(ConfigError, match="'device' is a value, not a section"):
            read_raw(None, ["device=cpu", "device.kind=x"])

    def test_they_win_over_the_file_and_keep_its_other_keys(self, tmp_path: Path) -> None:
        path = write(tmp_path, "device: cuda\nbranch:\n  kind: 3\n  leaf:\n")
        raw = read_raw(path, ["branch.leaf.width=1", "branch.leaf.width=2"])
        assert raw == {"device": "cuda", "branch": {"kind": 3, "leaf": {"width": 2}}}


class TestProblems:
    def test_an_unknown_key(self, tmp_path: Path) -> None:
        error = problem(tmp_path, "device: cpu\nbranch:\n  leaf:\n    widht: 3\n")
        assert error.what.startswith("unknown key 'branch.leaf.widht' (line 4): did you mean 'width'?")
        assert error.exit_code == 2

    def test_an_unknown_section(self, tmp_path: Path) -> None:
        assert "unknown key 'brnach' (line 2): did you mean 'branch'?" in problem(tmp_path, "\nbrnach: {}\n").what

    def test_all_of_them_at_once(self, tmp_path: Path) -> None:
        what = problem(tmp_path, "branch:\n  leaf:\n    width: 0\n  threads: many\ncolour: blue\n").what
        assert "branch.leaf.width (line 3): " in what
        assert "(got 0)" in what
        assert (
            problem(tmp_path, "branch: {leaf: {width: wide}}").what
            == "branch.leaf.width (line 1): must be a valid integer (got 'wide')"
        )
        assert "branch.threads (line 4): " in what
        assert "colour (line 5): " in what

    def test_a_key_of_several_types_has_its_own_name(self, tmp_path: Path) -> None:
        what = problem(tmp_path, "branch:\n  kind: never\n").what
        assert what.count("branch.kind (line 2): ") == 2
        assert "literal" not in what.split(":")[0]

    def test_inside_a_list_and_a_mapping(self, tmp_path: Path) -> None:
        what = problem(
            tmp_path, "branch:\n  leaves: [{width: 1}, {width: 0}]\n  by_name:\n    x:\n      width: -1\n"
        ).what
        assert "branch.leaves.1.width (line 2): " in what
        assert "branch.by_name.x.width (line 5): " in what

    def test_what_was_set_on_the_command_line_has_no_line(self, tmp_path: Path) -> None:
        what = problem(tmp_path, "branch:\n  leaf: {width: 3}\n", "branch.leaf.width=0").what
        assert "branch.leaf.width (--set): " in what

    @pytest.mark.parametrize("value", [".nan", ".inf"])
    def test_not_a_number(self, value: str) -> None:
        class Share(Settings):
            share: float = 0.5

        with pytest.raises(ConfigError, match="share: "):
            validate(Share, read_raw(None, [f"share={value}"]))

    def test_a_missing_key_is_named(self) -> None:
        class Needs(Settings):
            path: Path

        with pytest.raises(ConfigError, match=r"^path: Field required"):
            validate(Needs, {})

    def test_keys_that_are_no_text(self, tmp_path: Path) -> None:
        assert "1" in problem(tmp_path, "1: x\n").what


class TestIdentity:
    def test_execution_fields_stay_out_at_every_depth(self) -> None:
        many = Root(
            device="cuda",
            branch=Branch(
                threads=9, leaf=Leaf(batch=9), leaves=(Leaf(batch=9),), by_name={"x": Leaf(batch=9)}
            ),
        )  # fmt: skip
        few = Root(branch=Branch(leaves=(Leaf(),), by_name={"x": Leaf()}))
        assert identity_of(many) == identity_of(few)
        assert "batch" not in str(identity_of(many))
        assert "threads" not in str(identity_of(many))
        assert "device" not in identity_of(many)

    @pytest.mark.parametrize(
        "changed",
        [
            Root(branch=Branch(leaf=Leaf(width=4))),
            Root(branch=Branch(leaves=(Leaf(),))),
            Root(branch=Branch(by_name={"x": Leaf()})),
            Root(folder=Path("other")),
            Root(words=frozenset({"a"})),
            Root(since=datetime(2020, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_everything_else_is_in_it(self, changed: Root) -> None:
        assert identity_of(changed) != identity_of(Root())

    def test_sets_have_one_order_in_every_process(self) -> None:
        code = (
            "from recpipe.config import Settings, identity_of\n"
            "class S(Settings):\n    words: frozenset[str]\n"
            "print(identity_of(S(words=frozenset('abcdefgh'))))"
        )
        printed = {
            subprocess.run(
                [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
            ).stdout
            for seed in ("1", "2")
        }
        assert printed == {"{'words': ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']}\n"}

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            Root().device = "cuda"  # type: ignore[misc]


def test_yaml_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = Root(
        branch=Branch(leaf=Leaf(names=("größe", "null", "12")), leaves=(Leaf(width=2),)),
        since=datetime(2020, 1, 1, tzinfo=UTC),
    )
    assert validate(Root, read_raw(write(tmp_path, to_yaml(settings)))) == settings
