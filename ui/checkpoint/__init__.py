"""The page of one model: how it is named (`place`), what its files hold (`contents`), and what can be asked of it (`questions`)."""
