"""The playground: a prompt through a model as it is and with something taken away, side by side. All of it stands in the address."""
