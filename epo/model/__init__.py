"""Models that read prompts with memories and clips: what one is, loading, joining and generating."""
