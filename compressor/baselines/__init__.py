"""Baselines of the MambaCompressor: as many vectors a turn for the language model, made otherwise; one a file."""
