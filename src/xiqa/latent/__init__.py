"""Latent spaces: autoencoders whose few codes are asked which factors of an image they stand for."""
