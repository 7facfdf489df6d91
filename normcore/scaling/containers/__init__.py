"""Tables that are no one array: sparse matrices, frames, lazy frames, bfloat16."""
