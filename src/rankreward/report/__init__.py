"""Pictures of a run. Goes in: logs, windows and scenes. Comes out: plots and pages."""

from rankreward.report.plots import contact_sheet, plot_curves, plot_ecdf
from rankreward.report.run_page import write_run_page
from rankreward.report.run_plots import (
    plot_dead_groups,
    plot_ecdfs,
    plot_entropy,
    plot_failures,
    plot_group_spread,
    plot_length,
    plot_ranks,
    plot_raw,
    plot_reward,
    plot_terms,
    plot_ties,
    plot_variance_shares,
)

__all__ = [
    "contact_sheet",
    "plot_curves",
    "plot_dead_groups",
    "plot_ecdf",
    "plot_ecdfs",
    "plot_entropy",
    "plot_failures",
    "plot_group_spread",
    "plot_length",
    "plot_ranks",
    "plot_raw",
    "plot_reward",
    "plot_terms",
    "plot_ties",
    "plot_variance_shares",
    "write_run_page",
]
