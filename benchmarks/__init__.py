"""Side by side with peers, ratios in one run."""

import analysis as analysis  # before torch: analysis.waiting
