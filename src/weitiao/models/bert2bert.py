"""An encoder-decoder made of an encoder that is taken twice, for where no pretrained one is at hand.

Both halves begin with the encoder's weights; the attention from the writing half to the reading one is new, so all
weights have to be trained (method full), on many rows.

Source: Rothe et al., Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, 2020, arXiv:1907.12461.
"""

from __future__ import annotations

from pathlib import Path

from weitiao.errors import ModelError
from weitiao.files import whole_folder
from weitiao.models.find import find
from weitiao.models.gguf import plain_folder
from weitiao.models.load import load_tokenizer
from weitiao.models.quiet import quiet
from weitiao.randomness import torch_seed

__all__ = ["make_bert2bert"]


def make_bert2bert(name: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Write a checkpoint whose reading and whose writing half is the encoder called `name`, and return its folder.

    Parameters
    ----------
    folder
        Must not exist; then names a model in a recipe.
    seed
        Decides the weights between the halves.

    Raises
    ------
    ModelError
        The model is no encoder that can also write, or the folder exists.
    """
    from transformers import EncoderDecoderModel

    target, pretrained = Path(folder), find(name)
    if target.exists():
        raise ModelError("exists already.", where=target, fix="Choose another folder.")
    if pretrained.is_decoder:
        raise ModelError(f"{name} is a decoder: it writes by itself.", fix="Name it in the recipe as it is.")
    tokenizer, source = load_tokenizer(pretrained), str(plain_folder(pretrained))
    try:
        with quiet(), torch_seed(seed, "weights"):
            model = EncoderDecoderModel.from_encoder_decoder_pretrained(
                source, source, encoder_use_safetensors=True, decoder_use_safetensors=True
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name} cannot be made to write: {str(error).partition(chr(10))[0]}") from error
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.cls_token_id
        settings.eos_token_id = tokenizer.sep_token_id
        settings.pad_token_id = tokenizer.pad_token_id
    with whole_folder(target) as aside, quiet():
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    return target
