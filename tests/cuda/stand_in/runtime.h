// Stream capture, for those whose work is no kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace stand_in {

bool capturing(cudaStream_t stream);
void record(cudaStream_t stream,
            std::function<void()> work);  // to be done at every launch of the graph that is being captured

}  // namespace stand_in
