"""Views are understood however a table spells them, and a word that is not is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retune.data.readers.csv import Csv
from retune.data.views import in_views, read_views, view_of

SPELT = {
    "PA": ["PA", "pa ", "P-A", "P.A.", "POSTERO_ANTERIOR", "Postero-Anterior", "PA erect", "Chest PA", "Frontal (PA)"],
    "AP": ["AP", "AP Supine", "AP semi erect", "ANTEROPOSTERIOR", "Frontal AP", "AP_horizontal", "AP, portable"],
    "frontal": ["Frontal", "frontal view", "FRONT", "Rx Torax frontal", "Frontal 2", "Frontal X-ray"],
    "lateral": ["L", "LL", "RL", "LAT", "LATERAL", "Lateral Left", "left lateral", "XTABLE LATERAL"],
    "other": ["COSTAL", "EXCLUDE", "AP AXIAL", "PA LLD", "AP RLD", "LAO", "SWIMMERS", "oblique", "AP lordotic"],
    "": ["", " ", "UNK", "unknown", "nan", "None"],
}  # fmt: skip


@pytest.mark.parametrize(("view", "word"), [(view, word) for view, words in SPELT.items() for word in words])
def test_spellings(view: str, word: str) -> None:
    assert view_of(word) == view
    assert bool(in_views(np.array([word]), "frontal")[0]) == (view in ("PA", "AP", "frontal"))


@pytest.mark.parametrize("word", ["AP/PA", "PA and lateral", "frontal lateral", "erect", "röntgen", "XYZ"])
def test_what_is_not_understood_is_named_with_its_count(word: str) -> None:
    assert view_of(word) is None
    views, (note,) = read_views(np.array([word, "PA", word]))
    assert views.tolist() == ["other", "PA", "other"]
    assert f"'{word}' (2)" in note
    assert "2 images count" in note
    assert "views=all" in note


def test_a_table_with_views_spelt_out(tmp_path: Path) -> None:
    words = ["AP Supine", "Lateral Left", "Weird", "POSTERO_ANTERIOR"]
    rows = "".join(f"{k}.png,{k},{word},{k % 2}\n" for k, word in enumerate(words))
    (tmp_path / "t.csv").write_text("image,patient,view,Mass\n" + rows)
    data = Csv().read(tmp_path)
    assert data.image_id.tolist() == ["0.png", "3.png"]
    assert data.columns["view"].tolist() == ["AP", "PA"]
    assert data.dropped == {"view is not frontal": 2}
    assert any("'Weird' (1)" in note for note in data.notes)
