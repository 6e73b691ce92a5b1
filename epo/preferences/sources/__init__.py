"""The sources of rejected replies, one a module; each offers `SOURCE`."""
