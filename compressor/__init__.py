"""MambaCompressor: dialogue histories become a few memory tokens; text only, and nothing of `epo` is needed."""
