"""The rewards of published systems, as their released code computes them, to the last digit."""
