"""Models that think in hidden states: CODI, SIM-CoT, Coconut and ATP-Latent, on the tiny reasoner."""
