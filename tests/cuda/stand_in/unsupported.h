// A function that must be found but cannot be called.
#pragma once

#define UNSUPPORTED(function) \
  extern "C" int function() { return 801; /* cudaErrorNotSupported, CUDA_ERROR_NOT_SUPPORTED */ }
