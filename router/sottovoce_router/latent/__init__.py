"""Latent steps: inputs that are vectors of the model's own. Coconut, CODI and ATP-Latent as served.

`shortcuts` takes its latent steps by the same loop.
"""
