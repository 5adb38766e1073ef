"""The Wilson score interval: how sure *right* of *total* makes us (Wilson, 1927)."""

import math


def lower_bound(right: int, total: int, z: float = 1.96) -> float:
    """Lower end of the interval for a proportion; 0.0 when nothing was tried.

    *z* is the normal quantile: 1.96 gives the two-sided 95 % interval.
    """
    if not 0 <= right <= total:
        raise ValueError(f"right must lie between 0 and total, not {right} of {total}")
    if total == 0:
        return 0.0
    share = right / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    centre = share + z * z / (2 * total)
    return max(0.0, (centre - spread) / (1 + z * z / total))
