"""System-1.5 (arXiv 2505.18962): latent steps, and layers that are skipped where little is to think."""
