"""The table of derivatives for what only arrays have, by subject, and PyTorch's functions over it."""
