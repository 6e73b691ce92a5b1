"""Sound and pictures of media files as arrays, by time stamps and within limits."""
