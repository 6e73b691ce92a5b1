"""Where descriptions of faces and voices come from."""
