"""A page on which a curious person talks to a model: served to this machine's own browser alone."""
