"""Every file of the classification kinds of the real data reads, with the rows its description counts."""

from __future__ import annotations

import pytest

from weitiao.data.read import ReadOptions, read

PATTERN = {
    "trec": r"(?P<label>\S+?):\S+ (?P<text>.*)",
    "phrasebank": r"(?P<text>.*)@(?P<label>\w+)",
}
C, P, F, OFF, N = "classification", "pair_matching", "financial/financial_phrasebank", "offensive", "noisy_labels"
SNIPS = {
    "AddToPlaylist": 1942, "BookRestaurant": 1973, "GetWeather": 2000, "PlayMusic": 2000,
    "RateBook": 1956, "SearchCreativeWork": 1954, "SearchScreeningEvent": 1959,
}  # fmt: skip
# file -> (rows, the way to read it where it must be said)
FILES: dict[str, tuple[int, str]] = {
    f"{C}/banking77/train.csv": (10_003, ""), f"{C}/banking77/test.csv": (3_080, ""),
    f"{C}/banking77/categories.json": (77, ""),
    f"{C}/clinc150/data_full.json.gz": (23_700, ""),
    **{f"{C}/snips/{k}/train_{k}_full.json": (n, "") for k, n in SNIPS.items()},
    **{f"{C}/snips/{k}/validate_{k}.json": (100, "") for k in SNIPS},
    f"{C}/trec/TREC.train": (5_452, "trec"), f"{C}/trec/TREC.test": (500, "trec"),
    f"{C}/amazon_cf/EN_train.tsv": (4_018, ""), f"{C}/amazon_cf/EN_valid.tsv": (335, ""),
    f"{C}/amazon_cf/EN_test.tsv": (670, ""),
    f"{C}/chnsenticorp/train.tsv.gz": (9_600, ""), f"{C}/chnsenticorp/dev.tsv": (1_200, ""),
    f"{C}/chnsenticorp/test.tsv": (1_200, ""),
    f"{C}/waimai_10k/waimai_10k.csv": (11_987, ""),
    f"{C}/online_shopping_10_cats/online_shopping_10_cats_half.csv.gz": (31_387, ""),
    f"{C}/thucnews_titles/dev.txt": (10_000, ""), f"{C}/thucnews_titles/test.txt": (10_000, ""),
    f"{C}/thucnews_titles/class.txt": (10, ""),
    f"{C}/csl_category/train.tsv": (8_000, ""), f"{C}/csl_category/dev.tsv": (1_000, ""),
    f"{C}/csl_category/test.tsv": (1_000, ""),
    f"{C}/bdci_car_2018/train_2.csv": (12_572, ""), f"{C}/bdci_car_2018/test_public_2.csv": (5_117, ""),
    f"{C}/fewclue_tnews/train_few_all.json": (1_185, ""), f"{C}/fewclue_tnews/dev_few_all.json": (1_098, ""),
    f"{C}/fewclue_tnews/test_public.json": (2_010, ""), f"{C}/fewclue_tnews/unlabeled_first5000.json": (5_000, ""),
    **{f"{C}/fewclue_tnews/{s}_{i}.json": (240, "") for s in ("train", "dev") for i in range(5)},
    f"{P}/mrpc/msr-para-train.tsv": (3_576, ""), f"{P}/mrpc/msr-para-val.tsv": (500, ""),
    f"{P}/mrpc/msr-para-test.tsv": (1_725, ""),
    f"{P}/sick2014/SICK_train.txt": (4_500, ""), f"{P}/sick2014/SICK_trial.txt": (500, ""),
    f"{P}/sick2014/SICK_test_annotated.txt": (4_927, ""),
    f"{P}/atec/atec_nlp_sim_train.csv.gz": (39_346, ""),
    f"{P}/bq_corpus/dev.csv": (10_000, ""), f"{P}/bq_corpus/test.csv": (10_000, ""),
    f"{P}/fewclue_ocnli/train_few_all.json": (160, ""), f"{P}/fewclue_ocnli/dev_few_all.json": (160, ""),
    f"{P}/fewclue_ocnli/test_public.json": (2_520, ""),
    f"{F}/Sentences_50Agree.txt": (4_846, "phrasebank"), f"{F}/Sentences_66Agree.txt": (4_217, "phrasebank"),
    f"{F}/Sentences_75Agree.txt": (3_453, "phrasebank"), f"{F}/Sentences_AllAgree.txt": (2_264, "phrasebank"),
    "financial/fin_news_zh/test_data.csv": (2_400, ""), "financial/fin_news_zh/news_seed.xlsx": (7_046, ""),
    f"{OFF}/coldataset/train.csv.gz": (25_726, ""), f"{OFF}/coldataset/dev.csv": (6_431, ""),
    f"{OFF}/coldataset/test.csv": (5_323, ""),
    f"{OFF}/olid/olid-training-v1.0.tsv.gz": (13_240, ""),
    **{f"{OFF}/olid/testset-level{k}.tsv": (n, "") for k, n in (("a", 860), ("b", 240), ("c", 213))},
    **{f"{OFF}/olid/labels-level{k}.csv": (n, "") for k, n in (("a", 860), ("b", 240), ("c", 213))},
    f"{N}/hausa_newsclass/train_clean.tsv": (2_045, ""),
    f"{N}/hausa_newsclass/train_clean_noisy_labels.tsv": (2_045, ""),
    f"{N}/hausa_newsclass/train_noisy.tsv": (3_170, ""), f"{N}/hausa_newsclass/dev.tsv": (290, ""),
    f"{N}/hausa_newsclass/test.tsv": (582, ""),
    "robustness/cad_imdb/orig/train.tsv.gz": (1_707, ""), "robustness/cad_imdb/orig/dev.tsv": (245, ""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_row_of_the_real_files_is_read(real_data, file):
    expected, kind = FILES[file]
    table = read(real_data / file, ReadOptions(pattern=PATTERN[kind]) if kind else None)
    assert (len(table), len(table.set_aside)) == (expected, 0)
    assert table.sources[0].rows_in == expected


def test_the_odd_things_in_real_files_are_noted(real_data):
    trec = read(real_data / C / "trec/TREC.train", ReadOptions(pattern=PATTERN["trec"]))
    assert trec.sources[0].encoding == "latin-1"
    snips = read(real_data / C / "snips/PlayMusic/train_PlayMusic_full.json")
    assert "not UTF-8" in snips.sources[0].notes[0]
    few = read(real_data / C / "fewclue_tnews/train_4.json")
    assert "stray BOM removed at line 177" in few.sources[0].notes
    seed = read(real_data / "financial/fin_news_zh/news_seed.xlsx")
    assert "002756" in seed.column("代码")
