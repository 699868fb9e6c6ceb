"""Ratios paired within a round, their median, and how far to trust it."""
import random, statistics

# Twins whose ratio is further from 1 say that the run tells nothing.
NOISE = 0.05
# The same of a difference, as a part of what it may be.
NOISE_OF_LIMIT = 0.25


def ratios(ours, theirs):
    """Round by round; a round that lacks either figure, or whose peer has none worth dividing by, is left out."""
    return [a / b for a, b in zip(ours, theirs) if a is not None and b is not None and b > 0]


def differences(ours, theirs):
    """The same, of what ours is more."""
    return [a - b for a, b in zip(ours, theirs) if a is not None and b is not None]


def interval(values):
    """The middle 95 % of a bootstrap of the median."""
    draws = sorted(statistics.median(random.choices(values, k=len(values))) for _ in range(4000))
    return draws[100], draws[3899]


def median(values):
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
