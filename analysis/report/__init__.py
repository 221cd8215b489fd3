"""One model in one file: what its sealed runs say, with figures, limits and where every number comes from."""

from analysis.report.gathering import Answer as Answer
from analysis.report.gathering import Report as Report
from analysis.report.gathering import gather as gather
from analysis.report.gathering import runs_of as runs_of
from analysis.report.gathering import shown_figure as shown_figure
