"""What the data consist of: tables and figures of sources, benchmarks, dropped rows and tokens."""
