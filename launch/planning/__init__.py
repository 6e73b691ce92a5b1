"""What the stages of a pipeline will have, before the first one starts."""
