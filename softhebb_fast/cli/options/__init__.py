"""The options of every command. Nothing here imports PyTorch: help comes at once."""
