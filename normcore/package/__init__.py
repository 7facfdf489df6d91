"""What the package is: its version and public names, and whether its source tree is built."""
