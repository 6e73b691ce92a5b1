"""A transport plan that gives rejected emotions the marginal distribution of the chosen ones.

Without it a model learns "angry is never the good answer" from the words alone and never needs the clip.
Rows G are groups of replies that share their forbidden emotions, columns E are rejected emotions. All
matrices here are those of a transport network, so the linear programs have whole-numbered vertices.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_PORTIONS = 40  # beyond 40 quarters of its wanted total, a column's surplus is no longer dealt in proportion


def plan_marginals(weights_GE: Floats, counts_G: Counts, wanted_E: Counts) -> Counts:
    """Say how many replies of each group get each rejected emotion.

    Args:
        weights_GE: how much each cell is wanted, relative to the others; 0 forbids it.
        counts_G: replies in each group; kept exactly.
        wanted_E: total wanted of each rejected emotion; kept exactly where the forbidden cells allow it, and
            otherwise approached as near as possible in total variation.

    Returns:
        int64 (G, E) with row sums `counts_G`, and 0 wherever the weight is 0.

    Raises:
        ValueError: totals differ, or a group has no allowed emotion.
    """
    if counts_G.sum() != wanted_E.sum():
        raise ValueError(f"{counts_G.sum()} replies cannot be given {wanted_E.sum()} rejected emotions")
    if (weights_GE < 0).any() or not (weights_GE > 0).any(axis=1).all():
        raise ValueError("want weights >= 0 and at least one above 0 for every group")
    totals_E = _nearest_totals(weights_GE > 0, counts_G, wanted_E)
    plan_GE = fit_proportions(weights_GE, counts_G, totals_E)
    return _round_plan(plan_GE, weights_GE > 0, counts_G, totals_E)


def fit_proportions(weights_GE: Floats, rows_G: Counts, columns_E: Counts, steps: int = 500) -> Floats:
    """Scale rows and columns in turn until the table has the wanted totals.

    The result is the table with these totals that is nearest to the weights in relative entropy, so no choice
    is more certain than the totals demand.

    Returns:
        float64 (G, E); row sums are exact, column sums as near as `steps` rounds bring them.

    Source: iterative proportional fitting, Deming and Stephan 1940, doi 10.1214/aoms/1177731829.
    """
    table = weights_GE.astype(np.float64)
    for _ in range(steps):
        table = table * _ratio(columns_E, table.sum(axis=0))[None, :]
        sums = table.sum(axis=1)
        table = np.where(sums[:, None] > 0, table, weights_GE)  # a group left with none of its wanted cells
        table = table * _ratio(rows_G, table.sum(axis=1))[:, None]
        if np.abs(table.sum(axis=0) - columns_E).max() < 1e-9 * max(1, rows_G.sum()):
            break
    return table


def total_variation(first_E: Counts, second_E: Counts) -> float:
    """Half the summed difference of two histograms' shares, in [0, 1]; 0 where both are empty.

    Raises:
        ValueError: one histogram is empty and the other is not.
    """
    first, second = first_E.sum(), second_E.sum()
    if first == 0 and second == 0:
        return 0.0
    if first == 0 or second == 0:
        raise ValueError("an empty histogram has no shares to compare")
    return float(np.abs(first_E / first - second_E / second).sum() / 2)


def largest_matched(allowed_GE: NDArray[np.bool_], counts_G: Counts, own_G: Counts) -> Counts:
    """Say how many replies of each group to keep, so that equal marginals are possible and as many as can be stay.

    Args:
        allowed_GE: the cells that may be used.
        counts_G: replies in each group.
        own_G: column of each group's own, chosen emotion.

    Returns:
        int64 (G,), at most `counts_G`.

    The kept replies are a circulation: one unit leaves the emotion that is chosen, passes through the reply's group,
    and enters the emotion that is rejected; no emotion gains or loses. This finds the largest.
    """
    num_groups, num_emotions = allowed_GE.shape
    matrix = _circulation(num_groups, num_emotions, own_G)
    cost = np.concatenate([-np.ones(num_groups), np.zeros(allowed_GE.size)])
    highest = np.concatenate([counts_G.astype(np.float64), np.where(allowed_GE.ravel(), np.inf, 0.0)])
    return _solve(cost, matrix, np.zeros(num_groups + num_emotions, dtype=np.int64), highest)[:num_groups]


def kept_within(allowed_GE: NDArray[np.bool_], counts_G: Counts, own_G: Counts, max_dropped: int) -> Counts:
    """Say how many replies of each group to keep where only so many may be left out.

    Args:
        allowed_GE: the cells that may be used.
        counts_G: replies in each group; every group has an allowed cell.
        own_G: column of each group's own, chosen emotion.
        max_dropped: most replies that may be left out.

    Returns:
        int64 (G,), at most `counts_G`; those of `largest_matched` where they are enough, and otherwise the replies
        whose chosen and rejected emotions can be brought nearest, all but `max_dropped` of them or a few more.

    It is the circulation of `largest_matched` with a way from each emotion to each other that costs its use. The one
    condition on the sum makes a few numbers fractional; these are rounded up.
    """
    matched_G = largest_matched(allowed_GE, counts_G, own_G)
    if counts_G.sum() - matched_G.sum() <= max_dropped:
        return matched_G
    num_groups, num_emotions = allowed_GE.shape
    unbalanced = csr_array(vstack([csr_array((num_groups, num_emotions)), csr_array(np.eye(num_emotions))]))
    flows = hstack([_circulation(num_groups, num_emotions, own_G), unbalanced, -unbalanced])
    size = flows.shape[1]
    kept = csr_array((np.ones(num_groups), (np.zeros(num_groups, dtype=int), np.arange(num_groups))), (1, size))
    cost = np.concatenate([np.zeros(num_groups + allowed_GE.size), np.ones(2 * num_emotions)])
    highest = np.concatenate(
        [
            counts_G.astype(np.float64),
            np.where(allowed_GE.ravel(), np.inf, 0.0),
            np.full(2 * num_emotions, np.inf),
        ]
    )
    totals = np.concatenate([np.zeros(num_groups + num_emotions), [counts_G.sum() - max_dropped]])
    bounds = np.stack([np.zeros_like(highest), highest], axis=1)
    solution = linprog(cost, A_eq=vstack([flows, kept]), b_eq=totals, bounds=bounds, method="highs-ds")
    assert solution.status == 0, solution.message  # keeping every reply is feasible, and so is anything between
    kept_G: Counts = np.ceil(solution.x[:num_groups] - 1e-6).astype(np.int64)
    return kept_G


def _circulation(num_groups: int, num_emotions: int, own_G: Counts) -> csr_array:
    """Return the matrix that takes kept replies and a flattened table to what each group and each emotion lacks."""
    own_EG = (np.arange(num_emotions)[:, None] == own_G[None, :]).astype(np.float64)
    through_groups = hstack([csr_array(-np.eye(num_groups)), _row_sums(num_groups, num_emotions)])
    through_emotions = hstack([csr_array(-own_EG), _column_sums(num_groups, num_emotions)])
    return csr_array(vstack([through_groups, through_emotions]))


def _nearest_totals(allowed_GE: NDArray[np.bool_], rows_G: Counts, wanted_E: Counts) -> Counts:
    """Return the column totals nearest to the wanted ones that some plan on the allowed cells has.

    What a column must take beyond its wanted total is a surplus. It is dealt out in proportion to those totals: each
    further portion of a column's total costs slightly more, too little to make the whole surplus larger.
    """
    num_rows, num_columns = allowed_GE.shape
    slack = csr_array(vstack([csr_array((num_rows, num_columns)), csr_array(np.eye(num_columns))]))
    matrix = csr_array(hstack([_sums(num_rows, num_columns), slack, *[-slack] * _PORTIONS]))
    prices = np.repeat(1 + 1e-3 * np.arange(_PORTIONS), num_columns)
    cost = np.concatenate([np.zeros(allowed_GE.size + num_columns), prices])
    portions_PE = np.tile(np.ceil(wanted_E / 4), (_PORTIONS, 1))
    portions_PE[-1] = np.inf
    highest = np.concatenate(
        [np.where(allowed_GE.ravel(), np.inf, 0.0), np.full(num_columns, np.inf), portions_PE.ravel()]
    )
    cells = _solve(cost, matrix, np.concatenate([rows_G, wanted_E]), highest)
    totals_E: Counts = cells[: allowed_GE.size].reshape(allowed_GE.shape).sum(axis=0)
    return totals_E


def _round_plan(plan_GE: Floats, allowed_GE: NDArray[np.bool_], rows_G: Counts, totals_E: Counts) -> Counts:
    """Return the whole-numbered plan with these totals that is nearest to a real-valued one.

    Each cell is filled in three parts: its whole part for nothing, one unit more for what the fraction lacks, and
    any further unit at a higher price.
    """
    size = plan_GE.size
    whole = np.floor(plan_GE + 1e-9)
    fraction = (plan_GE - whole).ravel()
    sums = _sums(*plan_GE.shape)
    cost = np.concatenate([np.zeros(size), 1.0 - fraction, np.full(size, 2.0)])
    open_cells = allowed_GE.ravel().astype(np.float64)
    highest = np.concatenate([whole.ravel() * open_cells, open_cells, np.where(open_cells > 0, np.inf, 0.0)])
    parts = _solve(cost, csr_array(hstack([sums, sums, sums])), np.concatenate([rows_G, totals_E]), highest)
    whole_GE: Counts = parts.reshape(3, *plan_GE.shape).sum(axis=0)
    return whole_GE


def _solve(cost: Floats, matrix: csr_array, totals: Counts, highest: Floats) -> Counts:
    """Return the whole-numbered vertex that minimises `cost` subject to `matrix @ x == totals`, 0 <= x <= highest."""
    bounds = np.stack([np.zeros_like(highest), highest], axis=1)
    solution = linprog(cost, A_eq=matrix, b_eq=totals, bounds=bounds, method="highs-ds")
    assert solution.status == 0, solution.message  # slack or free cells make every call feasible
    whole = np.rint(solution.x)
    assert np.abs(whole - solution.x).max() < 1e-6, "a vertex of a transport network is whole-numbered"
    solved: Counts = whole.astype(np.int64)
    return solved


def _sums(num_rows: int, num_columns: int) -> csr_array:
    """Return the matrix that takes a flattened table to its row sums, then its column sums."""
    return csr_array(vstack([_row_sums(num_rows, num_columns), _column_sums(num_rows, num_columns)]))


def _row_sums(num_rows: int, num_columns: int) -> csr_array:
    return csr_array(kron(eye_array(num_rows), np.ones((1, num_columns))))


def _column_sums(num_rows: int, num_columns: int) -> csr_array:
    return csr_array(kron(np.ones((1, num_rows)), eye_array(num_columns)))


def _ratio(wanted: Counts, present: Floats) -> Floats:
    return np.divide(wanted, present, out=np.zeros_like(present), where=present > 0)
