"""What recipes may say: keys, values, names, help."""
