"""How batches flow: read ahead, written behind, and kept, within a limit on memory."""
