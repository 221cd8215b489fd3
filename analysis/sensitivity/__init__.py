"""How much can go before the model notices, and where."""
