"""What a stage will find on this machine, told on one screen before it starts; nothing is made or read into memory."""
