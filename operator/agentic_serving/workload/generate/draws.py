"""Drawing sizes and times from published moments."""

from math import exp, log, sqrt
from random import Random

__all__ = ["lognormal", "lognormal_from_quantile", "many"]


def lognormal(random: Random, mean: float, deviation: float) -> float:
    """A value of the lognormal distribution with this mean and standard deviation; the mean itself without one."""
    if deviation == 0:
        return mean
    spread = log(1 + (deviation / mean) ** 2)
    return exp(random.gauss(log(mean) - spread / 2, sqrt(spread)))


def lognormal_from_quantile(random: Random, median: float, value: float, z: float) -> float:
    """A value of the lognormal distribution whose quantile `z` standard deviations above the median is `value`."""
    return median * exp(random.gauss(0.0, log(value / median) / z))


def many(random: Random, mean: float, deviation: float, *, least: int = 1) -> int:
    """A whole number, at least `least`."""
    return max(least, round(lognormal(random, mean, deviation)))
