"""Questions about latents: what sparse autoencoders find in the activations of a model."""
