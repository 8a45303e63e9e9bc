"""Replies found among many: what is learnt of a conversation, and what it is measured and answered by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import weitiao as wt
from trial import trial
from weitiao.data.table import Table
from weitiao.retrieval import Index
from weitiao.tasks.response_selection import ResponseSelection


def talk(*turns: str, system: str = "") -> str:
    """Turns of a user and an assistant in turn."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return json.dumps(messages, ensure_ascii=False)


def test_every_reply_is_learnt_with_what_was_said_before_the_newest_first() -> None:
    task = ResponseSelection(ResponseSelection.Settings(turns=2))
    assert task.pairs({"messages": talk("你好", "您好", "房间?", "有", system="kind")}) == [
        ("你好", "您好"),
        ("房间?\n您好", "有"),
    ]
    assert task.pairs({"messages": talk("a", "b", "c")}) == [("a", "b"), ("c\nb", None)]
    assert task.pairs({"messages": "where is it"}) == [("where is it", None)]


def test_conversations_without_a_reply_are_told_of() -> None:
    rows = Table.from_rows([{"messages": one} for one in (talk("a", "b"), talk("a"), "[]", '[{"role": "king"}]')])
    reasons = ResponseSelection().accepts(rows)
    assert list(reasons) == [1, 2, 3]
    assert "no turn of the assistant" in reasons[1]
    assert "unknown role" in reasons[3]


def test_it_is_measured_by_the_last_reply_and_answered_by_the_last_query(tiny_bert: Path) -> None:
    at = trial("response_selection", tiny_bert)
    model = at.build()
    said = at.said(model)
    assert [len(one) for one in said] == [2, 3] + [2] * 6  # the second conversation ends with a question
    thanks = at.task.encode([{"messages": "thanks\nby transfer\nhow to pay"}], at.tokenizer, 64)
    batch = at.task.ask(thanks, at.tokenizer)
    with torch.inference_mode():
        np.testing.assert_allclose(at.task.say(model, batch)[0][0], said[1][0], atol=1e-6)
    assert at.task.measured(at.rows)[0]["text_pair"] == "never"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_from_a_file_to_an_index(method: str, tmp_path: Path, tiny_bert: Path) -> None:
    words = ("room", "hotel", "card", "bank", "phone", "film", "book", "房间", "早餐", "价格", "屏幕", "电影")
    lines = [{"messages": json.loads(talk(f"where is the {w}", f"here is {w}", "thanks"))} for w in words]
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    recipe = wt.Recipe(
        data=str(data), model=str(tiny_bert), task="response_selection", method=method, training={"epochs": 1}
    )
    bundle = wt.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified == 0
    assert {row.key for row in bundle.report.standings} >= {"tuned", "before", "bm25"}
    index = Index.build(bundle, [f"here is {w}" for w in words])
    asked = [index.search(query, 3) for query in ("where is the card", talk("where is the card"))]
    assert [hit.number for hit in asked[0]] == [hit.number for hit in asked[1]]
