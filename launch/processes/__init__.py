"""The processes of a stage: how they start, talk and end, and what they may say."""
