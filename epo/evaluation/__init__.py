"""Evaluation: contestants answer, suites score their replies, and a report shows both."""
