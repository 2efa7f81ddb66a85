"""Models that a server runs, such as vLLM on several GPUs, llama.cpp, or a hosted model."""
