"""Pictures of a run. Goes in: logs, windows and scenes. Comes out: plots on the caller's axes."""

from rankreward.report.plots import contact_sheet, plot_curves, plot_ecdf

__all__ = ["contact_sheet", "plot_curves", "plot_ecdf"]
