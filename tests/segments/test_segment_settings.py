"""Settings of the cluster stage."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recpipe.config import validate
from recpipe.errors import ConfigError
from recpipe.segments.settings import ClusterSettings, FeatureGroup


def test_defaults_and_yaml_forms() -> None:
    settings = validate(
        ClusterSettings, {"pca_dim": None, "features": {"groups": ["activity"], "share_columns": ["genres"]}}
    )
    assert settings.n_clusters == 10
    assert settings.pca_dim is None
    assert settings.features.groups == (FeatureGroup.ACTIVITY,)
    assert settings.features.share_columns == ("genres",)
    assert settings.features.user_columns == "auto"


@pytest.mark.parametrize("raw", [{"n_clusters": 0}, {"n_cluster": 3}, {"features": {"groups": ["activty"]}}])
def test_wrong_settings_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        validate(ClusterSettings, raw)


def test_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, recpipe.segments.settings; print([m for m in ('numpy', 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
