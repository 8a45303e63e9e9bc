"""Pretrained models: found, opened, and seen into."""

__all__ = ["STATES"]

# What a batch calls the states that stand for the frozen layers of a model, ``(rows, length, hidden)``.
STATES = "frozen_states"
