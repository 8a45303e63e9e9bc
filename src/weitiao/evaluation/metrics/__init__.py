"""Numbers that say how good predictions are; one file is one metric."""
