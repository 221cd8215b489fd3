"""Figures: one declared spec, two renderers (Plotly on screen, matplotlib on paper), one exporter."""
