// Stream capture, for those whose work is no kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace stand_in {

bool capturing(cudaStream_t stream);
// To be done at every launch of the graph that is being captured.
void record(cudaStream_t stream, std::function<void()> work);

}  // namespace stand_in
