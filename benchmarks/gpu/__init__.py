"""The parts of `make gpu-check` on a machine with an NVIDIA GPU: build, tests, sanitizers, tuning and benchmark."""
