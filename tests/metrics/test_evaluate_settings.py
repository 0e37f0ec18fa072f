from __future__ import annotations

import subprocess
import sys

import pytest

from recpipe.config import identity_of, validate
from recpipe.errors import ConfigError
from recpipe.metrics.settings import EvaluateSettings


def test_defaults_and_lists_from_yaml() -> None:
    settings = validate(EvaluateSettings, {"k": [5], "slices": []})
    assert settings.k == (5,)
    assert settings.slices == ()
    assert EvaluateSettings().baselines == ("popularity", "recent_popularity", "random", "content")


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"k": []}, "k"),
        ({"k": [0]}, "k"),
        ({"k": [10, 10]}, "k"),
        ({"level": 95}, "level"),
        ({"n_bootstrap": 10}, "n_bootstrap"),
        ({"slices": ["cold_user"]}, "slices"),
    ],
)
def test_bounds(raw: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        validate(EvaluateSettings, raw)


def test_the_block_size_is_no_part_of_the_result() -> None:
    assert identity_of(EvaluateSettings(block_users=1)) == identity_of(EvaluateSettings())
    assert identity_of(EvaluateSettings(k=(3,))) != identity_of(EvaluateSettings())


def test_reading_the_settings_imports_nothing_heavy() -> None:
    code = "import sys, recpipe.metrics.settings; print([m for m in ('numpy', 'pyarrow', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
