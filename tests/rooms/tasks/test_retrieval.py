"""The loss tells a row's text from those of the others; searches are exact; a saved encoder opens elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import weitiao
from trial import train, trial
from weitiao import plugins
from weitiao.data.table import Table
from weitiao.errors import BundleError, DataError, RecipeError
from weitiao.evaluation.baselines.base import Told
from weitiao.retrieval import Index
from weitiao.tasks._ranks import candidates, ranks
from weitiao.tasks.retrieval import Retrieval

TINY = plugins.find("tasks", "retrieval").tiny()["rows"]


@pytest.fixture(scope="module")
def bundle(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("retrieval")
    rows = [
        {key: f"{text} {word}" for key, text in row.items()}
        for row in TINY
        for word in ("room", "film", "card", "book")
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = weitiao.Recipe(
        data={"train": str(folder / "rows.jsonl"), "split": {"by": "random"}},
        model=str(tiny_bert),
        task="retrieval",
        method="lora",
        training={"epochs": 1},
        evaluation={"resamples": 100},
    )
    return weitiao.run(recipe, folder / "run", show=False)


def test_loss_is_the_formula_of_its_source():
    task = Retrieval(Retrieval.Settings(scale=3.0))
    vectors = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    q, d = vectors.tolist()[:3], vectors.tolist()[3:]
    by_hand = 0.0
    for i in range(3):
        scores = [3 * sum(a * b for a, b in zip(q[i], text, strict=True)) for text in d]
        by_hand -= scores[i] - float(np.log(np.exp(scores).sum()))
    batch = {"labels": torch.tensor([0, 1, 2])}
    assert task.loss(SimpleNamespace(pooler_output=vectors), batch).item() == pytest.approx(by_hand, rel=1e-5)


def test_a_copy_of_the_own_text_is_no_wrong_answer():
    task, outputs = Retrieval(), SimpleNamespace(pooler_output=torch.eye(4)[[0, 0, 1, 0, 0, 1]])
    logits = task.logits(outputs, {"labels": torch.tensor([0, 0, 1])})
    assert logits[0, 1] == logits[1, 0] == float("-inf")
    assert task.loss(outputs, {"labels": torch.tensor([0, 0, 1])}).item() < 1e-6


def test_a_step_is_not_cut(tiny_bert: Path):
    at = trial("retrieval", tiny_bert)
    with pytest.raises(RecipeError, match="the loss of retrieval compares the rows of a step"):
        train(at.build(), at, batch_size=8, micro_batch_size=2)


def test_relevances_are_in_the_order_of_scores():
    rows = [{"text": a, "text_pair": b} for a, b in (("q", "x"), ("q", "y"), ("r", "z"))]
    documents, relevant = candidates(rows)
    assert (documents, relevant) == (["x", "y", "z"], [{0, 1}, {0, 1}, {2}])
    scores = np.array([[0.1, 0.9, 0.5]] * 3)
    assert list(ranks(lambda some: scores[some], relevant, 3)) == [(1.0, 0.0, 1.0)] * 2 + [(0.0, 1.0, 0.0)]


def test_what_is_beyond_the_best_hundred_is_counted_behind_them():
    (found,) = ranks(lambda some: -np.arange(300.0)[None], [{0, 200}], 300)
    assert (len(found), found[0], found[-1], sum(found)) == (101, 1.0, 1.0, 2.0)


def test_pairs_that_do_not_belong_together_are_set_aside():
    table = Table.from_rows([row | {"label": label} for row, label in zip(TINY, "10101011", strict=True)])
    assert set(Retrieval().accepts(table)) == {1, 3, 5}
    assert not Retrieval().accepts(Table.from_rows(TINY))


def test_bm25_finds_rare_words_in_both_languages():
    rows = plugins.find("baselines", "bm25").tiny()["test"]
    rows += [{"text": "房间的价格怎么样", "text_pair": "酒店价格便宜"}]
    table = Table.from_rows(rows)
    task = Retrieval()
    answers, _ = plugins.find("baselines", "bm25")().answer(
        Told(task, table, table, ("text", "text_pair"), {}, lambda: None)
    )
    assert task.right(task.truth(rows), answers)[:8].all()
    assert len(answers["ranks"]) == len(rows)


def test_a_bundle_searches_its_index(bundle: Any, tmp_path: Path):
    documents = [row["text_pair"] for row in TINY]
    index = Index.build(bundle, documents)
    hits = index.search("早餐好吃吗", 3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    every = index.search("早餐好吃吗", 100)
    assert sorted(hit.number for hit in every) == list(range(len(documents)))
    pair = bundle.predict({"text": "早餐好吃吗", "text_pair": hits[0].document})
    assert pair.answer == pytest.approx(hits[0].score, abs=1e-3)
    assert index.search(documents[2], 1)[0].number == 2  # nothing is nearer than a text itself
    index.save(tmp_path / "index")
    assert Index.open(tmp_path / "index", bundle).search("早餐好吃吗", 3) == hits
    facts = tmp_path / "index" / "index.json"
    facts.write_text(facts.read_text().replace('"model": "', '"model": "0'), encoding="utf-8")
    with pytest.raises(BundleError, match="another bundle"):
        Index.open(tmp_path / "index", bundle)
    with pytest.raises(DataError, match="no documents"):
        Index.build(bundle, [])


def test_a_saved_encoder_opens_in_sentence_transformers(tiny_bert: Path, tmp_path: Path):
    library = pytest.importorskip("sentence_transformers")
    from weitiao.models.load import save

    at = trial("retrieval", tiny_bert)
    model = at.build()
    save(model, tmp_path / "model", at.tokenizer, max_length=64)
    texts = [row["text"] for row in TINY]
    theirs = library.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts)
    ours = np.array([said[0] for said in at.said(model)])
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
