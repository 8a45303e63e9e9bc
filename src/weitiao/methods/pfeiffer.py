"""A bottleneck after feed-forward in every layer, none after attention; they and the head train.

Half the weights of one after every sublayer, at about the same quality. The output x of the sublayer becomes
x + up(activation(down(x))) before it is added to what went in; the up-projection starts at zero.

Source: Pfeiffer et al., AdapterFusion: Non-Destructive Task Composition for Transfer Learning, 2020, arXiv:2005.00247;
Pfeiffer et al., AdapterHub: A Framework for Adapting Transformers, 2020, arXiv:2007.07779.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from weitiao.methods._bottleneck import Bottlenecks

__all__ = ["Pfeiffer"]


class Pfeiffer(Bottlenecks):
    """Bottlenecks after the feed-forward sublayers, and the head."""

    after: ClassVar[tuple[Literal["attention", "feed_forward"], ...]] = ("feed_forward",)
