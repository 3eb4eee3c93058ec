"""Submissions that are hostile or broken, each made from a valid one by one change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_boards import ENTRY, edit, entry, put

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Hostile:
    """One submission.

    Args:
        change: What is done to the folder of a valid entry.
        words: What its refusal must say.
        outcome: ``refused``, or ``false`` where it is well-formed and does not hold.
    """

    change: Change
    words: str
    outcome: str = "refused"


TEXTS: dict[str, Hostile] = {}
"""Changes of ``entry.json``."""


def put_case(name: str, path: str, value: Any, words: str, outcome: str = "refused") -> None:
    TEXTS[name] = Hostile(lambda folder: put(folder, path, value), words, outcome)


def text_case(name: str, change: Callable[[str], str | bytes], words: str) -> None:
    def rewrite(folder: Path) -> None:
        changed = change((folder / ENTRY).read_text())
        (folder / ENTRY).write_bytes(changed if isinstance(changed, bytes) else changed.encode())

    TEXTS[name] = Hostile(rewrite, words)


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


# Fields that no entry has.
LEVELS = (
    "", "method", "strategy", "backbone", "prompts", "data", "scenario", "bootstrap", "metrics",
    "metrics.final_auc", "scores", "runs.0", "runs.0.values", "runs.0.cost",
)  # fmt: skip
for level in LEVELS:
    field = f"{level}.extra".lstrip(".")
    put_case(f"unknown {field}", field, 1, f"holds the field '{field}', which no entry has")
text_case("the name of a field in code", swap('"schema"', '"schema_name"'), "schema")

# Wrong types.
WRONG: dict[str, Any] = {
    "runs.0.cost.fit_seconds": "1", "runs.0.cost.stored_bytes": True, "runs.0.seed": True, "runs.0.threads": 1.0,
    "data.synthetic": 1, "data.n_test": "90", "method.version": 1, "method.name": 5, "method.authors": "A. Author",
    "runs.0.auc_matrix": {}, "runs.0.auc_matrix.0.0": "0.5", "runs.0.first.0": 1.5, "runs": {}, "metrics": None,
    "strategy.settings": [], "runs.0.versions": {"torch": 2}, "method.paper": ["https://example.org"],
}  # fmt: skip
for path, value in WRONG.items():
    put_case(f"{path} is {value!r}", path, value, path.split(".")[0])
text_case("a list", lambda text: f"[{text}]", "valid dictionary")
text_case("null", lambda text: "null", "valid dictionary")

# Numbers.
for token in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999"):
    text_case(f"seconds are {token}", swap('"fit_seconds": ', f'"fit_seconds": {token}, "x": '), "number")
put_case("a negative cost", "runs.0.cost.stored_images", -1, "runs.0.cost.stored_images")
put_case("negative seconds", "runs.0.cost.fit_seconds", -0.5, "runs.0.cost.fit_seconds")
put_case("endless seconds", "runs.0.cost.fit_seconds", 1e300, "runs.0.cost.fit_seconds")
put_case("an AUC above 1", "runs.0.auc_matrix.0.0", 1.0001, "runs.0.auc_matrix.0.0")
put_case("an AUC below 0", "runs.0.auc_matrix.0.0", -0.1, "runs.0.auc_matrix.0.0")
put_case("a final AUC above 1", "metrics.final_auc.mean", 1.5, "metrics.final_auc.mean")
put_case("forgetting below -1", "runs.0.values.forgetting", -2, "runs.0.values.forgetting")
put_case("a huge seed", "runs.0.seed", 2**40, "runs.0.seed")
text_case("ten thousand digits", swap('"seed": 0', f'"seed": {"9" * 10_000}'), "10,000 digits")
text_case("ten thousand decimals", swap('"seed": 0', f'"seed": 0.{"9" * 10_000}'), "10,002 digits")

# JSON that is none, or too much of it.
text_case("giant", lambda text: text + " " * 2**20, "larger than 1,048,576 bytes")
text_case("a hundred thousand brackets", lambda text: "[" * 100_000, "nested more than 16 deep")
text_case("brackets that close", lambda text: "[" * 50_000 + "]" * 50_000, "nested more than 16 deep")
text_case("a string that never ends", lambda text: '"' + '\\"' * 500_000, "is not JSON")
text_case("a backslash at the end", lambda text: text + '"\\', "is not JSON")
text_case(
    "a late duplicate among many",
    lambda text: "{" + ",".join(f'"{k}":0' for k in range(90_000)) + ',"89999":1}',
    "the key '89999' stands twice",
)
text_case("a duplicate key", swap('"track": ', '"track": "x", "track": '), "the key 'track' stands twice")
text_case(
    "a duplicate escaped", swap('"track": ', '"tr\\u0061ck": "x", "track": '), "the key 'track' stands twice"
)
text_case("a duplicate deep", swap('"n_test": ', '"n_test": 1, "n_test": '), "the key 'n_test' stands twice")
text_case("not UTF-8", lambda text: text.encode() + b"\xff", "is not UTF-8")
text_case("UTF-16", lambda text: text.encode("utf-16"), "is not UTF-8")
text_case("a byte-order mark", lambda text: text.encode("utf-8-sig"), "is not JSON")
text_case("truncated", lambda text: text[: len(text) // 2], "is not JSON")
text_case("empty", lambda text: "", "is not JSON")
text_case("followed by more", lambda text: text + "{}", "is not JSON")
text_case("comments", lambda text: "// hello\n" + text, "is not JSON")
text_case("half a character", swap('"note": "a note"', '"note": "\\ud800"'), "method.note")
text_case("half a character as a key", swap('"schema"', '"\\ud800": 1, "schema"'), "unicode")

# Settings.
deep: Any = 1
for _ in range(8):
    deep = [deep]
put_case("deep settings", "strategy.settings", {"a": deep}, "nested too deeply")
put_case("many settings", "strategy.settings", {str(k): 0 for k in range(600)}, "too many values")
put_case("a long setting", "strategy.settings", {"a": "x" * 501}, "more than 500 characters")
put_case("markup in a setting", "strategy.settings", {"a": ["<img src=x onerror=alert(1)>"]}, "no markup")
put_case("markup in a setting's name", "strategy.settings", {"<b>": 1}, "no markup")
put_case("settings of a run that none searched", "runs.0.settings", {"lr": 0.5}, "runs.0.settings")
TEXTS["searched settings that no run has"] = Hostile(
    lambda folder: edit(
        folder, lambda e: (e["strategy"].update(searched=True), e["strategy"].update(settings={}))
    ),
    "runs.0.settings",
)

# Text that is script, or looks like other text.
for name, text in {
    "script": "<script>alert(1)</script>", "an image": '"><img src=x onerror=alert(1)>', "backticks": "`id`",
    "a javascript link": "javascript:alert(1)", "a hidden javascript link": "JavaScript \t:alert(1)".replace("\t", ""),
    "a data link": "data:text/html;base64,PHNjcmlwdD4=",
}.items():  # fmt: skip
    put_case(f"{name} in the note", "method.note", text, "method.note: holds")
for name, text in {
    "a line break": "a\nb", "an escape": "\x1b[31mred", "a zero-width space": "a\u200bb", "right to left": "a\u202eb",
    "a null": "a\0b", "a soft hyphen": "a\u00adb", "a byte-order mark": "\ufeffa", "a filler": "a\u3164b",
    "a blank braille": "a\u2800b", "a variation": "a\ufe0fb", "a private letter": "a\ue000b", "a wide blank": "a\u3000b",
}.items():  # fmt: skip
    put_case(f"{name} in the note", "method.note", text, "unprintable character U+")
put_case("an accent on nothing", "method.note", "\u0301a", "accents")
put_case("a heap of accents", "method.note", "a" + "\u0301\u0315" * 20, "accents")
put_case("not composed", "method.note", "e\u0301", "not composed")
put_case("a note too long", "method.note", "x" * 301, "method.note")
put_case("an empty note", "method.note", "", "method.note")
put_case("a blank at the end", "method.note", "x ", "blank")
for name in ("../../etc", "../../../etc/passwd", "/etc", "a\n", "h\u043estile", "", " a", "a\u200b"):
    put_case(f"a method called {name!r}", "method.name", name, "method.name")
for version in ("../1", "1/2", "1\n", "v1", "1.", "", "1..2", "\u0661"):
    put_case(f"version {version!r}", "method.version", version, "method.version")
for track in ("../small-v1", "small-v1/..", "small-v1\n", "/small-v1", "SMALL-v1", "small-v1\0"):
    put_case(f"track {track!r}", "track", track, "track")
put_case("a name that makes no folder", "method.name", "a" + "+" * 59, "folder's name")
put_case("a label too many", "data.labels.1", "No Finding", "label")

# Links.
for link in (
    "javascript:alert(1)", "data:text/html,x", "ftp://example.org/x", "file:///etc/passwd", "//example.org/x",
    "https://user@example.org/", "https://user:word@example.org/", "https://@example.org/", "https:///x", "https://",
    "http://localhost/", "http://127.0.0.1/", "http://[::1]/", "http://[::1", "https://example.org/\x01",
    "https://example.org/\u202e", "https://ex\u0430mple.org/", "https://example.org/ x", "https://example.org\\@evil.org",
    'https://example.org/"onclick="x', "https://example.org/<b>", "https://example.org:99999999/", "example.org",
    "https://example.org/" + "x" * 300, "HTTPS://example.org%2f@evil.org",
):  # fmt: skip
    put_case(f"a link {link[:40]!r}", "method.paper", link, "method.paper")

# Another entry than its folder, its track or its data.
put_case("another track", "track", "small-random-v1", "which is another folder")
put_case("another name", "method.name", "Someone", "which is another folder")
put_case("another version", "method.version", "2", "which is another folder")
put_case("another schema", "schema", "retune.entry/2", "schema")
put_case("another data set", "data.name", "nih", "which is not track small-v1")
put_case("another scenario", "scenario.name", "data-incremental", "which is not track small-v1")
put_case("a data set that is a path", "data.name", "./evil.py", "which is not track small-v1")
put_case("fewer images", "data.settings.images", 200, "data.images is 200, the track's is 300")
put_case("images as a decimal", "data.settings.images", 300.0, "data.images is 300.0, the track's is 300")
put_case("seed as a truth", "data.settings.seed", False, "data.seed is false, the track's is 0")
put_case("a setting more", "data.settings.more", None, "the track has no setting data.more")
put_case("a scenario's other setting", "scenario.settings.order", "random", 'scenario.order is "random"')
put_case("fewer replicates", "bootstrap.replicates", 10, "its intervals are not made as all entries' are")
put_case("narrow intervals", "bootstrap.level", 0.5, "its intervals are not made as all entries' are")
put_case("another test set size", "data.n_test", 89, "scores.safetensors: items is")
put_case("no seed", "runs", [], "runs")


def _twice(key: str) -> Change:
    return lambda folder: edit(folder, lambda e: e["runs"][1].update({key: e["runs"][0][key]}))


for key in ("seed", "id"):
    TEXTS[f"a {key} twice"] = Hostile(_twice(key), f"two runs have the same {key}")
TEXTS["a row too few"] = Hostile(
    lambda folder: edit(folder, lambda e: e["runs"][1]["auc_matrix"].pop()), "runs.1.auc_matrix is not 3 rows"
)
TEXTS["a label too few in a row"] = Hostile(
    lambda folder: edit(folder, lambda e: e["runs"][0]["auc_matrix"][1].pop()),
    "runs.0.auc_matrix is not 3 rows",
)
TEXTS["an experience too few"] = Hostile(
    lambda folder: edit(folder, lambda e: e["runs"][0]["images"].pop()), "runs.0 does not have 14 labels"
)
put_case("learnt after the end", "runs.0.first.0", 3, "runs.0 does not have 14 labels and 2 experiences")
put_case("learnt before the start", "runs.0.first.0", -1, "runs.0.first.0")

# Well-formed, and untrue.
put_case("other scores than said", "scores.bytes", 1, "is not the file that entry.json was written with")
put_case(
    "another digest than said", "scores.sha256", "0" * 64, "is not the file that entry.json was written with"
)
put_case("a stream of its own", "runs.0.stream", "0" * 64, "runs.0.stream", "false")
put_case("another order of labels", "runs.0.first.0", 2, "does not", "false")
put_case("a data set of its own", "data.fingerprint", "0" * 64, "data.fingerprint", "false")
put_case("real data, it says", "data.synthetic", False, "data.synthetic is False", "false")
put_case("more training images", "data.n_train", 10**6, "data.n_train is 1000000", "false")
put_case("more patients", "data.n_test_patients", 10**6, "data.n_test_patients is 1000000", "false")
put_case("another salt", "salt", "0" * 32, "0 of them in common", "false")
put_case("a label renamed", "data.labels.0", "Healthy", "labels are not those of the data set", "false")


def _better(folder: Path) -> None:
    first = entry(folder)["runs"][0]["auc_matrix"][2][0]
    put(folder, "runs.0.auc_matrix.2.0", round(first + 2e-3, 7))


TEXTS["a better AUC"] = Hostile(_better, "runs.0.values.final_auc does not follow", "false")
