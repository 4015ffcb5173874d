"""Latent-trained models (Coconut, CODI, ATP-Latent) as served: one loop, a head a method."""
