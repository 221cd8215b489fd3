"""What pages share: the store's handle, charts, tables, provenance, words and links. Nothing here computes a measurement."""
