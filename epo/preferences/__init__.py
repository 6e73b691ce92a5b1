"""Preference pairs: rejected replies, what is measured of them, and whether they are fair."""
