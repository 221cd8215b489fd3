"""The browser of SAEs and their latents: which SAE, what it is worth, all latents, and the page of one. Everything shown was stored."""
