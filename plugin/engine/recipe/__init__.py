"""The recipe of a training: its settings by group, and what can be chosen in each. Needs no torch."""
