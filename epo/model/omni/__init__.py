"""A family that hears and sees by itself: the thinker of Qwen2.5-Omni."""
