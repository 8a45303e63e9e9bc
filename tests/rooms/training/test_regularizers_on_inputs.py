"""Regularizers that move token vectors or work on what the head reads: each does what its formula says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from trial import Trial, make, train, trial, weights, without_dropout
from weitiao.errors import RecipeError, TrainingError
from weitiao.models import parts
from weitiao.training.loop import Loop
from weitiao.training.settings import TrainingSettings

MOVING = ("fgm", "pgd", "freelb", "smart")
NAMES = (*MOVING, "neftune", "mixup", "supervised_contrastive")
# an encoder, two kinds of decoder, an adapter on a frozen encoder and on a decoder
KINDS = ("bert", "llama", "gpt2", "bert+lora", "llama+lora")
FEW = ("bert", "gpt2", "llama+lora")
# besides: a head that is given all tokens and reads the first, and one on the mean of all
HEADS = (*KINDS, "roberta", "bert+mean", "bert+mean+lora")
Kind = Callable[[str], tuple[Trial, Any]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def kind(tiny_model: Callable[[str], Path]) -> Kind:
    """Return a way to a trial and a model whose weights are large enough for its rows to differ."""

    @cache
    def make_once(name: str) -> tuple[Trial, Any]:
        family, *rest = name.split("+")
        at = trial("classification", tiny_model(family), pooling="mean" if "mean" in rest else None)
        model: Any = make("methods", "lora" if "lora" in rest else "full").apply(at.build(), seed=0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(5.0)
        return at, model

    def make_kind(name: str) -> tuple[Trial, Any]:
        at, model = make_once(name)
        return at, copy.deepcopy(model)

    return make_kind


def begun(hook: Any, model: nn.Module, at: Trial, rows: Any = None) -> tuple[Loop, Any, Any]:
    """Return a loop in which the hook has begun, a batch, and the outputs of the batch's own pass."""
    loop = Loop(model, at.task, at.features, TrainingSettings(batch_size=64), 0, [hook])
    model.train()
    hook.begin(loop)
    batch = hook.before_batch(loop, at.batch(rows))
    return loop, batch, loop.forward(batch)


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def row_norms(by: torch.Tensor) -> torch.Tensor:
    return by.detach().flatten(1).norm(dim=1)


def row_losses(at: Trial, outputs: Any, batch: Any) -> torch.Tensor:
    return cross_entropy(at.task.logits(outputs, batch), at.task.targets(batch), reduction="none").detach()


def spied(hook: Any) -> list[torch.Tensor]:
    """Return a list into which go all moves that the hook makes."""
    moves: list[torch.Tensor] = []
    moved = hook.moved

    def spy(loop: Loop, batch: Any, by: torch.Tensor) -> Any:
        moves.append(by.detach().clone())
        return moved(loop, batch, by)

    hook.moved = spy
    return moves


def last_move(hook: Any, loop: Loop, batch: Any, outputs: Any) -> torch.Tensor:
    moves = spied(hook)
    hook.loss(loop, batch, outputs)
    return moves[-1]


# --- all of them ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["bert", "gpt2", "llama+lora", "bert+mean+lora"])
def test_trains_and_leaves_the_model_as_it_was(name: str, of: str, kind: Kind) -> None:
    at, model = kind(of)
    hook = make("regularizers", name, {})
    assert hook.suits(model, at.task) is None
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    own = hooks_on(model)
    before = weights(model)
    train(model, at, hooks=[hook], epochs=1, optimizer="sgd", learning_rate=1e-3)
    assert hooks_on(model) == own
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", FEW)
def test_all_that_trains_gets_a_finite_gradient_from_the_term(name: str, of: str, kind: Kind) -> None:
    at, model = kind(of)
    hook = make("regularizers", name, {})
    loop, batch, outputs = begun(hook, model, at)
    if name == "neftune":
        term = at.task.loss(outputs, batch)
    else:
        term = hook.loss(loop, batch, outputs)
        assert all(p.grad is None for p in model.parameters()), "moving a row touched the gradients"
    term.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
    assert any((g != 0).any() for g in gradients)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_draws_nothing_that_others_draw_from(name: str, kind: Kind) -> None:
    at, model = kind("bert")
    hook = make("regularizers", name, {})
    loop, batch, outputs = begun(hook, model, at)
    before = torch.get_rng_state()
    if name == "neftune":
        hook.noisy(loop, torch.zeros(*batch["input_ids"].shape, 32))
    else:
        hook.loss(loop, batch, outputs)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("of", ["bert", "llama+lora"])
def test_a_row_is_moved_alike_whoever_stands_beside_it(name: str, of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", name)
    together = last_move(hook, *begun(hook, model, at))
    hook.finish(SimpleNamespace())
    for i in (0, 5, 8):
        fresh = make("regularizers", name)
        alone = last_move(fresh, *begun(fresh, model, at, [i]))
        fresh.finish(SimpleNamespace())
        length = alone.shape[1]
        torch.testing.assert_close(together[i, :length], alone[0], rtol=1e-3, atol=1e-5)
        assert not together[i, length:].any(), "padding was moved"


@pytest.mark.parametrize("name", MOVING)
def test_works_on_the_micro_batchs_own_pass_whatever_ran_after_it(name: str, kind: Kind) -> None:
    at, model = kind("bert")
    terms = []
    for others in (0, 2):
        torch.manual_seed(1)
        hook = make("regularizers", name)
        loop, batch, outputs = begun(hook, model, at)
        for _ in range(others):
            loop.forward(batch)
        terms.append(hook.loss(loop, batch, outputs))
        hook.finish(loop)
    assert torch.equal(*terms)


@pytest.mark.parametrize("name", [*MOVING, "neftune"])
def test_refuses_a_model_without_a_table_of_token_vectors(name: str) -> None:
    model = nn.Linear(2, 2)
    hook = make("regularizers", name)
    assert hook.suits(model, None) == "Linear has no table of token vectors to work on"
    assert hook.changes_frozen


@pytest.mark.parametrize("name", ["mixup", "supervised_contrastive"])
def test_what_compares_rows_says_so_and_refuses_what_it_cannot_do(name: str, kind: Kind) -> None:
    at, model = kind("bert")
    hook = make("regularizers", name, {})
    assert hook.couples_rows
    assert not hook.changes_frozen
    assert hook.suits(parts.backbone(model), at.task) == "BertModel has no head that is apart from its backbone"
    loop = Loop(model, at.task, at.features, TrainingSettings(batch_size=1), 0, [hook])
    with pytest.raises(RecipeError, match=r"training.batch_size: .* the rows of a batch, and there is one. Make it"):
        hook.begin(loop)
    loop, batch, outputs = begun(hook, model, at)
    loop.task = SimpleNamespace(items=lambda batch: 30)
    with pytest.raises(TrainingError, match="it works on whole rows, and here 9 rows have 30 items"):
        hook.loss(loop, batch, outputs)


def test_mixing_token_vectors_needs_the_layers_below() -> None:
    hook = make("regularizers", "mixup", {"at": "tokens"})
    assert hook.changes_frozen
    assert hook.suits(nn.Linear(2, 2), None) == "Linear has no table of token vectors to work on"


# --- FGM, PGD, FreeLB ---


@pytest.mark.parametrize("of", KINDS)
def test_fgm_moves_each_row_by_epsilon_up_the_loss(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "fgm", {"epsilon": 0.02})
    loop, batch, outputs = begun(hook, model, at)
    by = hook.move(loop, batch, outputs)
    torch.testing.assert_close(row_norms(by), torch.full((len(by),), 0.02))
    assert not by[batch["attention_mask"] == 0].any()
    moved = hook.moved(loop, batch, by)
    assert (row_losses(at, moved, batch) > row_losses(at, outputs, batch)).all()
    term = hook.loss(loop, batch, outputs)
    torch.testing.assert_close(term.detach(), row_losses(at, moved, batch).mean())


def test_fgm_moves_along_the_gradient_in_the_token_vectors(kind: Kind) -> None:
    at, model = kind("bert")
    without_dropout(model)
    hook = make("regularizers", "fgm", {"epsilon": 1.0})
    loop, batch, outputs = begun(hook, model, at)
    by = hook.move(loop, batch, outputs)
    vectors = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    inputs = {key: value for key, value in at.task.model_inputs(batch).items() if key != "input_ids"}
    loss = at.task.loss(model(inputs_embeds=vectors, **inputs), batch)
    (gradient,) = torch.autograd.grad(loss, vectors)
    torch.testing.assert_close(cosine_similarity(by.flatten(1), gradient.flatten(1)), torch.ones(len(by)))


def test_all_passes_of_a_micro_batch_are_under_the_same_dropout(kind: Kind) -> None:
    """With next to no move, the second pass gives the first one's predictions."""
    at, model = kind("bert")
    assert any(m.p > 0 for m in model.modules() if isinstance(m, nn.Dropout))
    hook = make("regularizers", "fgm", {"epsilon": 1e-7})
    loop, batch, outputs = begun(hook, model, at)
    again = hook.moved(loop, batch, hook.move(loop, batch, outputs))
    torch.testing.assert_close(again.logits, outputs.logits)
    assert not torch.allclose(loop.forward(batch).logits, outputs.logits)


@pytest.mark.parametrize("of", FEW)
def test_pgd_stays_in_the_ball_and_climbs(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "pgd", {"epsilon": 0.05, "step_size": 0.02, "steps": 5})
    loop, batch, outputs = begun(hook, model, at)
    moves = spied(hook)
    term = hook.loss(loop, batch, outputs)
    assert len(moves) == 6  # five to climb from, and the place that is learnt
    assert all((row_norms(by) <= 0.05 * (1 + 1e-5)).all() for by in moves)
    assert (row_norms(moves[0]) > 0).all()
    first, last = (row_losses(at, hook.moved(loop, batch, by), batch) for by in (moves[0], moves[-1]))
    assert (last > first).all()
    torch.testing.assert_close(term.detach(), last.mean())


def test_random_starts_differ_between_steps_rows_and_seeds(kind: Kind) -> None:
    at, model = kind("bert")
    hook = make("regularizers", "pgd")
    loop, batch, _ = begun(hook, model, at)
    first = hook.start_in_ball(loop, batch, 1.0)
    assert torch.equal(first, hook.start_in_ball(loop, batch, 1.0))
    assert not torch.equal(first[0, :3], first[1, :3])
    loop.position.step = 1
    second = hook.start_in_ball(loop, batch, 1.0)
    assert not torch.equal(first, second)
    loop.position.step, loop.seed = 0, 1
    assert not torch.equal(first, hook.start_in_ball(loop, batch, 1.0))


@pytest.mark.parametrize("of", FEW)
def test_freelb_learns_every_point_of_its_climb(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "freelb", {"epsilon": 0.05, "step_size": 0.02, "steps": 4, "strength": 2.0})
    loop, batch, outputs = begun(hook, model, at)
    spy = spied(hook)
    term = hook.loss(loop, batch, outputs)
    moves = tuple(spy)
    assert len(moves) == 4
    assert all((row_norms(by) <= 0.05 * (1 + 1e-5)).all() for by in moves)
    steps = [row_norms(after - before) for before, after in pairwise(moves)]
    assert all((step <= 0.02 * (1 + 1e-5)).all() and (step > 0).all() for step in steps)
    losses = [row_losses(at, hook.moved(loop, batch, by), batch) for by in moves]
    assert losses[-1].sum() > losses[0].sum()
    torch.testing.assert_close(term.detach(), 2.0 * torch.stack(losses).mean())


def test_freelb_needs_two_points() -> None:
    with pytest.raises(ValidationError, match="steps"):
        make("regularizers", "freelb", {"steps": 1})


# --- SMART ---


@pytest.mark.parametrize("of", ["bert", "llama", "gpt2"])
def test_smart_asks_nothing_of_a_model_that_always_says_the_same(of: str, kind: Kind) -> None:
    at, model = kind(of)
    head = model.classifier if of == "bert" else model.score
    nn.init.zeros_(head.weight)
    hook = make("regularizers", "smart")
    loop, batch, outputs = begun(hook, model, at)
    term = hook.loss(loop, batch, outputs)
    assert term.item() == 0
    term.backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("of", FEW)
def test_smart_is_the_symmetric_divergence_at_a_bad_place_nearby(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    settings = {"epsilon": 0.01, "step_size": 0.01, "start": 1e-3, "steps": 2, "strength": 3.0}
    hook = make("regularizers", "smart", settings)
    loop, batch, outputs = begun(hook, model, at)
    moves = spied(hook)
    term = hook.loss(loop, batch, outputs)
    start, *_, by = moves
    assert by.abs().max() <= 0.01
    assert not by[batch["attention_mask"] == 0].any()

    def divergences(move: torch.Tensor) -> torch.Tensor:
        p, q = (x.logits.detach().softmax(-1) for x in (outputs, hook.moved(loop, batch, move)))
        return (p * (p / q).log() + q * (q / p).log()).sum(-1)

    torch.testing.assert_close(term.detach(), 3.0 * divergences(by).mean(), rtol=1e-2, atol=1e-9)
    backwards = start * by.abs().amax((1, 2), keepdim=True) / start.abs().amax((1, 2), keepdim=True)
    assert divergences(by).mean() > divergences(backwards).mean()


def test_smart_refuses_a_bound_that_no_step_reaches() -> None:
    words = "epsilon 0.5 has no effect where 2 steps of step_size 0.1 end before it; lower it, or raise step_size"
    with pytest.raises(ValidationError, match=words):
        make("regularizers", "smart", {"epsilon": 0.5, "step_size": 0.1, "steps": 2})


# --- NEFTune ---


@pytest.mark.parametrize("of", KINDS)
def test_neftune_moves_tokens_in_training_and_nothing_else(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    seen: list[torch.Tensor] = []
    table = parts.unwrap(model).get_input_embeddings()
    hook = make("regularizers", "neftune", {"alpha": 5.0})
    loop, batch, outputs = begun(hook, model, at)
    table.register_forward_hook(lambda module, args, vectors: seen.append(vectors.detach()))
    again = loop.forward(batch)
    assert torch.equal(again.logits, outputs.logits), "one row, one step, one noise"
    plain = nn.functional.embedding(batch["input_ids"], table.weight)
    noise = (seen[0] - plain).detach()
    mask = batch["attention_mask"].bool()
    assert not noise[~mask].any()
    for row, real in zip(noise, mask, strict=True):
        most = 5.0 / (int(real.sum()) * row.shape[-1]) ** 0.5
        assert 0.8 * most < row.abs().max() <= most * (1 + 1e-4)
        assert row[real].norm() == pytest.approx(5.0 / 3**0.5, rel=0.3)
    model.eval()
    loop.forward(batch)
    assert torch.equal(seen[-1], plain)
    model.train()
    loop.position.step = 1
    loop.forward(batch)
    assert not torch.equal(seen[-1], seen[0])
    hook.finish(loop)
    loop.forward(batch)
    assert torch.equal(seen[-1], plain)


def test_neftune_gives_a_row_its_noise_whoever_stands_beside_it(kind: Kind) -> None:
    at, model = kind("llama")
    together = begun(make("regularizers", "neftune"), model, at)[2].logits
    for i in (0, 5, 8):
        alone = begun(make("regularizers", "neftune"), kind("llama")[1], at, [i])[2].logits
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


# --- what the head reads ---


def read_by_head(of: str, model: Any, batch: Any) -> torch.Tensor:
    """Return (rows, hidden): written out for each kind of head, beside the way it is found."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    below = parts.backbone(model)(**inputs)
    if of.startswith("bert") and "mean" not in of:
        return below.pooler_output
    how = "mean" if "mean" in of else "cls" if of == "roberta" else "last"
    return parts.pool(below.last_hidden_state, batch["attention_mask"], how)


@pytest.mark.parametrize("of", HEADS)
def test_supervised_contrastive_is_its_formula(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "supervised_contrastive", {"strength": 2.0, "temperature": 0.5})
    loop, batch, outputs = begun(hook, model, at)
    term = hook.loss(loop, batch, outputs)
    z = read_by_head(of, model, batch).detach().double()
    z, labels, total = z / z.norm(dim=1, keepdim=True), batch["labels"].tolist(), 0.0
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        below = sum((z[i] @ z[k] / 0.5).exp() for k in others)
        same = [j for j in others if labels[j] == labels[i]]
        total -= sum(((z[i] @ z[j] / 0.5).exp() / below).log() for j in same) / len(same)
    torch.testing.assert_close(term.item(), 2.0 * float(total) / len(z), rtol=1e-4, atol=1e-6)


def test_supervised_contrastive_leaves_a_row_without_company_alone(kind: Kind) -> None:
    at, model = kind("bert")
    labels = at.batch()["labels"].tolist()
    pair = [labels.index(0), labels.index(1)]
    hook = make("regularizers", "supervised_contrastive")
    loop, batch, outputs = begun(hook, model, at, pair)
    term = hook.loss(loop, batch, outputs)
    assert term.item() == 0
    term.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def partners_of(rows: int) -> torch.Tensor:
    return torch.arange(rows).roll(1)


@pytest.mark.parametrize("of", HEADS)
def test_mixup_of_representations_is_its_formula(of: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "mixup", {"strength": 2.0})
    loop, batch, outputs = begun(hook, model, at)
    j = partners_of(len(batch["labels"]))
    hook.draw = lambda loop, batch: (0.7, j)
    term = hook.loss(loop, batch, outputs)
    h, inner = read_by_head(of, model, batch).detach(), parts.unwrap(model)
    head = inner.score if hasattr(inner, "score") else inner.classifier
    mixed = 0.7 * h + 0.3 * h[j]
    logits = head(mixed[:, None] if of == "roberta" else mixed)  # RoBERTa's takes tokens and reads the first
    wanted = 0.7 * cross_entropy(logits, batch["labels"]) + 0.3 * cross_entropy(logits, batch["labels"][j])
    torch.testing.assert_close(term, 2.0 * wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at_", ["representation", "tokens"])
@pytest.mark.parametrize("of", FEW)
def test_mixup_without_mixing_is_the_plain_loss(of: str, at_: str, kind: Kind) -> None:
    at, model = kind(of)
    without_dropout(model)
    hook = make("regularizers", "mixup", {"at": at_})
    loop, batch, outputs = begun(hook, model, at)
    rows = len(batch["labels"])
    plain = at.task.loss(outputs, batch) / rows
    hook.draw = lambda loop, batch: (1.0, partners_of(rows))
    torch.testing.assert_close(hook.loss(loop, batch, outputs), plain)
    hook.draw = lambda loop, batch: (0.4, torch.arange(rows))
    torch.testing.assert_close(hook.loss(loop, batch, outputs), plain)
    hook.draw = lambda loop, batch: (0.4, partners_of(rows))
    assert not torch.allclose(hook.loss(loop, batch, outputs), plain)


def test_mixup_of_tokens_mixes_as_far_as_both_rows_go(kind: Kind) -> None:
    at, model = kind("bert")
    without_dropout(model)
    hook = make("regularizers", "mixup", {"at": "tokens"})
    loop, batch, outputs = begun(hook, model, at)
    j = partners_of(len(batch["labels"]))
    hook.draw = lambda loop, batch: (0.6, j)
    term = hook.loss(loop, batch, outputs)
    vectors, lengths = model.get_input_embeddings()(batch["input_ids"]), batch["attention_mask"].sum(1)
    mixed = vectors.clone()
    for i, other in enumerate(j.tolist()):
        both = int(min(lengths[i], lengths[other]))
        mixed[i, :both] = 0.6 * vectors[i, :both] + 0.4 * vectors[other, :both]
    assert len(set(lengths.tolist())) > 1
    inputs = {key: value for key, value in at.task.model_inputs(batch).items() if key != "input_ids"}
    logits = model(inputs_embeds=mixed, **inputs).logits
    wanted = 0.6 * cross_entropy(logits, batch["labels"]) + 0.4 * cross_entropy(logits, batch["labels"][j])
    torch.testing.assert_close(term, wanted)


def test_mixup_draws_a_share_and_partners_for_each_step(kind: Kind) -> None:
    at, model = kind("bert")
    even, uneven = (make("regularizers", "mixup", {"alpha": alpha}) for alpha in (1000.0, 0.01))
    loop, batch, _ = begun(even, model, at)
    uneven.name = even.name = "mixup"
    share, partners = even.draw(loop, batch)
    assert share == pytest.approx(0.5, abs=0.05)
    assert sorted(partners.tolist()) == list(range(9))
    assert torch.equal(partners, even.draw(loop, batch)[1])
    share, _ = uneven.draw(loop, batch)
    assert min(share, 1 - share) < 0.01
    loop.position.step = 1
    assert not torch.equal(partners, even.draw(loop, batch)[1])


def test_mixup_of_representations_does_not_run_the_backbone_again(kind: Kind) -> None:
    at, model = kind("bert")
    hook = make("regularizers", "mixup")
    loop, batch, outputs = begun(hook, model, at)
    runs: list[int] = []
    parts.layers(model)[0].register_forward_hook(lambda *_: runs.append(1))
    hook.loss(loop, batch, outputs)
    assert not runs
    loop.forward(batch)
    assert runs == [1]
