"""What listeners write and draw."""

from __future__ import annotations

import json

import pytest

from weitiao.progress import Listeners

STEP = {"event": "step", "step": 1, "total": 4, "epoch": 0.5, "loss": 0.7, "learning_rate": 1e-3, "rows": 8}
STEP["rows_per_second"] = 100.0


def lines(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_events_are_json_lines_with_a_time(tmp_path):
    with Listeners(tmp_path, show=False) as tell:
        tell({"event": "phase", "name": "读"})
    (line,) = lines(tmp_path)
    assert line["name"] == "读"
    assert line["time"] > 1e9


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"event": "a"}\n{"event": "b", "lo', encoding="utf-8")
    with Listeners(tmp_path, show=False) as tell:
        tell({"event": "c"})
    assert [line["event"] for line in lines(tmp_path)] == ["a", "c"]


def test_every_seed_has_a_board(tmp_path):
    pytest.importorskip("torch.utils.tensorboard")
    with Listeners(tmp_path, show=False) as tell:
        for seed in (0, 1):
            tell({"event": "training", "seed": seed, "trainable": 1, "parameters": 2})
            tell(dict(STEP))
    assert [p.name for p in sorted((tmp_path / "tensorboard").iterdir())] == ["seed-0", "seed-1"]
    assert all(list(p.glob("events*")) for p in (tmp_path / "tensorboard").iterdir())


def test_a_full_disk_costs_the_record_and_is_told_once(tmp_path, capsys):
    with Listeners(tmp_path, show=True) as tell:
        tell._file.close()

        class Full:
            def write(self, text):
                raise OSError(28, "No space left on device")

            def close(self):
                raise OSError(28, "No space left on device")

        tell._file = Full()
        tell({"event": "phase", "name": "a"})
        tell({"event": "phase", "name": "b"})
    said = capsys.readouterr().err
    assert said.count("events cannot be written: No space left on device") == 1


def test_the_screen_tells_the_story_on_standard_error(tmp_path, capsys):
    with Listeners(tmp_path, show=True) as tell:
        with tell.phase("reading", 10) as advance:
            advance(5)
        tell({"event": "data", "rows_in": 12, "splits": {"train": 8, "dev": 1, "test": 1}, "set_aside": {"empty": 2}})
        tell({"event": "finding", "severity": "warning", "message": "M" * 100, "remedy": "R."})
        tell({"event": "finding", "severity": "info", "message": "hidden", "remedy": ""})
        tell({"event": "training", "seed": 0, "trainable": 10, "parameters": 100})
        tell({"event": "resumed", "step": 1, "total": 4, "torn": ["step-2"]})
        tell(dict(STEP))
        tell({"event": "measured", "step": 1, "best_step": 1, "accuracy": 0.5})
        tell({"event": "solved", "C": 1.0, "iterations": 24.0, "converged": 1.0, "accuracy": 0.5})
        tell({"event": "checkpoint_failed", "step": 1, "reason": "No space left"})
        tell({"event": "tested", "line": "accuracy [0.1, 0.2]", "headline": "Better."})
        tell({"event": "done", "bundle": "runs/a/bundle", "verified": 0.0})
    out, said = capsys.readouterr()
    assert out == ""
    for words in (
        "12 rows in = train 8, dev 1, test 1, set aside 2",
        "M" * 100 + " R.",  # not broken by the width of a terminal that is not there
        "10 of 100 parameters (10.00%)",
        "step 1 of 4 (step-2 was torn",
        "accuracy 0.5000  best so far",
        "C 1  accuracy 0.5000",
        "checkpoint of step 1 was not written: No space left",
        "accuracy [0.1, 0.2]",
        "verified; largest difference 0.0e+00",
    ):
        assert words in said
    assert "hidden" not in said
