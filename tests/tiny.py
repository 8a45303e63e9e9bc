"""Tiny random models for tests: two layers, 32 wide, a vocabulary of about 200, made here, no downloads.

``make(family, folder)`` writes config, safetensors and tokenizer and returns the
folder; with ``writer=True`` a model that writes. The vocabulary has English words
and letters and Chinese characters, so both languages are read without unknown
tokens; a character that is not in `CHINESE` is unknown, as in a real English-only
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FAMILIES = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "albert", "llama", "gpt2")
DECODERS = ("llama", "gpt2")
WRITERS = ("llama", "gpt2", "qwen2", "gemma3_text")
MASKED = ("bert_lm",)  # an encoder with the heads of its pretraining
ENCODER_DECODERS = ("t5", "bart", "marian", "bert2bert")

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


def make(family: str, folder: Path, *, labels: int | None = None, writer: bool = False, seed: int = 0) -> Path:
    """Write a tiny random model of `family` into `folder` and return `folder`.

    Parameters
    ----------
    family
        One of `FAMILIES`, `MASKED`, `WRITERS` or `ENCODER_DECODERS`.
    folder
        Made if it is not there.
    labels
        With a classification head of so many labels; None writes the bare encoder.
    writer
        With a head that writes, as encoder-decoders have it always.
    seed
        Of the weights; the process's random state is left as it was.
    """
    import torch
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForPreTraining,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _byte_pairs(family) if family in _BYTE_PAIRS else _word_pieces()
    # the tokenizer classes that some families bring add a padding token of their own
    config = _CONFIGS[family](len(tokenizer) + (8 if family in ("qwen2", "gemma3_text") else 0))
    if labels:
        config.num_labels = labels
    writes = AutoModelForSeq2SeqLM if family in ENCODER_DECODERS else AutoModelForCausalLM if writer else AutoModel
    writes = AutoModelForPreTraining if family in MASKED else writes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = (AutoModelForSequenceClassification if labels else writes).from_config(config)
    if writer and family in WRITERS:
        tokenizer.chat_template = _CHAT
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
    with_mask = family in ("roberta", *ENCODER_DECODERS)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if with_mask else ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), CHINESE], trainer)
    if with_mask:
        begins = "" if family in ("t5", "marian") else "<s> "
        tokenizer.post_processor = (
            processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
            if begins
            else processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
        )
        extra = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "cls_token": "<s>"}
        extra["sep_token"] = "</s>"
    else:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        extra = {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LENGTH, bos_token="<s>", eos_token="</s>", **extra
    )


# A turn is "u: text</s>", so that what ends an assistant's turn is the end token.
_CHAT = (
    "{% for message in messages %}{{ message['role'][0] }}: "
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}</s>{% endgeneration %}"
    "{% else %}{{ message['content'] }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}a: {% endif %}"
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


def _bert2bert(vocabulary: int) -> Any:
    from transformers import BertConfig, EncoderDecoderConfig

    reads = BertConfig(vocab_size=vocabulary, **_SIZE)
    writes = BertConfig(vocab_size=vocabulary, is_decoder=True, add_cross_attention=True, **_SIZE)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(reads, writes)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    return config


_BYTE_PAIRS = ("roberta", "llama", "gpt2", "qwen2", "gemma3_text", "t5", "bart", "marian")
_SEQUENCES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_CONFIGS: dict[str, Callable[[int], Any]] = {
    "bert": _config("BertConfig", **_SIZE),
    "bert_lm": _config("BertConfig", **_SIZE),
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
    "qwen2": _config("Qwen2Config", **_SIZE, num_key_value_heads=2, bos_token_id=0, eos_token_id=1),
    "gemma3_text": _config(
        "Gemma3TextConfig",
        **_SIZE,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "t5": _config(
        "T5Config",
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    ),
    "bart": _config("BartConfig", **_SEQUENCES, decoder_start_token_id=2, forced_eos_token_id=2),
    "marian": _config("MarianConfig", **_SEQUENCES, decoder_start_token_id=1, forced_eos_token_id=2),
    "bert2bert": _bert2bert,
}
