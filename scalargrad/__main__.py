"""`python -m scalargrad` prints what is installed and what is in use."""

from scalargrad.kernels import show_config

if __name__ == "__main__":
    print(show_config())
