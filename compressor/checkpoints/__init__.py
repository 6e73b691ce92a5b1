"""What a training run keeps of itself: whole or not at all, without pickle, and for any number of ranks."""
