"""Questions about weights alone."""
