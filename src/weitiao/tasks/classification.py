"""One label a row, from one text or a pair of texts.

The loss is the cross-entropy of the softmax over classes, for a row with logits z and class y

    -w_y * log(exp(z_y) / sum_k exp(z_k))

with weight w_y = 1 unless `class_weights` is set, or the focal loss, which turns down rows that are
already right:

    -w_y * (1 - p_y)^gamma * log p_y

Logit adjustment trains on z + tau * log pi in the place of z, pi the share of each class in the training rows, and
predicts from z: what is then best is the mean of the classes' accuracies, not the accuracy. The p_y of the focal loss
is that of the adjusted logits.

Source: Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108; Lin et al., Focal Loss
for Dense Object Detection, 2017, arXiv:1708.02002; balanced weights: King and Zeng, Logistic Regression
in Rare Events Data, 2001; logit adjustment: Menon et al., Long-tail Learning via Logit Adjustment, 2020,
arXiv:2007.07314, equation 10.
Differs: a class that is listed and has no training row counts as one row in pi.
"""

from __future__ import annotations

from typing import Any

from weitiao.tasks._prompt_classifier import PromptClassifier

__all__ = ["Classification"]


class Classification(PromptClassifier):
    """Assign one of a fixed set of labels to a text, or to a pair of texts."""

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return nine rows of two classes."""
        good = ["good book", "very nice", "i like it", "房间很干净"]
        bad = ["bad book", "very poor", "i hate it", "服务太差", "糟糕"]
        rows = [{"text": t, "label": "positive"} for t in good] + [{"text": t, "label": "negative"} for t in bad]
        variants = [
            {"loss": "focal"},
            {"loss": "focal", "gamma": 0.5},
            {"class_weights": "balanced"},
            {"class_weights": {"positive": 3.0}},
            {"logit_adjustment": 1.0},
            {"logit_adjustment": 2.0, "loss": "focal"},
            {"labels": ["positive", "negative"]},
            {"prompt": {"verbalizer": {"positive": "good", "negative": "bad"}}},
        ]
        return {"rows": rows, "settings": {}, "variants": variants, "family": "bert_lm"}
