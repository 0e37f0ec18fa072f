from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import build_tiny_bert

from recpipe.encoders import calibrated
from recpipe.encoders.calibrated import Calibration
from recpipe.encoders.resolve import resolve
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.text import TextEncoder
from recpipe.errors import GateError, UnavailableError

pytest.importorskip("nncf")
from recpipe.encoders import quantising

WORDS = ["love", "war", "robot", "night", "story", "city", "space", "comedy"]
INT8 = EncoderSettings(backend="openvino", precision="int8")


def made_up(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [f"{' '.join(random.choice(WORDS, random.integers(1, 12)))} {number}" for number in range(count)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Calibration]:
    """A model's folder, its calibrated form and what calibrating said of it."""
    folder, place = build_tiny_bert(tmp_path_factory.mktemp("int8") / "tiny"), tmp_path_factory.mktemp("calibrated")
    found = quantising.calibrate(resolve(str(folder)), INT8, role="document", texts=made_up(100), destination=place)
    return folder, place, found


def test_int8_is_near_float32_and_not_it(stored: tuple[Path, Path, Calibration]) -> None:
    folder, place, found = stored
    held_out = made_up(100)[found.calibration_texts :]
    rough = TextEncoder.load(resolve(str(folder)), INT8, role="document", device="cpu", calibrated=place)
    exact = TextEncoder.load(resolve(str(folder)), EncoderSettings(), role="document", device="cpu")
    vectors = rough.encode(held_out).vectors
    deviation = 1 - (vectors * exact.encode(held_out).vectors).sum(axis=1)
    assert 1e-6 < deviation.max() < 0.1
    assert (found.calibration_texts, found.held_out_texts) == (37, 63)
    assert found.max_deviation == pytest.approx(deviation.max(), abs=1e-5)
    assert found.mean_deviation == pytest.approx(deviation.mean(), abs=1e-5)
    assert 0.3 < found.overlap < 1


def test_a_stored_model_is_known_again_and_damage_is_seen(
    stored: tuple[Path, Path, Calibration], tmp_path: Path
) -> None:
    _, place, found = stored
    assert calibrated.read(place) == found
    assert calibrated.read(tmp_path / "nothing") is None
    for file in place.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / calibrated.WEIGHTS_FILE).open("ab") as weights:
        weights.write(b"x")
    assert calibrated.noted(tmp_path) == found
    with pytest.raises(UnavailableError, match="calibrated model is damaged"):
        calibrated.read(tmp_path)
    (tmp_path / calibrated.FIGURES_FILE).write_text("{")
    with pytest.raises(UnavailableError, match="calibrated model is damaged"):
        calibrated.noted(tmp_path)


def test_int8_without_its_model_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a calibrated model"):
        TextEncoder.load(resolve(str(build_tiny_bert(tmp_path))), INT8, role="document", device="cpu")


def test_texts_are_calibrated_on_or_measured_on_never_both() -> None:
    for count in (40, 100, 800, 2000):
        texts = [str(number) for number in range(count)]
        chosen, held_out = quantising.split(texts)
        assert not set(chosen) & set(held_out)
        assert len(chosen) == min(300, 3 * count // 8)
        assert len(held_out) == min(500, count - len(chosen))
    with pytest.raises(GateError, match="39 different texts are too few"):
        quantising.split(texts[:39])


def test_comparison_by_hand() -> None:
    """12 rows on a quarter circle: the two rows farthest from the first are each a neighbour the other lacks."""
    angles = np.linspace(0, 1, 12)
    exact = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    same = quantising.compare(exact, 3 * exact)  # length does not count
    assert same.max_deviation == pytest.approx(0, abs=1e-6)
    assert same.overlap == 1
    turned = exact.copy()
    turned[0] = [np.cos(2), np.sin(2)]  # from one end of the row to beyond the other
    found = quantising.compare(exact, turned)
    assert found.max_deviation == pytest.approx(1 - np.cos(2), abs=1e-6)
    assert found.mean_deviation == pytest.approx((1 - np.cos(2)) / 12, abs=1e-6)
    # of 11 others 10 are near. Row 0 leaves out row 11, afterwards row 1: 9 of 10 stay. Of the others, 1 to 5 leave
    # out row 11 and afterwards row 0; 6 to 11 leave out row 0 and afterwards (but row 6) row 1.
    expected = [_overlap(exact, turned, row) for row in range(12)]
    assert found.overlap == pytest.approx(np.mean(expected))
    assert found.overlap < 1


def _overlap(exact: np.ndarray, rough: np.ndarray, row: int) -> float:
    tops = []
    for vectors in (exact, rough):
        others = sorted(
            (other for other in range(len(vectors)) if other != row), key=lambda o: -vectors[row] @ vectors[o]
        )
        tops.append(set(others[:10]))
    return len(tops[0] & tops[1]) / 10


def test_the_gate_names_the_figures_and_the_next_step(tmp_path: Path) -> None:
    found = Calibration("d", 300, 500, 0.0271, 0.0031, 0.893)
    calibrated.require_overlap(found, 0.893, tmp_path)
    with pytest.raises(
        GateError, match=r"0\.893 stay.*min_overlap 0\.9\).*at most 0\.0271, mean 0\.0031.*500 texts"
    ) as caught:
        calibrated.require_overlap(found, 0.9, tmp_path)
    assert caught.value.exit_code == 7
    assert "encoder.precision=float32" in str(caught.value)
