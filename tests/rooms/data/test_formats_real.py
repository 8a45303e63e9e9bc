"""Every real file of tasks other than classification reads as what it is, with the rows its description counts."""

from __future__ import annotations

import json

import pytest

from weitiao.data.read import read

ALL = ("conll", "squad", "messages", "parallel", "brat", "doccano", "label_studio", "semeval2010")
W, K, S = "ner/weibo_ner/weiboNER_2nd_conll", "dialogue/kdconv", "dialogue/sgd_subset"
L, T = "relation_extraction/chinese_literature", "relation_extraction/semeval2010_task8"
M, R = "machine_translation/multi30k_en_de", "ner/resume_ner"
# file -> (format, rows)
FILES: dict[str, tuple[str, int]] = {
    "ner/wnut17/wnut17train.conll": ("conll", 3_394),  # the description counts its 3,395 blank lines
    "ner/wnut17/emerging.dev.conll": ("conll", 1_009),
    "ner/wnut17/emerging.test.annotated": ("conll", 1_287),
    f"{W}.train": ("conll", 1_350), f"{W}.dev": ("conll", 270), f"{W}.test": ("conll", 270),
    f"{R}/train.char.bmes": ("conll", 3_821), f"{R}/dev.char.bmes": ("conll", 463),
    f"{R}/test.char.bmes": ("conll", 477),
    "noisy_labels/conllpp/conllpp_dev.txt": ("conll", 3_250),
    "noisy_labels/conllpp/conllpp_test.txt": ("conll", 3_453),
    "noisy_labels/conllpp/conll2003_test_original.txt": ("conll", 3_453),
    f"{T}/TRAIN_FILE.TXT": ("semeval2010", 8_000), f"{T}/TEST_FILE_FULL.TXT": ("semeval2010", 2_717),
    f"{L}/Training": ("brat", 116), f"{L}/Validation": ("brat", 58), f"{L}/Testing": ("brat", 84),
    f"{L}/Testing/656.txt": ("brat", 1),
    "qa/cmrc2018/cmrc2018_trial.json": ("squad", 1_002), "qa/cmrc2018/cmrc2018_dev.json.gz": ("squad", 3_219),
    "qa/xquad_en/xquad.en.json": ("squad", 1_190),
    f"{M}/train.en.gz": ("parallel", 29_000), f"{M}/val.de.gz": ("parallel", 1_014),
    f"{M}/test_2016_flickr.en.gz": ("parallel", 1_000), f"{M}/test_2017_flickr.en.gz": ("parallel", 1_000),
    "dialogue/crosswoz/val_first40.json.gz": ("messages", 40), "dialogue/crosswoz/test_first20.json": ("messages", 20),
    **{f"{K}/{part}/{split}.json.gz": ("messages", 150) for part in ("film", "music") for split in ("dev", "test")},
    f"{S}/train/dialogues_039.json.gz": ("messages", 128), f"{S}/test/dialogues_008.json.gz": ("messages", 128),
    "dialogue/abcd_sample/abcd_sample.json": ("messages", 3),
    "recommendation/tallrec_movie/valid.json": ("messages", 1_000),
    "recommendation/tallrec_movie/test.json": ("messages", 1_000),
}  # fmt: skip
TABLES = (
    "machine_translation/tatoeba_en_zh/cmn.txt", "summarization/csl_title/dev.tsv", "summarization/scitldr_a/dev.jsonl",
    "qa/subjqa_electronics/dev.csv", "dialogue/abcd_sample/kb.json", f"{S}/test/schema.json",
    "pair_matching/sick2014/SICK_trial.txt", "classification/banking77/categories.json",
    "classification/snips/PlayMusic/validate_PlayMusic.json", "classification/fewclue_tnews/train_0.json",
    "pair_matching/fewclue_ocnli/train_few_all.json", "classification/thucnews_titles/class.txt",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_row_of_the_real_files_is_read(real_data, file):
    name, rows = FILES[file]
    table = read(real_data / file, formats=ALL)
    assert (table.sources[0].format, len(table), len(table.set_aside)) == (name, rows, 0)


@pytest.mark.parametrize("file", TABLES)
def test_no_table_is_taken_for_another_format(real_data, file):
    assert read(real_data / file, formats=ALL) == read(real_data / file)


def test_chinese_entities_stand_where_they_are(real_data):
    table = read(real_data / f"{W}.test", formats=ALL)
    assert table[0]["text"].startswith("一节课的时间真心感动了李开复")
    assert table.sources[0].notes == ("the position digit behind each character was taken off",)
    entities = [(row["text"], e) for row in table for e in json.loads(row["entities"])]
    assert len(entities) == 418
    assert all(text[e["start"] : e["end"]] == e["text"] for text, e in entities)
    assert sum(bool(row["faults"]) for row in table) == 4


def test_offsets_that_do_not_match_are_told(real_data):
    table = read(real_data / L / "Validation", formats=ALL)
    wrong = [e for row in table for e in json.loads(row["entities"]) if row["text"][e["start"] : e["end"]] != e["text"]]
    assert len(wrong) == sum(row["faults"].count(": the text at") for row in table) == 2
    dev = read(real_data / "qa/cmrc2018/cmrc2018_dev.json.gz", formats=ALL)
    off = [
        answer
        for row in dev
        for answer in json.loads(row["answers"])
        if not row["context"].startswith(answer["text"], answer["start"])
    ]
    assert len(off) == 200
