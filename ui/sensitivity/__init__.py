"""How much can go before the model notices: curves of one or several runs, where the removed weights sit, what a level costs."""
