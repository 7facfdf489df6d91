"""What takes a GPU: conformance, agreement, sanitizers and the table; see docs/gpu.md."""
