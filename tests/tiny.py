"""Tiny random models for tests: two layers, 32 wide, a vocabulary of about 200, made here, no downloads.

``make(family, folder)`` writes config, safetensors and tokenizer and returns the
folder. The vocabulary has English words and letters and Chinese characters, so
both languages are read without unknown tokens; a character that is not in
`CHINESE` is unknown, as in a real English-only vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FAMILIES = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "albert", "llama", "gpt2")
DECODERS = ("llama", "gpt2")

_ENGLISH = """
the a an is was are be it i you we they this that not no yes and or but very so too my your our of in on at to
for with from room rooms hotel service staff food film movie book price card bank account money transfer order
phone battery screen good great nice clean fast cheap love like best bad poor dirty slow broken hate worst late
never again when where how why what can cannot please help lost arrived lovely really quite
"""
WORDS = tuple(_ENGLISH.split())
CHINESE = (
    "房间很干净脏服务好差快慢的不是了我你他喜欢讨厌电影书店价格便宜贵屏幕池酒吃早餐员态度非常太糟糕推荐问怎么办卡钱"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-，。！？"
LENGTH = 64


def make(family: str, folder: Path, *, labels: int | None = None, seed: int = 0) -> Path:
    """Write a tiny random model of `family` into `folder` and return `folder`.

    Parameters
    ----------
    family
        One of `FAMILIES`.
    folder
        Made if it is not there.
    labels
        With a classification head of so many labels; None writes the bare encoder.
    seed
        Of the weights; the process's random state is left as it was.
    """
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _byte_pairs(family) if family in ("roberta", "gpt2", "llama") else _word_pieces()
    config = _CONFIGS[family](len(tokenizer))
    if labels:
        config.num_labels = labels
    kind = AutoModelForSequenceClassification if labels else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config)
    _save_quietly(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def _save_quietly(model: Any, folder: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


def _word_pieces() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*special, *WORDS, *CHINESE, *LETTERS, *(f"##{letter}" for letter in LETTERS[:26])])
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _byte_pairs(family: str) -> Any:
    """Bytes and the merges of a few sentences. Decoders get no padding token, as many have none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if family == "roberta" else ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), CHINESE], trainer)
    if family == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        extra = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "cls_token": "<s>"}
        extra["sep_token"] = "</s>"
    else:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        extra = {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LENGTH, bos_token="<s>", eos_token="</s>", **extra
    )


_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LENGTH,
}


def _config(name: str, **settings: Any) -> Callable[[int], Any]:
    def build(vocabulary: int) -> Any:
        import transformers

        return getattr(transformers, name)(vocab_size=vocabulary, **settings)

    return build


_CONFIGS: dict[str, Callable[[int], Any]] = {
    "bert": _config("BertConfig", **_SIZE),
    "distilbert": _config(
        "DistilBertConfig", dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=LENGTH
    ),
    "roberta": _config(
        "RobertaConfig",
        **{**_SIZE, "max_position_embeddings": LENGTH + 2},
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    ),
    "deberta-v2": _config(
        "DebertaV2Config",
        **_SIZE,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        pad_token_id=0,
    ),
    "modernbert": _config(
        "ModernBertConfig",
        **_SIZE,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        classifier_pooling="mean",
    ),
    "albert": _config("AlbertConfig", **_SIZE, embedding_size=16, pad_token_id=0),
    "llama": _config("LlamaConfig", **_SIZE, num_key_value_heads=2, bos_token_id=0, eos_token_id=1),
    "gpt2": _config(
        "GPT2Config", n_embd=32, n_layer=2, n_head=4, n_inner=64, n_positions=LENGTH, bos_token_id=0, eos_token_id=1
    ),
}
