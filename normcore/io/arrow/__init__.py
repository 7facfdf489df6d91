"""What pyarrow reads and writes: Parquet, Arrow IPC, ORC, datasets and streams."""
