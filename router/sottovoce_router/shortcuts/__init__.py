"""System-1.5 (arXiv 2505.18962) as served: the student's weights, depth and step shortcuts."""
