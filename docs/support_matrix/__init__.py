"""What works with what, tried: `python docs/support_matrix` writes docs/support.md."""
