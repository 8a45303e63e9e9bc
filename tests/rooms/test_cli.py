"""The command line: quick to answer, clear when it refuses, and only JSON where JSON was asked for."""

from __future__ import annotations

import importlib
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import weitiao
from weitiao import cli
from weitiao.errors import TrainingError

COMMANDS = ("check", "run", "predict", "report", "verify", "list", "new", "schema", "compare")
HEAVY = ("torch", "transformers", "pyarrow", "yaml", "rich", "numpy", "sklearn", "matplotlib")


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Call the command line in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        code = cli.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture(scope="module")
def folder(tiny_bundle):
    return tiny_bundle()


def quickest(*args, tries=3):
    """CPU seconds of the quickest of some starts: other work may slow one down, and is none of ours."""
    seconds = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "weitiao.cli", *args], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(seconds)


# --- quick ---


@pytest.mark.parametrize("command", [(), *((c,) for c in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy_and_has_an_example(command):
    code = (
        "import sys; from weitiao.cli import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert done.splitlines()[-1] == "[]"
    assert "Example: weitiao" in done
    for line in ("Usage: weitiao", "--help"):
        assert line in done


@pytest.mark.parametrize(("args", "limit"), [(["--help"], 0.3), (["check", "--help"], 0.3), (["list"], 0.5)], ids=str)
def test_answers_at_once(args, limit):
    assert quickest(*args) < limit


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, weitiao; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_function_run_stays_a_function_whoever_imports_the_module():
    module = importlib.import_module("weitiao.run")
    weitiao.run = module  # what Python does when the module is imported for the first time
    assert weitiao.run is module.run


def test_listing_imports_no_torch():
    code = "import sys; from weitiao.cli import main; main(['list']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# --- each command ---


def test_version(call):
    assert call("--version") == (0, f"weitiao {weitiao.__version__}\n", "")


def test_list(call):
    code, out, _ = call("list")
    assert code == 0
    for name in ("tasks", "classification", "lora", "accuracy", "leakage", "r_drop"):
        assert name in out
    code, out, _ = call("list", "methods", "--json")
    assert list(json.loads(out)) == ["methods"]
    assert all(line.endswith(".") for line in json.loads(out)["methods"].values())


def test_new_starts_a_member(call, tmp_path):
    code, out, _ = call("new", "metric", "my_metric")
    assert code == 0
    assert (tmp_path / "my_metric.py").is_file()
    assert "my_metric.py" in out
    code, _, err = call("new", "metric", "my_metric")
    assert (code, "exists already" in err) == (2, True)
    assert json.loads(call("new", "check", "other", "--json")[1]) == {"path": "other.py"}


def test_schema(call):
    code, out, _ = call("schema")
    assert code == 0
    assert "training" in json.loads(out)["properties"]
    assert call("schema", "--json")[1] == out


def test_check(call, tmp_path):
    rows = "text,label\n" + "".join(f"the room number {w} is {w},{'ab'[i % 2]}\n" for i, w in enumerate("abcdefghij"))
    (tmp_path / "good.csv").write_text(rows)
    assert call("check", "good.csv", "--model", "none")[0] == 0
    (tmp_path / "bad.csv").write_text(rows + ",a\nthe room number a is a,b\n")
    code, out, _ = call("check", "bad.csv", "--model", "none", "--html", "check.html")
    assert "page: check.html" in out
    assert (tmp_path / "check.html").is_file()
    assert "12 rows in = 11 used + 1 set aside" in out
    code, out, err = call("check", "bad.csv", "--model", "none", "--json")
    found = json.loads(out)
    assert code == (1 if found["num_by_severity"]["error"] else 0)
    assert err == ""


def test_predict_texts(call, folder):
    code, out, err = call("predict", folder, "good room", "房间很干净")
    assert (code, err) == (0, "")
    label, confidence, text = out.splitlines()[1].split("\t")
    assert label in ("positive", "negative")
    assert 0 < float(confidence) <= 1
    assert text == "房间很干净"
    code, out, _ = call("predict", folder, "房间很干净", "--json")
    assert json.loads(out)["text"] == "房间很干净"
    assert json.loads(out)["label"] == label
    assert call("predict", folder, "one|||other")[1].endswith("one|||other\n")  # no pair: not cut


def test_an_empty_text_costs_no_other_its_answer(call, folder):
    code, out, err = call("predict", folder, "good room", "", "房间很干净")
    assert (code, err) == (1, "")
    assert [line.split("\t")[0] == "-" for line in out.splitlines()] == [False, True, False]
    assert "text is empty or missing" in out.splitlines()[1]


def test_predict_a_file(call, folder, tmp_path):
    (tmp_path / "rows.csv").write_text("id,text\n1,good room\n2,\n3,bad room\n")
    code, out, err = call("predict", folder, "rows.csv")
    assert code == 0
    assert [line.split("\t")[2] for line in out.splitlines()] == ["rows.csv:2", "rows.csv:3", "rows.csv:4"]
    assert "3 rows: 2 answered, 1 not" in err
    code, out, _ = call("predict", folder, "rows.csv", "--json")
    assert [json.loads(line).get("error") for line in out.splitlines()] == [None, "empty text", None]
    code, out, err = call("predict", folder, "rows.csv", "--out", "out.csv", "--json")
    assert json.loads(out) == {"out": "out.csv", "answered": 2, "not_answered": 1}
    assert err == ""
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_report_and_verify(call, folder):
    code, out, _ = call("report", folder, "--html", "page.html")
    assert code == 0
    assert "accuracy" in out
    assert Path("page.html").is_file()
    assert "standings" in json.loads(call("report", folder, "--json")[1]) or json.loads(
        call("report", folder, "--json")[1]
    )
    code, out, _ = call("verify", folder)
    assert "whole and unchanged" in out
    assert re.search(r"0\.00e\+00 \(tolerance [0-9.e-]+\)", out)
    assert json.loads(call("verify", folder, "--json")[1])["largest_difference"] == 0.0


# --- mistakes: one line on standard error, nothing on standard output ---


def write(name, text):
    Path(name).write_text(text, encoding="utf-8")


def near_recipe():
    write("recipe.yaml", "data: a.csv\n")


def bad_yaml():
    write("bad.yaml", "data: [a\n")


def wrong_settings():
    write("wrong.yaml", "data: a.csv\ntraining:\n  epoch: 3\n  batch_size: 0\n")


def gbk_recipe():
    Path("gbk.yaml").write_bytes("data: 评论.csv\n".encode("gbk"))


def good_recipe():
    write("r.yaml", "data: reviews.csv\n")
    write("review.csv", "text,label\na,b\n")


MISTAKES = [
    (None, ["chekc"], 2, "No such command 'chekc'. Did you mean 'check'?"),
    (None, ["run", "--foldr", "x", "r.yaml"], 2, "--folder"),
    (None, ["run"], 2, "Missing argument"),
    (near_recipe, ["run", "recipes.yaml"], 2, "recipes.yaml: cannot be read: No such file or directory. Did you mean"),
    (None, ["run", "."], 2, "recipe.yaml: cannot be read"),
    (bad_yaml, ["run", "bad.yaml"], 2, "bad.yaml:2: is not YAML"),
    (gbk_recipe, ["run", "gbk.yaml"], 2, "gbk.yaml: is not UTF-8. Save it as UTF-8."),
    (wrong_settings, ["run", "wrong.yaml"], 2, "wrong.yaml:3: training.epoch is not a setting. Did you mean 'epochs'?"),
    (wrong_settings, ["run", "wrong.yaml"], 2, "wrong.yaml:4: training.batch_size"),
    (good_recipe, ["run", "r.yaml", "training.epochs=many"], 2, "training.epochs should be a whole number; got 'many'"),
    (good_recipe, ["run", "r.yaml", "training"], 2, "'training' is not an override. Write it as training.epochs=3."),
    (good_recipe, ["run", "r.yaml", "seed=[1"], 2, "seed"),
    (good_recipe, ["run", "r.yaml", "method=lorra"], 2, "Did you mean 'lora'?"),
    (good_recipe, ["run", "r.yaml", "--quiet"], 1, "there is no file 'reviews.csv'. Did you mean 'review.csv'?"),
    (good_recipe, ["check", "reviews.csv"], 1, "there is no file 'reviews.csv'. Did you mean 'review.csv'?"),
    (good_recipe, ["check", "review.csv", "--field", "text"], 2, "write FIELD=COLUMN"),
    (good_recipe, ["check", "review.csv", "--field", "text=txt"], 1, "txt"),
    (good_recipe, ["check", "review.csv", "--delimiter", "ab"], 2, "a delimiter is one character"),
    (good_recipe, ["check", "review.csv", "--pattern", "("], 2, "not a regular expression"),
    (None, ["list", "method"], 2, "there is no family 'method'. Did you mean 'methods'?"),
    (None, ["new", "metrics", "x"], 2, "Did you mean 'metric'?"),
    (None, ["new", "metric", "My Metric"], 2, "cannot be a file's name"),
    (None, ["verify", "nowhere"], 1, "nowhere: there is no such folder"),
    (None, ["report", "."], 1, "is not a bundle"),
    (None, ["predict", "nowhere", "text"], 1, "nowhere: there is no such folder"),
    (
        good_recipe,
        ["predict", "BUNDLE", "reviews.csv"],
        1,
        "there is no file 'reviews.csv'. Did you mean 'review.csv'?",
    ),
    (good_recipe, ["predict", "BUNDLE", "review.csv", "review.csv"], 2, "one file at a time"),
    (None, ["predict", "BUNDLE", "a text", "--out", "x.csv"], 2, "concern a file"),
    (good_recipe, ["predict", "BUNDLE", "review.csv", "--out", "x.xlsx"], 1, "Name it .csv or .jsonl"),
    (None, ["predict", "BUNDLE", ""], 1, "text is empty or missing"),
]


def name_of(value: object) -> str:
    """Return a name that is the same in every process, which a function's address is not."""
    return getattr(value, "__name__", str(value))[:40]


@pytest.mark.parametrize(("prepare", "args", "code", "said"), MISTAKES, ids=name_of)
def test_mistakes(call, folder, prepare, args, code, said):
    if prepare:
        prepare()
    got, out, err = call(*(folder if arg == "BUNDLE" else arg for arg in args))
    assert said in err
    assert got == code
    assert out == ""
    assert len(err.strip().splitlines()) <= 4  # one line a mistake


def test_a_damaged_bundle(call, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model" / "config.json").write_text("{}")
    for command in (["verify", copy], ["predict", copy, "good"], ["report", copy], ["verify", copy, "--json"]):
        code, out, err = call(*command)
        assert (code, out) == (1, "")
        assert "model/config.json is not what was saved" in err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (OSError(28, "No space left on device", "runs/a/x"), 1, "runs/a/x: No space left on device."),
        (KeyboardInterrupt(), 1, "Interrupted. The same command goes on where it stopped."),
        (TrainingError("the loss is nan.", fix="Lower it."), 1, "TrainingError: the loss is nan. Lower it."),
    ],
    ids=["full disk", "Ctrl-C", "training"],
)
def test_what_can_happen_on_the_way(call, monkeypatch, raised, code, said):
    def stop(*args, **kwargs):
        raise raised

    write("r.yaml", "data: a.csv\n")
    write("a.csv", "text,label\n")
    monkeypatch.setattr(importlib.import_module("weitiao.run"), "run", stop)
    got, out, err = call("run", "r.yaml")
    assert (got, out) == (code, "")
    assert said in err


def test_ctrl_c_elsewhere_promises_nothing(call, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("weitiao.check.check_files", stop)
    assert call("check", "a.csv")[2] == "Interrupted.\n"


def test_no_command_shows_the_help():
    done = subprocess.run([sys.executable, "-m", "weitiao.cli"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: weitiao" in done.stdout + done.stderr


def test_a_terminal_without_chinese(folder):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from weitiao.cli import main; sys.exit(main(['check', '没有.csv']))"],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_traceback():
    command = f"{sys.executable} -m weitiao.cli list | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "weitiao", "list", "optimizers"], capture_output=True, text=True)
    assert (done.returncode, "adamw" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("staged", [False, True])
def test_a_missing_data_file_is_told_before_the_engine_is_loaded(staged: bool, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    stages = "stages: [{name: first, method: full}, {name: second, method: head}]"
    recipe.write_text("data: {train: nofile.csv}\n" + (stages if staged else "method: head"))
    code = (
        "import sys; from weitiao.cli import main; code = main(sys.argv[1:]); print(code, 'weitiao.run' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "run", str(recipe), "--folder", str(tmp_path / "run")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "there is no file 'nofile.csv'" in found.stderr
    assert found.stdout.split() == ["1", "False"]
