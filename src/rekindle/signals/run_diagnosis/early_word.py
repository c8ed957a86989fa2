"""An early word when the signal of a run goes out, with a rate of false alarms that holds for ever.

S_t is the share of a step's groups that carry signal (mixed ones). The null: whatever happened
before, at least p0 of the next step's groups are expected to carry it,

    E[S_t | all steps before t] >= p0   for every t.

A bet against it multiplies its wealth by 1 + L_t (p0 - S_t), 0 <= L_t <= 0.95 / (1 - p0), with L_t
fixed before step t. Under the null no bet wins on average: the wealth e_t, from 1, is a nonnegative
supermartingale, and by Ville's inequality it ever reaches 1 / alpha with probability at most alpha,
over any number of steps, looked at after each one (Waudby-Smith and Ramdas 2024, "Estimating means
of bounded random variables by betting"; Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference").

What is assumed, and what is not. Steps may depend on each other in any way, and so may the groups
of one step: 64 dead groups of one step are no more evidence than 4, since a batch may have been
hard as a whole. A bet on each group would be quicker, and where a step is dead or alive as a whole
it is false in 86 % of runs instead of 1 %. So a signal that is gone altogether is told after 21
steps at the very least, in simulations after 26 to 34, however many groups a step has. A step
without a verdict is no bet. What breaks the null without a loss of signal is told too: a curriculum
that plans steps of which fewer than p0 are expected to be mixed, say.

The bet is that of the reference above (approximate growth rate), with a mean and a variance that
forget: L_t = (p0 - m) / (v + (p0 - m)^2), where m and v are averages over about the last seven
steps, and 0 where m >= p0. While there is signal nothing is bet, nothing is lost, and a run of a
thousand good steps is told of its end as soon as one of fifty. So no restart is needed, and no
average run length has to stand in for a probability, as it must with detectors that restart at each
step (Shin, Ramdas and Rinaldo 2023, "E-detectors").

After a word the mirror image is bet, against "at most p0 carry signal", and where that reaches
1 / alpha the signal is back and the first bet starts anew at 1. Each word by itself is wrong with
probability at most alpha. `benchmarks/early_word.py` simulates both, `results/early_word.json` has
the rates.
"""

from __future__ import annotations

import math
from typing import Literal

from rekindle.errors import ConfigError

FLOOR = 0.2  # p0
ALPHA = 0.01
DECAY = 0.85  # of the mean and the variance, a step
MOST_STAKED = 0.95  # of the wealth
LARGEST = 1e300  # of an e-value: what JSON can write
Turn = Literal["out", "back"]


class Evidence:
    """An e-process against "the mean of what comes next is at least `floor`", values of 0 to 1.

    Attributes:
        value: the e-value so far; 1 says nothing, 100 that the null is wrong or 1 in 100 happened.
    """

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.value = 1.0
        self.mean = (1 + floor) / 2
        self.variance = floor * (1 - floor)

    def add(self, share: float) -> float:
        """Settle the bet on the next value and return the e-value."""
        short = self.floor - self.mean
        bet = max(0.0, short / (self.variance + short * short))
        bet = min(bet, MOST_STAKED / (1 - self.floor))
        self.value = min(self.value * (1 + bet * (self.floor - share)), LARGEST)
        off = share - self.mean
        self.variance = DECAY * self.variance + (1 - DECAY) * off * off
        self.mean += (1 - DECAY) * off
        return self.value


class Spell:
    """Since when a series has been above 0, as it looks: where its largest sum up to now starts.

    Attributes:
        start: the first step of the spell; None: there is none.
    """

    def __init__(self) -> None:
        self.start: int | None = None
        self._sum = 0.0

    def add(self, step: int, excess: float) -> None:
        """Take the next value in."""
        self._sum = max(0.0, self._sum + excess)
        if self._sum == 0:
            self.start = None
        elif self.start is None:
            self.start = step


class EarlyWord:
    """Whether the signal is out, from one share of mixed groups a step.

    Attributes:
        is_out: the last word was that it went out.
        below: the present spell of steps below `floor`, since the start or since the signal came
            back. Where it starts is no test.
        above: that of steps above it, since the signal went out.

    Args:
        floor: p0, the share of a step's groups below which a signal is going out.
        alpha: the probability of a false word.

    Raises:
        ConfigError: one of them is not inside 0 and 1.
    """

    def __init__(self, floor: float = FLOOR, alpha: float = ALPHA) -> None:
        for name, value in (("p0", floor), ("alpha", alpha)):
            if not 0 < value < 1:
                raise ConfigError(
                    f"{name} is no share",
                    got=value,
                    wanted="a number above 0 and below 1",
                    why="p0 is a share of the groups, alpha the probability of a false word",
                    fix=f"{name}={FLOOR if name == 'p0' else ALPHA} is the default",
                )
        self.floor, self.limit = floor, 1 / alpha
        self.is_out = False
        self.below, self.above = Spell(), Spell()
        self._lost = Evidence(floor)
        self._back = Evidence(1 - floor)

    @property
    def e_value(self) -> float:
        """Against "at least p0 carry signal", since the start or since the signal came back."""
        return self._lost.value

    def observe(self, step: int, share: float) -> Turn | None:
        """Take the next step's share in; nan, no group with a verdict, is no evidence.

        Returns:
            "out" or "back" where this step turns it, else None.
        """
        if math.isnan(share):
            return None
        self._lost.add(share)
        self.below.add(step, self.floor - share)
        self.above.add(step, share - self.floor)
        if not self.is_out and self._lost.value >= self.limit:
            self.is_out, self._back, self.above = True, Evidence(1 - self.floor), Spell()
            return "out"
        if self.is_out and self._back.add(1 - share) >= self.limit:
            self.is_out, self._lost, self.below = False, Evidence(self.floor), Spell()
            return "back"
        return None
